//! What the gateway has for the page: events of its calls as SIP, and the page's responses to that.

use super::message::{own_contact, response, with_body, with_sdp};
use super::phone::{AskKind, CALLS, Phone, Waiting};
use super::talk::{Step, Talk};
use crate::api::{CallId, Content, Control, Event, Problem, Reply};
use crate::sip::message::{Method, NameAddr, Response, quote, sdp_of};

impl Phone {
    /// An event of the page's session.
    pub fn handle_event(&mut self, event: Event) {
        match event {
            Event::Incoming {
                call,
                from,
                from_name,
                offer,
                ..
            } => self.offer(call, &from, from_name.as_deref(), offer),
            Event::Message {
                from,
                from_name,
                call: None,
                content,
            } => self.tell_message(&from, from_name.as_deref(), content),
            Event::Ringing { call, status } => self.progress(&call, status),
            Event::Answer {
                call,
                answer,
                early,
            } => self.keep_answer(&call, answer, early),
            Event::Offer { call, early, offer } => self.ask_page(&call, &offer, early),
            Event::Answered { call } => self.accept(&call),
            Event::Challenged { call, challenges } => {
                if let Some(place) = self.place_of_call(&call) {
                    self.talks[place].challenges = challenges;
                }
            }
            Event::Ended { call, status, .. } => self.end(&call, status),
            Event::Info { call, content } => self.inform(&call, Method::Info, &[], content),
            Event::Message {
                call: Some(call),
                content,
                ..
            } => self.inform(&call, Method::Message, &[], content),
            Event::Control { call, control } => {
                let event = match control {
                    Control::Talk => "talk",
                    Control::Hold => "hold",
                };
                self.inform(&call, Method::Notify, &[("Event", event)], empty());
            }
            Event::Transfer {
                call,
                status,
                reason,
                over,
            } => {
                let state = match over {
                    true => "terminated;reason=noresource",
                    false => "active;expires=60",
                };
                let headers = [("Event", "refer"), ("Subscription-State", state)];
                let content = Content {
                    content_type: "message/sipfrag;version=2.0".to_owned(),
                    body: format!("SIP/2.0 {status} {reason}\r\n"),
                };
                self.inform(&call, Method::Notify, &headers, content);
            }
            _ => {}
        }
    }

    /// 18x for the page's INVITE.
    fn progress(&mut self, call: &CallId, status: u16) {
        let Some(talk) = self.talk_of_call(call) else {
            return;
        };
        let Step::Placed { invite, .. } = &talk.step else {
            return;
        };
        // A 183 goes out with its description, by `keep_answer`.
        if talk.unwanted || !(180..=182).contains(&status) {
            return;
        }
        let mut ringing = response(invite, status, "", &talk.tag);
        ringing.headers.push("Contact", own_contact(&talk.tag));
        self.send(ringing.to_bytes());
    }

    fn keep_answer(&mut self, call: &CallId, sdp: String, early: bool) {
        let Some(talk) = self.talk_of_call(call) else {
            return;
        };
        let Step::Placed { invite, answer } = &mut talk.step else {
            return;
        };
        let progress = response(invite, 183, "", &talk.tag);
        let progress = with_sdp(progress, &talk.tag, &sdp).to_bytes();
        *answer = Some(sdp);
        if early && !talk.unwanted {
            self.send(progress);
        }
    }

    /// The callee picked up: 200 for the page's INVITE.
    fn accept(&mut self, call: &CallId) {
        let Some(place) = self.place_of_call(call) else {
            return;
        };
        let talk = &mut self.talks[place];
        let Step::Placed { invite, answer } = &talk.step else {
            return;
        };
        if talk.unwanted {
            return;
        }
        let Some(answer) = answer else {
            return self.accept_without(place);
        };
        let ok = response(invite, 200, "", &talk.tag);
        let ok = with_sdp(ok, &talk.tag, answer);
        talk.step = Step::Up;
        self.send(ok.to_bytes());
    }

