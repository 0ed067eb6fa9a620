//! One page: its calls, and what each of them waits for.
//!
//! Protocol of a call (ids and sequence numbers of an offer come back in what answers it):
//! 1. Page calls: `OFFER` up, `ANSWER` down once the callee sends a description, `OK` up.
//! 2. Page is called: `OFFER` down, `ANSWER` up, `OK` down. `BYE` up before that refuses. A caller without an offer: `INVITE` down,
//!    `OFFER` up, `ANSWER` down, `OK` up.
//! 3. The page changes the session with a further `OFFER`. While an offer is open in a call another one is a conflict.
//! 4. `BYE` up or down ends the call.

use super::message::{Attached, ErrorType, FromPage, Kind, Malformed, Roap};
use crate::Random;
use crate::api::{CallId, CallView, Content, Control, Data, Event, Problem, Reply};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Data for the SIP server, which reads it, and for the other party, which gets it as it is.
const FORM: &str = "application/x-www-form-urlencoded";
const OCTETS: &str = "application/octet-stream";
/// Most texts that wait for a page; one that does not fetch them is gone.
const WAITING: usize = 256;
/// Most calls of a page, those without an id yet included.
const CALLS: usize = 64;

/// A text for the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Who it comes from: the value of the `Pragma` header.
    pub peer: String,
    /// The body of the reply.
    pub body: String,
    /// Its place among the texts of the page.
    number: u64,
}

/// What the shell has to ask the gateway, to be answered by [`Page::handle_reply`].
#[derive(Debug, PartialEq)]
pub struct Ask {
    /// Names the ask.
    pub number: u64,
    /// What.
    pub kind: AskKind,
}

/// See [`Ask`].
#[derive(Debug, PartialEq)]
pub enum AskKind {
    /// Place a call.
    Call {
        /// Whom, as the page names it.
        to: String,
        /// The page's offer.
        offer: String,
        /// Data for the call.
        data: Data,
    },
    /// Take an incoming call.
    Answer(CallId, String),
    /// Renegotiate.
    Offer(CallId, String),
    /// Refuse an incoming call.
    Reject(CallId),
    /// Hang up.
    HangUp(CallId),
    /// Look at a call.
    View(CallId),
    /// Send data inside a call.
    Info(CallId, Content),
}

/// The translator of one page.
pub struct Page {
    random: Random,
    calls: Vec<Talk>,
    texts: VecDeque<Text>,
    told: u64,
    asked: u64,
}

/// A call as this protocol sees it.
struct Talk {
    /// The peer's name on the wire.
    peer: String,
    /// Known once the gateway has the call.
    call: Option<CallId>,
    /// The ask that waits for its reply, and what it means.
    waiting: Option<(u64, Waiting)>,
    /// The offer that is open.
    open: Option<Open>,
    /// Our session id in this call.
    own: String,
    /// The page's.
    theirs: Option<String>,
    /// Sequence number of the newest offer.
    seq: u32,
    incoming: bool,
    /// Data that came with the call, until the page has them.
    data: Data,
    /// The page hung up before the call had an id.
    unwanted: bool,
}

/// What the reply to an ask is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Placing,
    Answering,
    Offering,
    /// An offer that takes a call which came without one: the answer comes as an event.
    Taking,
    Viewing,
    Ending,
}

/// An offer without its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    /// The page's.
    Theirs,
    /// Ours, with its tiebreaker.
    Ours(u32),
    /// The caller made none: the page is to make one.
    Wanted,
}

impl Page {
    /// A page that has just signed in.
    pub fn new(random: Random) -> Self {
        Self {
            random,
            calls: Vec::new(),
            texts: VecDeque::new(),
            told: 0,
            asked: 0,
        }
    }

    /// The next text for the page; it is gone from here, so what does not reach the page has to come back by [`Self::put_back`].
    pub fn next_text(&mut self) -> Option<Text> {
        self.texts.pop_front()
    }

    /// A text that did not reach the page: it takes its place among those that wait.
    pub fn put_back(&mut self, text: Text) {
        let earlier = |waiting: &Text| waiting.number < text.number;
        let place = self.texts.partition_point(earlier);
        if self.texts.len() < WAITING {
            self.texts.insert(place, text);
        }
    }

    /// Whether a text waits.
    pub fn has_text(&self) -> bool {
        !self.texts.is_empty()
    }

    /// A text of the page for `peer`.
    ///
    /// # Errors
    /// It is none of the protocol; nothing has changed.
    pub fn handle_message(&mut self, peer: &str, body: &str) -> Result<Option<Ask>, Malformed> {
        Ok(match FromPage::parse(body)? {
            FromPage::Roap(roap) => self.handle_roap(peer, roap),
            FromPage::Bye => self.handle_bye(peer),
            FromPage::Statistics => self.ask_statistics(),
            FromPage::InfoMap(query) => self.inform(peer, FORM, query),
            FromPage::InfoPeer(query) => self.inform(peer, OCTETS, query),
        })
    }

