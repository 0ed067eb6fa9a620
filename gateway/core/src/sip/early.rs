//! Early dialogs of our INVITE: one for each fork that answered provisionally (RFC 3261 section 12.1, RFC 3262 section 4).
//!
//! 1. 101..199 with a new tag makes one, 199 ends one (RFC 6228).
//! 2. A reliable response is taken in its order only and confirmed by PRACK; what it describes is the answer, or, where
//!    our INVITE had no offer, the offer that the PRACK answers.
//! 3. The 2xx makes one of them the call's dialog; the others are hung up when they answer too.

use std::time::Instant;

use super::call::{Call, Calling};
use super::dialog::Dialog;
use super::event::{CallHandle, Event};
use super::exchange::{Exchange, Side};
use super::message::{Method, Response, sdp_of};
use super::outgoing::{Outgoing, Owner};
use super::stack::Stack;
use super::transaction::TransactionId;

/// More early dialogs of one INVITE are not told apart.
const MAX_EARLY: usize = 32;

pub(super) struct Early {
    pub(super) dialog: Dialog,
    pub(super) exchange: Exchange,
    /// 199 came.
    pub(super) gone: bool,
    /// The last reliable response that was taken.
    rseq: Option<u32>,
    /// RAck of the response whose offer waits for our answer.
    due: Option<String>,
}

impl Early {
    fn new(dialog: Dialog, offered: bool) -> Self {
        Self {
            dialog,
            exchange: Exchange::opened_by(offered.then_some(Side::Us)),
            gone: false,
            rseq: None,
            due: None,
        }
    }
}

impl Calling {
    /// The place of the early dialog that a response belongs to, made if it is new.
    fn fork_of(&mut self, sent: &super::message::Request, response: &Response) -> Option<usize> {
        let tag = response.headers.to_tag()?;
        let known = self
            .early
            .iter()
            .position(|early| early.dialog.remote_tag == tag);
        if known.is_some() || self.early.len() >= MAX_EARLY {
            return known;
        }
        let dialog = Dialog::from_response(sent, response, &self.contact_user);
        self.early.push(Early::new(dialog, self.offer.is_some()));
        Some(self.early.len() - 1)
    }

    /// The dialog that a 2xx makes, with what an early one already knew: its numbers and its descriptions.
    pub(super) fn win(
        &mut self,
        sent: &super::message::Request,
        response: &Response,
    ) -> (usize, Dialog, Exchange) {
        let mut dialog = Dialog::from_response(sent, response, &self.contact_user);
        let fork = self.fork_of(sent, response).unwrap_or(self.early.len());
        let Some(early) = self.early.get_mut(fork) else {
            return (fork, dialog, Exchange::default());
        };
        dialog.follow(&early.dialog);
        (fork, dialog, std::mem::take(&mut early.exchange))
    }
}

impl Stack {
    /// 101..199 to our INVITE, not cancelled.
    pub(super) fn early_response(
        &mut self,
        now: Instant,
        call: CallHandle,
        id: TransactionId,
        response: &Response,
    ) {
        let (Some(Call::Calling(calling)), Some(client)) =
            (self.calls.get_mut(&call), self.clients.get(&id))
        else {
            return;
        };
        let sdp = sdp_of(&response.headers, &response.body).unwrap_or_default();
        let Some(fork) = calling.fork_of(&client.request, response) else {
            let status = response.status;
            return self.io.event(Event::Provisional {
                call,
                status,
                fork: 0,
                sdp,
            });
        };
        let early = &mut calling.early[fork];
        early.dialog.learn(&response.headers);
        if response.status == 199 {
            early.gone = true;
            return;
        }
        match reliable_number(response) {
            Some((rseq, rack)) => {
                // Out of order, or again: it will be repeated until its turn comes, and its PRACK repeats itself.
                if early.rseq.is_some_and(|last| rseq != last.wrapping_add(1)) {
                    return;
                }
                early.rseq = Some(rseq);
                self.take_reliable(now, call, fork, rack, response.status, sdp);
            }
            None => {
                // What answers no offer of ours is a mere preview: only a reliable response can offer.
                let sdp = sdp.filter(|_| calling.offer.is_some());
                if sdp.is_some() {
                    early.exchange.remote.clone_from(&sdp);
                }
                self.io.event(Event::Provisional {
                    call,
                    status: response.status,
                    fork,
                    sdp,
                });
            }
        }
    }