    /// Somebody calls the page.
    fn offer(&mut self, call: CallId, from: &str, name: Option<&str>, offer: String) {
        let target = self.contact.clone().filter(|_| self.talks.len() < CALLS);
        let Some(target) = target else {
            return self.ask(AskKind::Reject(call, 480), Waiting::Nothing);
        };
        let tag = self.random.token(16);
        let name = name.map(|name| quote(name) + " ").unwrap_or_default();
        let branch = self.branch();
        let mut talk = Talk {
            call: Some(call),
            call_id: self.random.token(24),
            own: format!("{name}<{from}>;tag={tag}"),
            tag,
            theirs: format!("<{}>", self.address),
            target,
            cseq: 0,
            invite_cseq: 0,
            challenges: Vec::new(),
            changing: None,
            prack: None,
            unwanted: false,
            step: Step::Offered {
                branch: branch.clone(),
                heard: false,
                cancelled: false,
            },
        };
        let content = Content {
            content_type: "application/sdp".to_owned(),
            body: offer,
        };
        let invite = with_body(talk.request(Method::Invite, &branch), content);
        self.talks.push(talk);
        self.send(invite.to_bytes());
    }

    /// The call is over on the other side.
    fn end(&mut self, call: &CallId, status: Option<u16>) {
        let Some(place) = self.place_of_call(call) else {
            return;
        };
        let branch = self.branch();
        let talk = &mut self.talks[place];
        match &mut talk.step {
            Step::Placed { invite, .. } => {
                let mut refusal = response(invite, final_status(status), "", &talk.tag);
                for challenge in std::mem::take(&mut talk.challenges) {
                    refusal.headers.push(&challenge.name, challenge.value);
                }
                let refusal = (!talk.unwanted).then(|| refusal.to_bytes());
                self.talks.remove(place);
                refusal.into_iter().for_each(|bytes| self.send(bytes));
            }
            Step::Offering | Step::Up => {
                let bye = talk.request(Method::Bye, &branch).to_bytes();
                self.talks.remove(place);
                self.send(bye);
            }
            Step::Offered {
                branch,
                heard,
                cancelled,
            } => {
                *cancelled = true;
                // Nothing may be cancelled before anything came back (RFC 3261 section 9.1).
                if *heard {
                    let branch = branch.clone();
                    let cancel = talk.request(Method::Cancel, &branch).to_bytes();
                    self.send(cancel);
                }
            }
        }
    }

    /// A response of the page: only those to our INVITE matter.
    pub(super) fn handle_response(&mut self, response: &Response) {
        let Some((number, Method::Invite)) = response.headers.cseq() else {
            return;
        };
        let Some(place) = self.place_of(response.headers.call_id()) else {
            return;
        };
        let ack_branch = self.branch();
        let talk = &mut self.talks[place];
        if number != talk.invite_cseq || talk.cseq == 0 {
            return;
        }
        if (200..300).contains(&response.status) {
            talk.learn(response);
            let ack = talk.request(Method::Ack, &ack_branch).to_bytes();
            self.send(ack);
            return self.take(place, response);
        }
        let Step::Offered {
            branch,
            heard,
            cancelled,
        } = &mut talk.step
        else {
            return;
        };
        let branch = branch.clone();
        if response.status < 200 {
            let first = !std::mem::replace(heard, true);
            if first && *cancelled {
                let cancel = talk.request(Method::Cancel, &branch).to_bytes();
                self.send(cancel);
            }
            return;
        }
        let cancelled = *cancelled;
        talk.learn(response);
        // The ACK of a refusal belongs to the INVITE's transaction (RFC 3261 section 17.1.1.3).
        let ack = talk.request(Method::Ack, &branch).to_bytes();
        let talk = self.talks.remove(place);
        self.send(ack);
        if let Some(call) = talk.call.filter(|_| !cancelled) {
            // A challenge or a redirection of the page makes no sense to the caller.
            let status = match response.status {
                status @ 400..=699 if !matches!(status, 401 | 407) => status,
                _ => 480,
            };
            self.ask(AskKind::Reject(call, status), Waiting::Nothing);
        }
    }

