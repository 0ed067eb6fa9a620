//! Requests of the page that make, change and end calls.

use super::delayed::takes_reliable;
use super::message::{response, with_sdp};
use super::phone::{AskKind, CALLS, Phone, Waiting, authorization, content};
use super::talk::{Step, Talk};
use crate::api::{CreateCall, PhoneCall, Problem, Reply, Transfer};
use crate::sip::message::{Method, NameAddr, Request, sdp_of};
use crate::sip::unescape;

impl Phone {
    /// The page calls.
    pub(super) fn handle_invite(&mut self, request: Request) {
        let headers = &request.headers;
        let from = headers.get("From").map(str::to_owned);
        let contact = headers.get("Contact").and_then(NameAddr::parse);
        let (Some(from), Some(contact)) = (from, contact) else {
            return self.respond(&request, 400);
        };
        let call_id = headers.call_id().to_owned();
        if self.place_of(&call_id).is_some() {
            // The same request twice, or one that found another way (RFC 3261 section 8.2.2.2).
            return self.respond(&request, 482);
        }
        if self.talks.len() >= CALLS {
            return self.respond(&request, 486);
        }
        // A body that is none of ours is no wish for the callee's offer.
        let offer = sdp(&request);
        if offer.is_none() && !request.body.is_empty() {
            return self.respond(&request, 415);
        }
        let tag = self.random.token(16);
        let name = NameAddr::parse(&from).and_then(|from| from.name);
        let to = headers.get("To").unwrap_or_default();
        let talk = Talk {
            call: None,
            call_id: call_id.clone(),
            own: format!("{to};tag={tag}"),
            tag,
            theirs: from,
            target: contact.uri,
            cseq: 0,
            invite_cseq: 0,
            challenges: Vec::new(),
            changing: None,
            prack: None,
            unwanted: false,
            step: Step::Placed {
                invite: Box::new(request.clone()),
                answer: None,
            },
        };
        self.talks.push(talk);
        self.respond(&request, 100);
        let call = CreateCall {
            to: request.uri.clone(),
            offer,
            headers: Vec::new(),
            data: Default::default(),
            phone: PhoneCall {
                display_name: name,
                authorization: authorization(&request),
                only_final: !takes_reliable(&request),
            },
        };
        self.ask(AskKind::Call(call), Waiting::Placing(call_id));
    }

    /// The gateway has the call, or refuses it.
    pub(super) fn placed(&mut self, call_id: &str, reply: Result<Reply, Problem>) {
        let Some(place) = self.place_of(call_id) else {
            return;
        };
        match reply {
            Ok(Reply::Call(view)) => {
                let talk = &mut self.talks[place];
                talk.call = Some(view.id.clone());
                if talk.unwanted {
                    self.ask(AskKind::HangUp(view.id), Waiting::Nothing);
                }
            }
            Ok(_) => {}
            Err(problem) => {
                let talk = self.talks.remove(place);
                if let Step::Placed { invite, .. } = &talk.step
                    && !talk.unwanted
                {
                    self.refuse(invite, &problem);
                }
            }
        }
    }

    /// The page takes its INVITE back.
    pub(super) fn handle_cancel(&mut self, request: &Request) {
        let place = self.place_of(request.headers.call_id());
        let place = place.filter(|place| self.talks[*place].is_placed());
        let Some(place) = place else {
            return self.respond(request, 481);
        };
        self.respond(request, 200);
        self.give_up(place);
    }

    /// Ends the page's unanswered INVITE with 487.
    fn give_up(&mut self, place: usize) {
        let talk = &mut self.talks[place];
        if talk.unwanted {
            return;
        }
        talk.unwanted = true;
        let (call, tag) = (talk.call.clone(), talk.tag.clone());
        let refusal = match &talk.step {
            Step::Placed { invite, .. } => response(invite, 487, "", &tag).to_bytes(),
            Step::Offering | Step::Offered { .. } | Step::Up => return,
        };
        self.send(refusal);
        if let Some(call) = call {
            self.ask(AskKind::HangUp(call), Waiting::Nothing);
        }
    }