    fn take_reliable(
        &mut self,
        now: Instant,
        call: CallHandle,
        fork: usize,
        rack: String,
        status: u16,
        sdp: Option<String>,
    ) {
        let Some(Call::Calling(calling)) = self.calls.get_mut(&call) else {
            return;
        };
        let offered = calling.offer.is_some();
        let early = &mut calling.early[fork];
        let mut event = |sdp| {
            let event = Event::Provisional {
                call,
                status,
                fork,
                sdp,
            };
            self.io.event(event);
        };
        match sdp {
            Some(sdp) if !offered && early.exchange.remote.is_none() => {
                early.exchange.open = Some(Side::Peer);
                early.exchange.remote = Some(sdp.clone());
                early.due = Some(rack);
                event(None);
                self.io.event(Event::Offered {
                    call,
                    fork,
                    early: true,
                    sdp,
                });
            }
            Some(_) if !offered => {
                event(None);
                self.send_prack(now, call, fork, rack, None);
            }
            Some(sdp) => {
                early.exchange.open = None;
                early.exchange.remote = Some(sdp.clone());
                event(Some(sdp));
                self.send_prack(now, call, fork, rack, None);
            }
            None => {
                event(None);
                self.send_prack(now, call, fork, rack, None);
            }
        }
    }

    /// Our answer to the offer in a reliable response of that fork; `false` if none is due.
    pub(super) fn answer_by_prack(
        &mut self,
        now: Instant,
        call: CallHandle,
        fork: usize,
        answer: &Result<String, u16>,
    ) -> bool {
        let Some(Call::Calling(calling)) = self.calls.get_mut(&call) else {
            return false;
        };
        let Some(early) = calling.early.get_mut(fork) else {
            return false;
        };
        match answer {
            Ok(sdp) => {
                let Some(rack) = early.due.take() else {
                    return false;
                };
                early.exchange.open = None;
                early.exchange.local = Some(sdp.clone());
                self.send_prack(now, call, fork, rack, Some(sdp.clone()));
            }
            // There is no way to refuse an offer in a response but to give the call up (RFC 3262 section 5).
            Err(_) if early.due.is_some() => self.hang_up(now, call),
            Err(_) => return false,
        }
        true
    }

    /// The call is being taken back: offers in reliable responses get answers that take nothing of them.
    pub(super) fn refuse_early_offers(&mut self, now: Instant, call: CallHandle) {
        let Some(Call::Calling(calling)) = self.calls.get_mut(&call) else {
            return;
        };
        let early = calling.early.iter_mut().enumerate();
        let due: Vec<_> = early
            .filter_map(|(fork, early)| {
                let offer = early.exchange.remote.clone().unwrap_or_default();
                Some((fork, early.due.take()?, offer))
            })
            .collect();
        for (fork, rack, offer) in due {
            let refusal = self.refusal_of(&offer);
            self.send_prack(now, call, fork, rack, refusal);
        }
    }

    fn send_prack(
        &mut self,
        now: Instant,
        call: CallHandle,
        fork: usize,
        rack: String,
        sdp: Option<String>,
    ) {
        let Some(Call::Calling(calling)) = self.calls.get_mut(&call) else {
            return;
        };
        let mut request = calling.early[fork].dialog.request(Method::Prack);
        request.headers.push("RAck", rack);
        request
            .headers
            .push("User-Agent", self.io.config.user_agent.clone());
        if let Some(sdp) = sdp {
            request.headers.push("Content-Type", "application/sdp");
            request.body = sdp.into_bytes();
        }
        calling.auth.apply(&mut request);
        let owner = Owner::Prack(call, fork);
        self.send(now, Outgoing::new(owner, request, None, true));
    }
}

/// RSeq, and the RAck that answers it, of a response that wants PRACK.
fn reliable_number(response: &Response) -> Option<(u32, String)> {
    let headers = &response.headers;
    if !headers.lists("Require", "100rel") {
        return None;
    }
    let rseq: u32 = headers.get("RSeq")?.trim().parse().ok()?;
    let (number, method) = headers.cseq()?;
    Some((rseq, format!("{rseq} {number} {method}")))
}