    /// The page picked up.
    fn take(&mut self, place: usize, response: &Response) {
        let bye_branch = self.branch();
        let talk = &mut self.talks[place];
        let Step::Offered { cancelled, .. } = &talk.step else {
            // The same 200 once more: its ACK is out again.
            return;
        };
        let answer = sdp_of(&response.headers, &response.body).ok().flatten();
        let call = talk.call.clone().filter(|_| !cancelled);
        talk.step = Step::Up;
        match (call, answer) {
            (Some(call), Some(answer)) => {
                let call_id = talk.call_id.clone();
                self.ask(AskKind::Answer(call, answer), Waiting::Answering(call_id));
            }
            (call, _) => {
                let bye = talk.request(Method::Bye, &bye_branch).to_bytes();
                self.talks.remove(place);
                self.send(bye);
                if let Some(call) = call {
                    self.ask(AskKind::Reject(call, 488), Waiting::Nothing);
                }
            }
        }
    }

    /// The gateway took the page's answer, or cannot use it.
    pub(super) fn answered(&mut self, call_id: &str, reply: Result<Reply, Problem>) {
        let Some(place) = self.place_of(call_id) else {
            return;
        };
        if reply.is_err() {
            self.leave(place);
        }
    }

    /// A request of ours inside a call, whose answer changes nothing.
    fn inform(
        &mut self,
        call: &CallId,
        method: Method,
        headers: &[(&str, &str)],
        content: Content,
    ) {
        let branch = self.branch();
        let Some(talk) = self.talk_of_call(call) else {
            return;
        };
        let mut request = talk.request(method, &branch);
        for (name, value) in headers {
            request.headers.push(name, *value);
        }
        if !content.body.is_empty() {
            request = with_body(request, content);
        }
        self.send(request.to_bytes());
    }

    /// A message outside of calls.
    fn tell_message(&mut self, from: &str, name: Option<&str>, content: Content) {
        let Some(target) = self.contact.clone() else {
            return;
        };
        let name = name.map(|name| quote(name) + " ").unwrap_or_default();
        let tag = self.random.token(16);
        let branch = self.branch();
        let mut outside = Talk {
            call: None,
            call_id: self.random.token(24),
            own: format!("{name}<{from}>;tag={tag}"),
            tag,
            theirs: format!("<{}>", self.address),
            target,
            cseq: 0,
            invite_cseq: 0,
            challenges: Vec::new(),
            changing: None,
            prack: None,
            unwanted: false,
            step: Step::Up,
        };
        let message = with_body(outside.request(Method::Message, &branch), content);
        self.send(message.to_bytes());
    }

    pub(super) fn branch(&mut self) -> String {
        format!("z9hG4bK{}", self.random.token(20))
    }

    fn place_of_call(&self, call: &CallId) -> Option<usize> {
        self.talks
            .iter()
            .position(|talk| talk.call.as_ref() == Some(call))
    }

    pub(super) fn talk_of_call(&mut self, call: &CallId) -> Option<&mut Talk> {
        let place = self.place_of_call(call)?;
        self.talks.get_mut(place)
    }
}

impl Talk {
    /// The page's tag and Contact.
    fn learn(&mut self, response: &Response) {
        if let Some(to) = response.headers.get("To") {
            self.theirs = to.to_owned();
        }
        if let Some(contact) = response.headers.get("Contact").and_then(NameAddr::parse) {
            self.target = contact.uri;
        }
    }
}

/// What the page's INVITE is refused with.
fn final_status(status: Option<u16>) -> u16 {
    status
        .filter(|status| (300..700).contains(status))
        .unwrap_or(480)
}

fn empty() -> Content {
    Content {
        content_type: String::new(),
        body: String::new(),
    }
}
