//! The page calls: INVITE with our offer, provisional answers, the callee's answer, or that of somebody who picks the call up.

use super::active::{Active, Agreed, Newcomer};
use super::offerless::Offerless;
use super::{By, Call, Local, State, settle_offer};
use crate::api::{Event, Header, Problem, Reply};
use crate::gateway::{Hub, MediaPorts, RequestId};
use crate::sdp::{self, Negotiated, Offered, SipSession, WebSession};
use crate::sip::{self, Credentials, Invite};
use std::sync::Arc;
use std::time::Instant;

/// A call that the page asked for, before its ports are open.
pub(crate) struct Wish {
    /// The request that waits for its reply.
    pub(crate) request: RequestId,
    /// Caller, as in From.
    pub(crate) from: String,
    /// User part of the session's Contact.
    pub(crate) contact: String,
    pub(crate) display_name: Option<String>,
    pub(crate) credentials: Option<Credentials>,
    /// The page's offer; without one the callee makes it.
    pub(crate) web: Option<WebSession>,
    /// The page takes no offer before the callee has picked up.
    pub(crate) only_final: bool,
    /// Headers of the page's own.
    pub(crate) headers: Vec<Header>,
    /// Headers that carry the call's data.
    pub(crate) data_headers: Vec<(String, String)>,
    /// Answers to challenges, of a user agent in the page.
    pub(crate) authorization: Vec<Header>,
}

/// The INVITE is out.
pub(crate) struct Calling {
    pub(crate) sip: sip::CallHandle,
    pub(crate) ports: Vec<MediaPorts>,
    web: WebSession,
    offered: Offered,
    local: Local,
    pub(crate) ringing: bool,
    /// When the call ends for want of an answer.
    pub(crate) give_up: Instant,
}

/// The INVITE's call, our side of it, and the two offers if the page made one.
type Placed = (sip::CallHandle, Local, Option<(WebSession, Offered)>);

pub(crate) fn ended_problem(reason: &str) -> Problem {
    Problem::new(503, "call-ended", "The call ended before it began", reason)
}

pub(crate) fn busy_problem(detail: &str) -> Problem {
    Problem::new(503, "no-media-ports", "No media ports", detail).retry_after(5)
}

impl Call {
    /// Ports are open: offer to the SIP side and tell the page that the call is on its way.
    pub(crate) fn place(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        wish: Wish,
        ports: Vec<MediaPorts>,
    ) {
        let request = wish.request;
        let (sip, local, offered) = match self.invite(hub, now, wish, &ports) {
            Ok(placed) => placed,
            Err(problem) => {
                hub.close_ports(ports);
                return hub.reply(request, Err(problem));
            }
        };
        hub.routes.sip.insert(sip, self.id.clone());
        let give_up = now + self.no_answer;
        self.state = match offered {
            Some((web, offered)) => State::Calling(Box::new(Calling {
                sip,
                ports,
                web,
                offered,
                local,
                ringing: false,
                give_up,
            })),
            None => State::Offerless(Box::new(Offerless::new(sip, ports, local, give_up))),
        };
        let view = self.view(hub, now);
        hub.reply(request, Ok(Reply::Call(Box::new(view))));
    }

    /// INVITE, with our offer for what the page offers.
    fn invite(
        &self,
        hub: &mut Hub,
        now: Instant,
        wish: Wish,
        ports: &[MediaPorts],
    ) -> Result<Placed, Problem> {
        let trunk = &self.trunk;
        let mut local = Local::new(hub, trunk);
        let (sdp, offered) = match wish.web {
            None => (None, None),
            Some(web) => {
                let sip_local = local.sip(ports, Some(&web));
                let offer = sdp::sip_offer(&web, &trunk.codecs, &sip_local);
                let (sdp, offered) = offer.map_err(|error| {
                    let title = "Offer cannot be used";
                    Problem::new(422, "no-common-codec", title, error.to_string())
                })?;
                (Some(sdp), Some((web, offered)))
            }
        };
        let own = wish.headers.into_iter().map(Header::into);
        let invite = Invite {
            to: trunk.callee(&self.peer, &hub.config.domain),
            from: trunk.caller(&wish.from, &hub.config.domain),
            display_name: wish.display_name,
            contact_user: Some(wish.contact),
            credentials: wish.credentials,
            authorization: wish.authorization.into_iter().map(Header::into).collect(),
            sdp,
            only_final: wish.only_final,
            headers: own.chain(wish.data_headers).collect(),
            proxies: Arc::clone(&trunk.proxies),
        };
        let placed = hub.stack.invite(now, invite);
        let sip = placed.map_err(|error| invite_problem(&error))?;
        Ok((sip, local, offered))
    }

    /// 18x: ringing, or early media when it brings SDP (RFC 3261 section 13.2.1, RFC 3960).
    pub(crate) fn handle_provisional(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        status: u16,
        sdp: Option<&str>,
    ) {
        match &mut self.state {
            State::Calling(calling) => calling.ringing |= status >= 180,
            State::Offerless(calling) => calling.ringing |= status >= 180,
            State::Opening(_) | State::Incoming(_) | State::Active(_) | State::Ended => {}
        }
        if status >= 180 {
            self.tell(hub, |call| Event::Ringing { call, status });
        }
        if let (Some(sdp), State::Calling(_)) = (sdp, &self.state) {
            // An unusable early description does not end the call: the final answer brings its own.
            let _early = self.activate(hub, now, sdp, true);
        }
    }

