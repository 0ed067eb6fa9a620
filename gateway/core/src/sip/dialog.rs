//! Dialog state (RFC 3261 section 12): tags, sequence numbers, route set and remote target.

use super::message::{Headers, Method, NameAddr, Request, Response, find_param};

#[derive(Debug, Clone)]
pub(super) struct Dialog {
    pub(super) call_id: String,
    pub(super) local_tag: String,
    pub(super) remote_tag: String,
    /// Our From or To value, tag included.
    local: String,
    /// The peer's, tag included.
    remote: String,
    /// The peer's Contact URI.
    target: String,
    /// Route values in the order of our requests.
    routes: Vec<String>,
    pub(super) local_cseq: u32,
    remote_cseq: Option<u32>,
    /// User part of our Contact.
    pub(super) contact_user: String,
    /// Whether the peer says that it takes UPDATE.
    pub(super) allows_update: bool,
}

impl Dialog {
    /// The dialog that a response to our INVITE makes (RFC 3261 section 12.1.2).
    pub(super) fn from_response(invite: &Request, response: &Response, contact_user: &str) -> Self {
        let mut routes: Vec<String> = response
            .headers
            .get_all("Record-Route")
            .map(str::to_owned)
            .collect();
        routes.reverse();
        let to = response.headers.get("To").unwrap_or_default();
        Self {
            call_id: invite.headers.call_id().to_owned(),
            local_tag: invite.headers.from_tag().unwrap_or_default().to_owned(),
            remote_tag: find_param(to, "tag").unwrap_or_default().to_owned(),
            local: invite.headers.get("From").unwrap_or_default().to_owned(),
            remote: to.to_owned(),
            target: contact_uri(response.headers.get("Contact"))
                .unwrap_or_else(|| invite.uri.clone()),
            routes,
            local_cseq: invite.headers.cseq().map_or(1, |(number, _)| number),
            remote_cseq: None,
            contact_user: contact_user.to_owned(),
            allows_update: response.headers.lists("Allow", "UPDATE"),
        }
    }

    /// The dialog that an INVITE of a peer makes (RFC 3261 section 12.1.1); `None` without a usable Contact.
    pub(super) fn from_invite(
        invite: &Request,
        local_tag: String,
        contact_user: &str,
    ) -> Option<Self> {
        let headers = &invite.headers;
        Some(Self {
            call_id: headers.call_id().to_owned(),
            local: format!("{};tag={local_tag}", headers.get("To")?),
            local_tag,
            remote_tag: headers.from_tag().unwrap_or_default().to_owned(),
            remote: headers.get("From")?.to_owned(),
            target: contact_uri(headers.get("Contact"))?,
            routes: headers.get_all("Record-Route").map(str::to_owned).collect(),
            local_cseq: 0,
            remote_cseq: Some(headers.cseq()?.0),
            contact_user: contact_user.to_owned(),
            allows_update: headers.lists("Allow", "UPDATE"),
        })
    }

    /// The peer's Contact URI.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// The next request inside the dialog.
    pub(super) fn request(&mut self, method: Method) -> Request {
        self.local_cseq += 1;
        self.numbered(method, self.local_cseq)
    }

    /// ACK for a 2xx: it has the number of its INVITE (RFC 3261 section 13.2.2.4).
    pub(super) fn ack(&self, number: u32) -> Request {
        self.numbered(Method::Ack, number)
    }

    /// Whether a request is in order; remembers its number (RFC 3261 section 12.2.2).
    pub(super) fn accept_cseq(&mut self, number: u32) -> bool {
        let in_order = self.remote_cseq.is_none_or(|last| number > last);
        if in_order {
            self.remote_cseq = Some(number);
        }
        in_order
    }

    /// Takes a new remote target from a re-INVITE or its 2xx.
    pub(super) fn refresh_target(&mut self, contact: Option<&str>) {
        if let Some(target) = contact_uri(contact) {
            self.target = target;
        }
    }

    /// Takes in what a message of the peer says of its abilities.
    pub(super) fn learn(&mut self, headers: &Headers) {
        if headers.get("Allow").is_some() {
            self.allows_update = headers.lists("Allow", "UPDATE");
        }
    }

    /// Goes on where the early dialog was; route set and target are those of the 2xx (RFC 3261 section 13.2.2.4).
    pub(super) fn follow(&mut self, early: &Self) {
        self.local_cseq = self.local_cseq.max(early.local_cseq);
        self.remote_cseq = early.remote_cseq;
        self.allows_update |= early.allows_update;
    }