    fn handle_roap(&mut self, peer: &str, roap: Roap) -> Option<Ask> {
        match roap.message_type {
            Kind::Offer => self.handle_offer(peer, roap),
            Kind::Answer => self.handle_answer(peer, roap),
            Kind::Shutdown => self.handle_bye(peer),
            // OK ends what was agreed already; an ERROR of the page means that it could not use ours.
            Kind::Ok => None,
            Kind::Error => self.handle_bye(peer),
        }
    }

    fn handle_offer(&mut self, peer: &str, roap: Roap) -> Option<Ask> {
        let Some(place) = self.find(peer) else {
            return self.place(peer, roap);
        };
        let talk = &mut self.calls[place];
        if let Some(Open::Ours(tiebreaker)) = talk.open {
            // The caller of the SIP side waits for the answer to ours: it stands, whoever's tiebreaker is higher.
            let error = if roap.tiebreaker == Some(tiebreaker) {
                ErrorType::DoubleConflict
            } else {
                ErrorType::Conflict
            };
            self.refuse(peer, &roap, error);
            return None;
        }
        if talk.open == Some(Open::Theirs) || talk.waiting.is_some() {
            self.refuse(peer, &roap, ErrorType::Conflict);
            return None;
        }
        let Some(call) = talk.call.clone() else {
            self.refuse(peer, &roap, ErrorType::NoMatch);
            return None;
        };
        let waiting = match talk.open.replace(Open::Theirs) {
            Some(Open::Wanted) => Waiting::Taking,
            _ => Waiting::Offering,
        };
        talk.seq = roap.seq;
        talk.theirs = roap.offerer_session_id.or_else(|| talk.theirs.take());
        let offer = roap.sdp.unwrap_or_default();
        Some(self.ask(place, waiting, AskKind::Offer(call, offer)))
    }

    /// The first offer to a peer places a call.
    fn place(&mut self, peer: &str, roap: Roap) -> Option<Ask> {
        if self.calls.len() >= CALLS || peer == "self" {
            self.refuse(peer, &roap, ErrorType::Refused);
            return None;
        }
        let own = self.random.token(16);
        self.calls.push(Talk {
            peer: peer.to_owned(),
            call: None,
            waiting: None,
            open: Some(Open::Theirs),
            own,
            theirs: roap.offerer_session_id,
            seq: roap.seq,
            incoming: false,
            data: Data::new(),
            unwanted: false,
        });
        let kind = AskKind::Call {
            to: peer.to_owned(),
            offer: roap.sdp.unwrap_or_default(),
            data: roap
                .attached
                .into_iter()
                .map(|attached| (attached.key, attached.value))
                .collect(),
        };
        let place = self.calls.len() - 1;
        Some(self.ask(place, Waiting::Placing, kind))
    }

    fn handle_answer(&mut self, peer: &str, roap: Roap) -> Option<Ask> {
        let place = self.find(peer);
        let ours = |talk: &Talk| {
            matches!(talk.open, Some(Open::Ours(_)))
                && talk.waiting.is_none()
                && roap.seq == talk.seq
                && roap
                    .offerer_session_id
                    .as_deref()
                    .is_none_or(|id| id == talk.own)
        };
        let Some(place) = place.filter(|place| ours(&self.calls[*place])) else {
            self.refuse(peer, &roap, ErrorType::NoMatch);
            return None;
        };
        let talk = &mut self.calls[place];
        talk.theirs = roap.answerer_session_id.or_else(|| talk.theirs.take());
        let call = talk.call.clone()?;
        let answer = roap.sdp.unwrap_or_default();
        Some(self.ask(place, Waiting::Answering, AskKind::Answer(call, answer)))
    }

    fn handle_bye(&mut self, peer: &str) -> Option<Ask> {
        let place = self.find(peer)?;
        let talk = &mut self.calls[place];
        let Some(call) = talk.call.clone() else {
            // Its id is on the way.
            talk.unwanted = true;
            return None;
        };
        let unanswered = talk.incoming && matches!(talk.open, Some(Open::Ours(_) | Open::Wanted));
        let kind = if unanswered {
            AskKind::Reject(call)
        } else {
            AskKind::HangUp(call)
        };
        Some(self.ask(place, Waiting::Ending, kind))
    }

    fn ask_statistics(&mut self) -> Option<Ask> {
        let place = self
            .calls
            .iter()
            .position(|talk| talk.call.is_some() && talk.waiting.is_none())?;
        let call = self.calls[place].call.clone()?;
        Some(self.ask(place, Waiting::Viewing, AskKind::View(call)))
    }

