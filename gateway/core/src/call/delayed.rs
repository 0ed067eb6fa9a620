//! An incoming call without an offer (RFC 3261 section 13.2.1). The page answers our own offer and what it chose is offered to the SIP
//! side in the 200, or it makes an offer of its own, which goes there; the ACK answers that.

use super::active::{Active, Agreed};
use super::incoming::Incoming;
use super::{By, Call, State};
use crate::api::{Event, Problem};
use crate::gateway::Hub;
use crate::sdp::{self, CodecPolicy, SipSession, WebSession};
use std::time::Instant;

/// The page has answered; the SIP side has our offer.
pub(crate) struct Promised {
    web: WebSession,
    offered: sdp::Offered,
    /// The page made an offer of its own, which waits for its answer.
    page_asked: bool,
}

/// G.711 first: every phone has it, and there is no second chance to agree with the page.
pub(super) fn unprompted(mut policy: CodecPolicy) -> CodecPolicy {
    policy
        .audio
        .sort_by_key(|name| !name.to_ascii_uppercase().starts_with("PCM"));
    policy
}

impl Call {
    /// The page takes the call: offer what it answered to the SIP side.
    pub(super) fn promise(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        web: WebSession,
    ) -> Result<(), Problem> {
        let State::Incoming(incoming) = &mut self.state else {
            return Ok(());
        };
        let (offer, offered) = incoming.promise(&web).map_err(|error| {
            let title = "Answer cannot be used";
            Problem::new(422, "no-common-codec", title, error.to_string())
        })?;
        incoming.promised = Some(Promised {
            web,
            offered,
            page_asked: false,
        });
        hub.stack.accept(now, incoming.sip, offer);
        Ok(())
    }

    /// Whether the page may take the call by an offer of its own.
    pub(super) fn wants_offer(&self) -> bool {
        let State::Incoming(incoming) = &self.state else {
            return false;
        };
        incoming.offer.is_none() && incoming.promised.is_none()
    }

    /// The page takes the call by an offer of its own: `call.answer` brings the answer.
    pub(super) fn promise_own(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        offer: &str,
    ) -> Result<(), Problem> {
        let State::Incoming(incoming) = &mut self.state else {
            return Ok(());
        };
        let web = WebSession::parse(offer).map_err(|error| {
            Problem::new(400, "bad-sdp", "Bad session description", error.to_string())
        })?;
        let local = incoming.local.sip(&incoming.ports, Some(&web));
        let policy = unprompted(self.trunk.codecs.clone());
        let (offer, offered) = sdp::sip_offer(&web, &policy, &local).map_err(|error| {
            let title = "Offer cannot be used";
            Problem::new(422, "no-common-codec", title, error.to_string())
        })?;
        incoming.promised = Some(Promised {
            web,
            offered,
            page_asked: true,
        });
        hub.stack.accept(now, incoming.sip, offer);
        Ok(())
    }

    /// The ACK, which has to answer our offer.
    pub(super) fn handle_promised(&mut self, hub: &mut Hub, now: Instant, sdp: Option<&str>) {
        let State::Incoming(incoming) = &self.state else {
            return;
        };
        if incoming.promised.is_none() {
            return;
        }
        let agreed = match sdp {
            Some(sdp) => SipSession::parse(sdp).and_then(|mut peer| {
                incoming.local.settle_answer(&mut peer);
                let promised = incoming.promised.as_ref();
                let offered = promised.map(|promised| &promised.offered);
                let negotiated = offered.map(|offered| {
                    let answer = peer.described()?;
                    sdp::negotiate(offered, &answer)
                });
                Ok((peer, negotiated.transpose()?))
            }),
            None => Err(sdp::SdpError::not_acceptable("the ACK has no answer")),
        };
        let (peer, negotiated) = match agreed {
            Ok((peer, Some(negotiated))) => (peer, negotiated),
            Ok((_, None)) => return,
            Err(error) => return self.end(hub, now, By::Gateway, Some(488), &error.to_string()),
        };
        let State::Incoming(incoming) = std::mem::replace(&mut self.state, State::Ended) else {
            return;
        };
        let Incoming {
            sip,
            mut ports,
            leg,
            local,
            pairs,
            promised: Some(Promised {
                web, page_asked, ..
            }),
            ..
        } = *incoming
        else {
            return;
        };
        hub.close_ports(ports.drain(negotiated.media.len()..));
        let agreed = Agreed {
            sip,
            ports,
            web,
            peer,
            local,
            negotiated,
            ringing_until: None,
        };
        let activated = if page_asked {
            // The leg of our own offer, which the page did not take, has heard nothing.
            Active::outgoing(hub, now, &self.id, agreed)
                .map(|(active, answer)| (active, Some(answer)))
        } else {
            Active::incoming(hub, now, agreed, leg, pairs).map(|active| (active, None))
        };
        match activated {
            Ok((active, answer)) => {
                self.state = State::Active(Box::new(active));
                if let Some(answer) = answer {
                    self.tell(hub, |call| Event::Answer {
                        call,
                        answer,
                        early: false,
                    });
                }
                self.pump(hub, now);
            }
            // Every negotiated medium is one of the answer's, so it has an address.
            Err(error) => tracing::error!(%error, "an answered medium without an address"),
        }
    }
}

impl Incoming {
    /// Our offer to the SIP side: the one voice codec that the page will send.
    fn promise(&mut self, web: &WebSession) -> Result<(String, sdp::Offered), sdp::SdpError> {
        let negotiated = sdp::negotiate(&self.offered, &web.described())?;
        let policy = CodecPolicy {
            audio: vec![negotiated.audio().codec.name.clone()],
            video: self.local.trunk.codecs.video.clone(),
        };
        let local = self.local.sip(&self.ports, Some(web));
        sdp::sip_offer(web, &policy, &local)
    }
}