    fn numbered(&self, method: Method, number: u32) -> Request {
        let loose = self.routes.first().is_none_or(|route| is_loose(route));
        let (uri, routes): (String, Vec<String>) = if loose {
            (self.target.clone(), self.routes.clone())
        } else {
            // A strict router gets itself as Request-URI and the target as last Route (RFC 3261 section 12.2.1.1).
            let first = contact_uri(self.routes.first().map(String::as_str))
                .unwrap_or_else(|| self.target.clone());
            let rest = self.routes.iter().skip(1).cloned();
            (first, rest.chain([format!("<{}>", self.target)]).collect())
        };
        let mut request = Request::new(method, uri);
        let headers = &mut request.headers;
        for route in routes {
            headers.push("Route", route);
        }
        headers.push("Max-Forwards", "70");
        headers.push("From", self.local.clone());
        headers.push("To", self.remote.clone());
        headers.push("Call-ID", self.call_id.clone());
        headers.push("CSeq", format!("{number} {}", request.method));
        request
    }
}

/// Whether a Route value is that of a loose router.
pub(super) fn is_loose(route: &str) -> bool {
    NameAddr::parse(route)
        .and_then(|route| super::uri::SipUri::parse(&route.uri))
        .is_some_and(|uri| uri.param("lr").is_some())
}

fn contact_uri(value: Option<&str>) -> Option<String> {
    let uri = NameAddr::parse(value?)?.uri;
    super::uri::SipUri::parse(&uri).map(|_| uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::message::{Message, parse};

    fn invite(routes: &str) -> Request {
        let text = format!(
            "INVITE sip:x@h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n{routes}From: <sip:a@b>;tag=f\r\n\
             To: <sip:x@h>\r\nCall-ID: 1\r\nCSeq: 7 INVITE\r\nContact: <sip:a@10.0.0.1;x=1>\r\n\r\n"
        );
        match parse(text.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn loose_routes_leave_the_target_in_the_request_uri() {
        let invite = invite("Record-Route: <sip:p1;lr>, <sip:p2;lr>\r\n");
        let mut dialog = Dialog::from_invite(&invite, "t".into(), "x").unwrap();
        let bye = dialog.request(Method::Bye);
        assert_eq!(bye.uri, "sip:a@10.0.0.1;x=1");
        assert_eq!(
            bye.headers.get_all("Route").collect::<Vec<_>>(),
            ["<sip:p1;lr>", "<sip:p2;lr>"]
        );
        assert_eq!(bye.headers.get("From"), Some("<sip:x@h>;tag=t"));
        assert_eq!(bye.headers.get("CSeq"), Some("1 BYE"));
    }

    #[test]
    fn a_strict_router_becomes_the_request_uri() {
        let invite = invite("Record-Route: <sip:p1>, <sip:p2;lr>\r\n");
        let bye = Dialog::from_invite(&invite, "t".into(), "x")
            .unwrap()
            .request(Method::Bye);
        assert_eq!(bye.uri, "sip:p1");
        assert_eq!(
            bye.headers.get_all("Route").collect::<Vec<_>>(),
            ["<sip:p2;lr>", "<sip:a@10.0.0.1;x=1>"]
        );
    }

    #[test]
    fn a_caller_takes_the_record_route_in_reverse() {
        let invite = invite("");
        let mut response = crate::sip::message::response_to(&invite, 200, "");
        response.headers.push("Record-Route", "<sip:p2;lr>");
        response.headers.push("Record-Route", "<sip:p1;lr>");
        response.headers.push("Contact", "sip:bob@10.0.0.2");
        let dialog = Dialog::from_response(&invite, &response, "a");
        let ack = dialog.ack(7);
        assert_eq!(
            ack.headers.get_all("Route").collect::<Vec<_>>(),
            ["<sip:p1;lr>", "<sip:p2;lr>"]
        );
        assert_eq!(
            (ack.uri.as_str(), ack.headers.get("CSeq")),
            ("sip:bob@10.0.0.2", Some("7 ACK"))
        );
    }

    #[test]
    fn numbers_must_rise() {
        let mut dialog = Dialog::from_invite(&invite(""), "t".into(), "x").unwrap();
        assert!(!dialog.accept_cseq(7));
        assert!(dialog.accept_cseq(9), "gaps are fine");
        assert!(!dialog.accept_cseq(8));
    }
}