    /// Data inside a call: nothing waits for its reply.
    fn inform(&mut self, peer: &str, content_type: &str, body: String) -> Option<Ask> {
        let call = self
            .find(peer)
            .and_then(|place| self.calls[place].call.clone());
        let Some(call) = call else {
            self.refuse(peer, &Roap::new(Kind::Error, 0), ErrorType::NoMatch);
            return None;
        };
        let content = Content {
            content_type: content_type.to_owned(),
            body,
        };
        self.asked += 1;
        Some(Ask {
            number: self.asked,
            kind: AskKind::Info(call, content),
        })
    }

    fn ask(&mut self, place: usize, waiting: Waiting, kind: AskKind) -> Ask {
        self.asked += 1;
        let number = self.asked;
        self.calls[place].waiting = Some((number, waiting));
        Ask { number, kind }
    }

    /// The gateway's reply to an ask; another ask may follow from it.
    pub fn handle_reply(&mut self, number: u64, reply: Result<Reply, Problem>) -> Option<Ask> {
        let place = self
            .calls
            .iter()
            .position(|talk| talk.waiting.is_some_and(|(asked, _)| asked == number))?;
        let (_, waiting) = self.calls[place].waiting.take()?;
        match (waiting, reply) {
            (Waiting::Placing, Ok(Reply::Call(view))) => {
                let talk = &mut self.calls[place];
                talk.call = Some(view.id.clone());
                if talk.unwanted {
                    return Some(self.ask(place, Waiting::Ending, AskKind::HangUp(view.id)));
                }
            }
            (Waiting::Placing, _) => {
                self.fail(place, ErrorType::Refused);
                self.bye(place);
            }
            (Waiting::Answering, Ok(_)) => {
                let talk = &mut self.calls[place];
                talk.open = None;
                let ok = talk.stamped(Kind::Ok, true);
                let peer = talk.peer.clone();
                self.push(peer, ok.text());
            }
            (Waiting::Offering, Ok(Reply::Answered(answered))) => {
                self.answer(place, &answered.answer)
            }
            (Waiting::Taking, Ok(_)) => {}
            (Waiting::Taking, Err(_)) => {
                self.fail(place, ErrorType::Failed);
                self.calls[place].open = Some(Open::Wanted);
            }
            (Waiting::Answering | Waiting::Offering, _) => {
                self.fail(place, ErrorType::Failed);
                if waiting == Waiting::Offering {
                    self.calls[place].open = None;
                }
            }
            (Waiting::Viewing, Ok(Reply::Call(view))) => {
                let peer = self.calls[place].peer.clone();
                self.push(peer, format!("PUT-STATS {}", statistics(&view)));
            }
            (Waiting::Viewing | Waiting::Ending, _) => {}
        }
        None
    }

    /// An event of the page's session.
    pub fn handle_event(&mut self, event: &Event) {
        match event {
            Event::Incoming {
                call,
                from,
                data,
                without_offer,
                offer,
                ..
            } => {
                let offer = Some(offer.as_str()).filter(|_| !without_offer);
                self.incoming(call, from, data.clone(), offer);
            }
            Event::Answer { call, answer, .. } => {
                if let Some(place) = self.place_of(call) {
                    self.answer(place, answer);
                }
            }
            Event::Info { call, content } => self.tell(call, format!("INFO-PEER {}", content.body)),
            Event::Control { call, control } => {
                let text = match control {
                    Control::Talk => "EVENT-TALK",
                    Control::Hold => "EVENT-HOLD",
                };
                self.tell(call, text.to_owned());
            }
            Event::Ended { call, .. } => {
                if let Some(place) = self.place_of(call) {
                    self.bye(place);
                }
            }
            _ => {}
        }
    }

    /// A text about a call that the page knows.
    fn tell(&mut self, call: &CallId, body: String) {
        if let Some(place) = self.place_of(call) {
            let peer = self.calls[place].peer.clone();
            self.push(peer, body);
        }
    }

    /// Somebody calls; without an offer the page is asked for one.
    fn incoming(&mut self, call: &CallId, from: &str, data: Data, offer: Option<&str>) {
        if self.calls.len() >= CALLS {
            return;
        }
        let tiebreaker = self.random.u32();
        let mut talk = Talk {
            peer: self.name_of(from),
            call: Some(call.clone()),
            waiting: None,
            open: Some(offer.map_or(Open::Wanted, |_| Open::Ours(tiebreaker))),
            own: self.random.token(16),
            theirs: None,
            seq: 1,
            incoming: true,
            data,
            unwanted: false,
        };
        let text = match offer {
            None => "INVITE".to_owned(),
            Some(offer) => {
                let mut roap = talk.stamped(Kind::Offer, true).with_sdp(offer);
                roap.tiebreaker = Some(tiebreaker);
                roap.attached = talk.take_data();
                roap.text()
            }
        };
        let peer = talk.peer.clone();
        self.calls.push(talk);
        self.push(peer, text);
    }

