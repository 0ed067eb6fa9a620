//! The page's INVITE without an offer (RFC 3261 section 13.2.1): it gets the callee's, and answers.
//!
//! 1. The callee picked up: the offer goes in the 200, and the page's ACK answers it.
//! 2. It has not yet: the offer goes in a reliable 183, and the page's PRACK answers it (RFC 3262). Only to pages that take such: for
//!    others the gateway does not ask its callee for early offers.
//!
//! Nothing is repeated: a WebSocket loses nothing, or is lost itself.

use super::message::{own_contact, response, with_sdp};
use super::phone::{AskKind, Phone, Waiting};
use super::talk::{Step, Talk};
use crate::api::CallId;
use crate::sip::message::{Method, Request, sdp_of};

impl Phone {
    /// The callee's offer.
    pub(super) fn ask_page(&mut self, call: &CallId, sdp: &str, early: bool) {
        let number = self.random.u32() >> 1 | 1;
        let Some(talk) = self.talk_of_call(call) else {
            return;
        };
        let Step::Placed { invite, .. } = &talk.step else {
            return;
        };
        if talk.unwanted {
            return;
        }
        let status = if early { 183 } else { 200 };
        let offer = response(invite, status, "", &talk.tag);
        let mut offer = with_sdp(offer, &talk.tag, sdp);
        if early {
            offer.headers.push("Require", "100rel");
            offer.headers.push("RSeq", number.to_string());
            talk.prack = Some(number);
        } else {
            talk.step = Step::Offering;
        }
        self.send(offer.to_bytes());
    }

    /// The ACK for our 200; it has the answer where that had an offer.
    pub(super) fn handle_ack(&mut self, place: usize, request: &Request) {
        let talk = &mut self.talks[place];
        if !matches!(talk.step, Step::Offering) {
            return;
        }
        talk.step = Step::Up;
        if !self.take_answer(place, request) {
            self.leave(place);
        }
    }

    /// The PRACK for our 183, which has the answer.
    pub(super) fn handle_prack(&mut self, place: usize, request: &Request) {
        let talk = &self.talks[place];
        let rack = request.headers.get("RAck").unwrap_or_default();
        let due = talk.prack.filter(|number| talk.is_racked(rack, *number));
        if due.is_none() {
            return self.respond(request, 481);
        }
        self.respond(request, 200);
        self.talks[place].prack = None;
        if !self.take_answer(place, request) {
            self.leave(place);
        }
    }

    /// Hands the page's answer on; `false` if there is none.
    fn take_answer(&mut self, place: usize, request: &Request) -> bool {
        let answer = sdp_of(&request.headers, &request.body).ok().flatten();
        let talk = &self.talks[place];
        let (Some(answer), Some(call)) = (answer, talk.call.clone()) else {
            return false;
        };
        let call_id = talk.call_id.clone();
        self.ask(AskKind::Answer(call, answer), Waiting::Answering(call_id));
        true
    }

    /// Ends a call whose page did not answer, or not so that it can be used.
    pub(super) fn leave(&mut self, place: usize) {
        let branch = self.branch();
        let mut talk = self.talks.remove(place);
        let end = match &talk.step {
            Step::Placed { invite, .. } => response(invite, 488, "", &talk.tag).to_bytes(),
            Step::Offering | Step::Offered { .. } | Step::Up => {
                talk.request(Method::Bye, &branch).to_bytes()
            }
        };
        self.send(end);
        if let Some(call) = talk.call {
            self.ask(AskKind::HangUp(call), Waiting::Nothing);
        }
    }

    /// 200 for an INVITE whose early offer the page has answered: nothing is left to be described.
    pub(super) fn accept_without(&mut self, place: usize) {
        let talk = &mut self.talks[place];
        let Step::Placed { invite, .. } = &talk.step else {
            return;
        };
        let mut ok = response(invite, 200, "", &talk.tag);
        ok.headers.push("Contact", own_contact(&talk.tag));
        talk.step = Step::Up;
        self.send(ok.to_bytes());
    }
}

impl Talk {
    /// Whether RAck names our reliable response (RFC 3262 section 7.2).
    fn is_racked(&self, rack: &str, number: u32) -> bool {
        let Step::Placed { invite, .. } = &self.step else {
            return false;
        };
        let cseq = invite.headers.cseq().map_or(0, |(cseq, _)| cseq);
        let wanted = [number.to_string(), cseq.to_string(), "INVITE".to_owned()];
        rack.split_ascii_whitespace().eq(wanted)
    }
}

/// Whether the page takes reliable provisional responses.
pub(super) fn takes_reliable(invite: &Request) -> bool {
    let lists = |name| invite.headers.lists(name, "100rel");
    lists("Supported") || lists("Require")
}