    /// 2xx: the callee picked up.
    pub(crate) fn handle_answered(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        fork: usize,
        sdp: Option<&str>,
    ) {
        if let State::Active(active) = &mut self.state {
            let won = active.win(hub, &self.id, fork);
            if let Err(error) = won.and_then(|()| active.answered(hub, now, &self.id, sdp)) {
                self.end(hub, now, By::Gateway, Some(488), &error.to_string());
                return;
            }
            self.tell(hub, |call| Event::Answered { call });
            return;
        }
        let activated = match sdp {
            Some(sdp) => self
                .activate(hub, now, sdp, false)
                .map_err(|error| error.to_string()),
            None => Err("the callee answered without a session description".to_owned()),
        };
        match activated {
            Ok(()) => self.tell(hub, |call| Event::Answered { call }),
            Err(reason) => self.end(hub, now, By::Gateway, Some(488), &reason),
        }
    }

    /// A final refusal.
    pub(crate) fn handle_rejected(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        status: u16,
        reason: &str,
    ) {
        self.end(hub, now, By::Sip, Some(status), reason);
    }

    /// The SIP side's description is here: answer the page and start ICE and DTLS.
    fn activate(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        sdp: &str,
        early: bool,
    ) -> Result<(), sdp::SdpError> {
        let State::Calling(calling) = &self.state else {
            return Ok(());
        };
        let mut peer = SipSession::parse(sdp)?;
        calling.local.settle_answer(&mut peer);
        let negotiated = sdp::negotiate(&calling.offered, &peer.described()?)?;
        self.begin(hub, now, (peer, negotiated), early)
    }

    /// Goes on with what both sides agreed on.
    fn begin(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        (peer, negotiated): (SipSession, Negotiated),
        early: bool,
    ) -> Result<(), sdp::SdpError> {
        let State::Calling(calling) = std::mem::replace(&mut self.state, State::Ended) else {
            return Ok(());
        };
        let Calling {
            sip,
            mut ports,
            web,
            local,
            give_up,
            ..
        } = *calling;
        hub.close_ports(ports.drain(negotiated.media.len()..));
        let agreed = Agreed {
            sip,
            ports,
            web,
            peer,
            local,
            negotiated,
            ringing_until: early.then_some(give_up),
        };
        let (active, answer) = Active::outgoing(hub, now, &self.id, agreed)?;
        self.state = State::Active(Box::new(active));
        self.tell(hub, |call| Event::Answer {
            call,
            answer,
            early,
        });
        Ok(())
    }
}

impl Call {
    /// Somebody else takes the call that rings at the callee.
    pub(super) fn picked_up(&mut self, hub: &mut Hub, now: Instant, newcomer: Newcomer) {
        let State::Calling(calling) = &mut self.state else {
            return;
        };
        let described = match &newcomer.sdp {
            Some(sdp) => calling
                .agree(hub, sdp)
                .map(|(agreed, answer)| (Some(agreed), answer)),
            None => calling.offer_again(hub).map(|offer| (None, offer)),
        };
        let (agreed, description) = match described {
            Ok(described) => described,
            Err(error) => {
                let (status, reason) = (error.status(), error.to_string());
                return hub.stack.reject(now, newcomer.sip, status, &reason);
            }
        };
        let old = std::mem::replace(&mut calling.sip, newcomer.sip);
        hub.routes.sip.remove(&old);
        hub.routes.sip.insert(newcomer.sip, self.id.clone());
        hub.stack.accept(now, newcomer.sip, description);
        self.peer = newcomer.peer;
        let (peer, name) = (self.peer.clone(), newcomer.name);
        self.tell(hub, |call| Event::Party { call, peer, name });
        // Without an offer the ACK will say what is agreed on.
        let Some(agreed) = agreed else { return };
        match self.begin(hub, now, agreed, false) {
            Ok(()) => self.tell(hub, |call| Event::Answered { call }),
            Err(error) => self.end(hub, now, By::Gateway, Some(488), &error.to_string()),
        }
    }
}

impl Calling {
    /// Takes an offer for the answer that the page's offer waits for, and answers it under its own payload types.
    fn agree(
        &mut self,
        hub: &mut Hub,
        sdp: &str,
    ) -> Result<((SipSession, Negotiated), String), sdp::SdpError> {
        let mut peer = SipSession::parse(sdp)?;
        settle_offer(hub, &self.local.trunk.srtp, &mut peer, None);
        self.local.meet(hub, &peer);
        let described = peer.described()?;
        let negotiated = sdp::negotiate(&self.offered, &described)?.reoffered_by_sip(&described)?;
        let ports = &self.ports[..negotiated.media.len()];
        let local = self.local.sip(ports, Some(&self.web));
        let answer = sdp::sip_answer(&peer, &negotiated, &local);
        Ok(((peer, negotiated), answer))
    }

    /// Our offer for whoever has none, under keys that nobody else was shown.
    fn offer_again(&mut self, hub: &mut Hub) -> Result<String, sdp::SdpError> {
        self.local.renew_crypto(hub);
        let local = self.local.sip(&self.ports, Some(&self.web));
        let (offer, offered) = sdp::sip_offer(&self.web, &self.local.trunk.codecs, &local)?;
        self.offered = offered;
        Ok(offer)
    }
}

fn invite_problem(error: &sip::SipError) -> Problem {
    if matches!(error, sip::SipError::BadHeader(_)) {
        return super::refused(error);
    }
    Problem::new(
        503,
        "sip-unavailable",
        "The SIP side cannot take the call",
        error.to_string(),
    )
    .retry_after(5)
}