    /// The user part of an address, made unlike the peers of the other calls.
    fn name_of(&self, from: &str) -> String {
        let rest = from.split_once(':').map_or(from, |(_, rest)| rest);
        let user = rest.split(['@', ';']).next().unwrap_or_default();
        let user = if user.is_empty() { "anonymous" } else { user };
        // It goes into a header: nothing but what a header may have.
        let user: String = user
            .chars()
            .filter(char::is_ascii_graphic)
            .take(128)
            .collect();
        let taken = |name: &str| self.find(name).is_some();
        if !taken(&user) {
            return user;
        }
        let mut numbered = (2..).map(|number| format!("{user}~{number}"));
        numbered.find(|name| !taken(name)).unwrap_or(user)
    }

    /// The page's open offer has its answer.
    fn answer(&mut self, place: usize, sdp: &str) {
        let talk = &mut self.calls[place];
        if talk.open != Some(Open::Theirs) {
            return;
        }
        talk.open = None;
        let mut roap = talk.stamped(Kind::Answer, false).with_sdp(sdp);
        roap.attached = talk.take_data();
        let peer = talk.peer.clone();
        self.push(peer, roap.text());
    }

    fn fail(&mut self, place: usize, error: ErrorType) {
        let talk = &self.calls[place];
        let mut roap = talk.stamped(Kind::Error, talk.open != Some(Open::Theirs));
        roap.error_type = Some(error);
        let peer = talk.peer.clone();
        self.push(peer, roap.text());
    }

    /// Refuses a message that belongs to nothing here; its ids and number go back.
    fn refuse(&mut self, peer: &str, roap: &Roap, error: ErrorType) {
        let mut refusal = Roap::new(Kind::Error, roap.seq);
        refusal
            .offerer_session_id
            .clone_from(&roap.offerer_session_id);
        refusal
            .answerer_session_id
            .clone_from(&roap.answerer_session_id);
        refusal.error_type = Some(error);
        let peer = peer
            .chars()
            .filter(char::is_ascii_graphic)
            .take(128)
            .collect();
        self.push(peer, refusal.text());
    }

    fn bye(&mut self, place: usize) {
        let talk = self.calls.remove(place);
        self.push(talk.peer, "BYE".to_owned());
    }

    fn push(&mut self, peer: String, body: String) {
        if self.texts.len() == WAITING {
            self.texts.pop_front();
        }
        let number = self.told;
        self.told += 1;
        self.texts.push_back(Text { peer, body, number });
    }

    fn find(&self, peer: &str) -> Option<usize> {
        self.calls.iter().position(|talk| talk.peer == peer)
    }

    fn place_of(&self, call: &CallId) -> Option<usize> {
        self.calls
            .iter()
            .position(|talk| talk.call.as_ref() == Some(call))
    }
}

impl Talk {
    /// The data of the call, for the first message that can carry them.
    fn take_data(&mut self) -> Vec<Attached> {
        let data = std::mem::take(&mut self.data).into_iter();
        data.map(|(key, value)| Attached { key, value }).collect()
    }

    /// A message of this call: `ours` if it belongs to an offer of ours.
    fn stamped(&self, kind: Kind, ours: bool) -> Roap {
        let mut roap = Roap::new(kind, self.seq);
        let (own, theirs) = (Some(self.own.clone()), self.theirs.clone());
        (roap.offerer_session_id, roap.answerer_session_id) =
            if ours { (own, theirs) } else { (theirs, own) };
        roap
    }
}

/// Statistics as the library's pages read them; from the page's side: what it receives is what we sent to it.
fn statistics(view: &CallView) -> Value {
    let direction = |statistics: &crate::api::DirectionStatistics| {
        json!({
            "packets": statistics.packets,
            "bytes": statistics.octets,
            "lost": statistics.lost,
            "jitter": statistics.jitter_ms,
        })
    };
    let statistics = &view.statistics;
    let medium = |to_browser, to_sip| {
        json!({
            "rtt": statistics.browser_rtt_ms,
            "rtt_max": statistics.browser_rtt_max_ms,
            "rtt_average": statistics.browser_rtt_average_ms,
            "rx": direction(to_browser),
            "tx": direction(to_sip),
        })
    };
    let mut report = json!({
        "timestamp": view.at_ms,
        "duration": view.duration_s,
        "audio": medium(&statistics.to_browser, &statistics.to_sip),
    });
    // Both media share the page's one transport, and with it the round trip.
    if let Some(video) = &statistics.video {
        report["video"] = medium(&video.to_browser, &video.to_sip);
    }
    report
}
