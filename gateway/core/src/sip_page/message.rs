//! How the messages to the page are put together.

use super::talk::Talk;
use crate::api::Content;
use crate::sip::message::{Method, Request, Response, response_to};

/// Our host towards pages: nobody resolves it, the WebSocket is the way (RFC 7118 section 5).
pub(super) const HOST: &str = "gateway.invalid";
/// What pages may send.
pub(super) const ALLOW: &str =
    "INVITE, ACK, BYE, CANCEL, OPTIONS, REGISTER, INFO, MESSAGE, REFER, UPDATE, NOTIFY, PRACK";

/// A response with our tag in To, unless the request had one.
pub(super) fn response(request: &Request, status: u16, reason: &str, tag: &str) -> Response {
    let mut response = response_to(request, status, reason);
    if status > 100
        && request.headers.to_tag().is_none()
        && let Some(to) = request.headers.get("To")
    {
        response.headers.set("To", format!("{to};tag={tag}"));
    }
    response
}

/// Where requests inside a call go: to us, by the same WebSocket.
pub(super) fn own_contact(user: &str) -> String {
    format!("<sip:{user}@{HOST};transport=ws>")
}

impl Talk {
    /// A request of ours inside the call, or the INVITE that makes it.
    pub(super) fn request(&mut self, method: Method, branch: &str) -> Request {
        // CANCEL and ACK carry the number of their INVITE (RFC 3261 sections 9.1 and 13.2.2.4).
        let number = match method {
            Method::Ack | Method::Cancel => self.invite_cseq,
            _ => {
                self.cseq += 1;
                self.cseq
            }
        };
        if method == Method::Invite {
            self.invite_cseq = number;
        }
        let mut request = Request::new(method, self.target.clone());
        let headers = &mut request.headers;
        headers.push("Via", format!("SIP/2.0/WS {HOST};branch={branch}"));
        headers.push("Max-Forwards", "70");
        headers.push("From", self.own.clone());
        headers.push("To", self.theirs.clone());
        headers.push("Call-ID", self.call_id.clone());
        headers.push("CSeq", format!("{number} {}", request.method));
        if matches!(
            request.method,
            Method::Invite | Method::Notify | Method::Update
        ) {
            headers.push("Contact", own_contact(&self.tag));
            headers.push("Allow", ALLOW);
        }
        request
    }
}

/// Puts a body into a message.
pub(super) fn with_body(mut request: Request, content: Content) -> Request {
    request.headers.push("Content-Type", content.content_type);
    request.body = content.body.into_bytes();
    request
}

/// Puts a description into a response.
pub(super) fn with_sdp(mut response: Response, user: &str, sdp: &str) -> Response {
    let headers = &mut response.headers;
    headers.push("Contact", own_contact(user));
    headers.push("Allow", ALLOW);
    headers.push("Supported", "replaces");
    headers.push("Content-Type", "application/sdp");
    response.body = sdp.as_bytes().to_vec();
    response
}