    /// A request inside a call.
    pub(super) fn handle_inside(&mut self, request: Request) {
        let Some(place) = self.place_of(request.headers.call_id()) else {
            return self.respond(&request, 481);
        };
        let call = self.talks[place].call.clone();
        match (&request.method, call) {
            (Method::Ack, _) => self.handle_ack(place, &request),
            (Method::Prack, _) => self.handle_prack(place, &request),
            (Method::Bye, _) => self.handle_bye(place, &request),
            (Method::Invite | Method::Update, _) => self.handle_change(place, request),
            (Method::Info, Some(call)) => {
                let info = AskKind::Info(call, content(&request));
                self.ask(info, Waiting::Answer(request));
            }
            (Method::Refer, Some(call)) => self.handle_refer(call, request),
            (Method::Options | Method::Notify, _) => self.respond(&request, 200),
            (Method::Info | Method::Refer, None) => self.respond(&request, 481),
            _ => self.refuse_method(&request),
        }
    }

    fn handle_bye(&mut self, place: usize, request: &Request) {
        self.respond(request, 200);
        if self.talks[place].is_placed() {
            // RFC 3261 section 15: a caller may hang up an early dialog.
            return self.give_up(place);
        }
        let talk = self.talks.remove(place);
        if let Some(call) = talk.call {
            self.ask(AskKind::HangUp(call), Waiting::Nothing);
        }
    }

    /// Re-INVITE, or UPDATE: the latter without a description only says that the page is alive.
    fn handle_change(&mut self, place: usize, request: Request) {
        let talk = &mut self.talks[place];
        if let Some(contact) = request.headers.get("Contact").and_then(NameAddr::parse) {
            talk.target = contact.uri;
        }
        let call = match &talk.step {
            Step::Up if talk.changing.is_none() => talk.call.clone(),
            // RFC 3261 section 14.2.
            _ => None,
        };
        let Some(call) = call else {
            return self.respond(&request, 491);
        };
        match sdp(&request) {
            Some(offer) => {
                talk.changing = Some(request);
                let call_id = talk.call_id.clone();
                self.ask(AskKind::Offer(call, offer), Waiting::Changing(call_id));
            }
            None if request.method == Method::Update => self.respond(&request, 200),
            None => self.respond_with(&request, 488, "An Offer Is Needed"),
        }
    }

    /// The gateway answered the page's new description.
    pub(super) fn changed(&mut self, call_id: &str, reply: Result<Reply, Problem>) {
        let Some(place) = self.place_of(call_id) else {
            return;
        };
        let talk = &mut self.talks[place];
        let Some(request) = talk.changing.take() else {
            return;
        };
        let tag = talk.tag.clone();
        match reply {
            Ok(Reply::Answered(answered)) => {
                let ok = response(&request, 200, "", &tag);
                self.send(with_sdp(ok, &tag, &answered.answer).to_bytes());
            }
            Ok(_) => self.respond(&request, 500),
            Err(problem) => self.refuse(&request, &problem),
        }
    }

    /// The page sends the other party to somebody else; with Replaces, to the other party of another of its calls.
    fn handle_refer(&mut self, call: crate::api::CallId, request: Request) {
        let target = request.headers.get("Refer-To").and_then(NameAddr::parse);
        let Some(target) = target else {
            return self.respond(&request, 400);
        };
        let (uri, headers) = target.uri.split_once('?').unwrap_or((&target.uri, ""));
        let replaces = headers.split('&').find_map(|header| {
            let (name, value) = header.split_once('=')?;
            name.eq_ignore_ascii_case("replaces").then_some(value)
        });
        let transfer = match replaces {
            None => Transfer {
                to: Some(uri.to_owned()),
                call: None,
            },
            Some(replaces) => {
                let named = unescape(replaces).unwrap_or_default();
                let call_id = named.split(';').next().unwrap_or_default();
                let other = self.place_of(call_id);
                let other = other.and_then(|place| self.talks[place].call.clone());
                let Some(other) = other else {
                    return self.respond(&request, 481);
                };
                Transfer {
                    to: None,
                    call: Some(other),
                }
            }
        };
        self.ask(AskKind::Transfer(call, transfer), Waiting::Answer(request));
    }

    pub(super) fn place_of(&self, call_id: &str) -> Option<usize> {
        self.talks.iter().position(|talk| talk.call_id == call_id)
    }
}

/// The description in a request.
fn sdp(request: &Request) -> Option<String> {
    sdp_of(&request.headers, &request.body).ok().flatten()
}
