//! Whole exchanges with a page as JsSIP and SIP.js send them, and with one that does not keep to the protocol.

mod delayed;

use super::*;
use crate::Random;
use crate::api::{
    Answered, CallId, Event, Header, PhoneRegistered, Problem, Reply, Statistics, Transfer,
};
use crate::sip::message::{Message, Method, Request, Response, parse};
use serde_json::json;

/// A page and the messages that it got.
struct Page {
    phone: Phone,
}

impl Page {
    fn new() -> Self {
        let mut state = 7_u8;
        let random = Random::new(move |bytes: &mut [u8]| {
            for byte in bytes {
                state = state.wrapping_mul(181).wrapping_add(41);
                *byte = state;
            }
        });
        let phone = Phone::new(random);
        Self { phone }
    }

    /// One that is registered as alice.
    fn registered() -> Self {
        let mut page = Self::new();
        page.say(&request("REGISTER sip:example.org", 1, "REGISTER", "", ""));
        let ask = page.ask();
        let ok = PhoneRegistered {
            status: 200,
            reason: "OK".into(),
            expires_s: 60,
            headers: Vec::new(),
            before: None,
        };
        page.phone
            .handle_reply(ask.number, Ok(Reply::Registered(ok)));
        page.response(200);
        page
    }

    fn say(&mut self, text: &str) {
        self.phone.handle_message(text.as_bytes());
    }

    fn ask(&mut self) -> Ask {
        self.phone.next_ask().expect("the gateway is asked")
    }

    fn message(&mut self) -> Message {
        parse(&self.phone.next_message().expect("a message waits")).expect("it is SIP")
    }

    fn response(&mut self, status: u16) -> Response {
        match self.message() {
            Message::Response(response) if response.status == status => response,
            other => panic!("not {status}: {other:?}"),
        }
    }

    fn request(&mut self, method: Method) -> Request {
        match self.message() {
            Message::Request(request) if request.method == method => request,
            other => panic!("not {method}: {other:?}"),
        }
    }

    fn silent(&mut self) {
        assert_eq!(self.phone.next_message(), None);
        assert!(self.phone.next_ask().is_none());
    }
}

/// A request of the page; `more` are further header lines, `to_tag` makes it one inside a call.
fn request(line: &str, cseq: u32, method: &str, to_tag: &str, more: &str) -> String {
    with_body(line, cseq, method, to_tag, more, "")
}

fn with_body(line: &str, cseq: u32, method: &str, to_tag: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{line} SIP/2.0\r\nVia: SIP/2.0/WS page.invalid;branch=z9hG4bK{cseq}{method}\r\nMax-Forwards: 70\r\n\
         To: <sip:echo@example.org>{to_tag}\r\nFrom: \"Alice\" <sip:alice@example.org>;tag=page\r\nCall-ID: call-1\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:alice@page.invalid;transport=ws>;expires=600\r\n{more}\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

fn invite(cseq: u32, more: &str) -> String {
    let more = format!("Content-Type: application/sdp\r\n{more}");
    with_body(
        "INVITE sip:echo@example.org",
        cseq,
        "INVITE",
        "",
        &more,
        "v=0 offer",
    )
}

fn id() -> CallId {
    CallId("c1".into())
}

fn view() -> Result<Reply, Problem> {
    let view = serde_json::from_value(json!({
        "id": "c1", "direction": "outgoing", "state": "calling", "peer": "sip:echo@example.org",
        "codec": null, "suite": null, "dtls": null, "to_sip": null, "to_browser": null, "duration_s": 1.5,
        "statistics": Statistics::default(),
    }));
    Ok(Reply::Call(Box::new(view.unwrap())))
}

fn ended(status: Option<u16>) -> Event {
    let ended = json!({"type": "call.ended", "call": "c1", "by": "sip", "status": status, "reason": "over"});
    serde_json::from_value(ended).unwrap()
}

/// A page whose call to echo the gateway has.
fn calling() -> Page {
    let mut page = Page::new();
    page.say(&invite(1, ""));
    page.response(100);
    let ask = page.ask();
    assert!(matches!(&ask.kind, AskKind::Call(call)
        if call.to == "sip:echo@example.org" && call.offer.as_deref() == Some("v=0 offer") && call.phone.display_name.as_deref() == Some("Alice")));
    page.phone.handle_reply(ask.number, view());
    page
}

/// The same, answered; gives the To value with our tag.
fn answered() -> (Page, String) {
    let mut page = calling();
    let (call, answer) = (id(), "v=0 answer".to_owned());
    page.phone.handle_event(Event::Answer {
        call,
        answer,
        early: false,
    });
    page.phone.handle_event(Event::Answered { call: id() });
    let ok = page.response(200);
    assert_eq!(ok.body, b"v=0 answer");
    let tag = ok.headers.to_tag().unwrap().to_owned();
    page.say(&request(
        "ACK sip:x@gateway.invalid",
        1,
        "ACK",
        &format!(";tag={tag}"),
        "",
    ));
    page.silent();
    (page, format!(";tag={tag}"))
}

#[test]
fn a_registration_passes_the_challenge_to_the_page_and_its_answer_to_the_server() {
    let mut page = Page::new();
    page.say(&request("REGISTER sip:example.org", 1, "REGISTER", "", ""));
    let ask = page.ask();
    let AskKind::Register(register) = &ask.kind else {
        panic!("no registration");
    };
    assert_eq!(
        (register.aor.as_str(), register.registrar.as_str()),
        ("sip:echo@example.org", "sip:example.org")
    );
    assert_eq!(
        (
            register.expires_s,
            register.cseq,
            register.authorization.len()
        ),
        (600, 1, 0)
    );
    let challenge = "Digest realm=\"example.org\", nonce=\"n\"";
    let challenged = PhoneRegistered {
        status: 401,
        reason: "Unauthorized".into(),
        expires_s: 0,
        headers: vec![Header {
            name: "WWW-Authenticate".into(),
            value: challenge.into(),
        }],
        before: None,
    };
    page.phone
        .handle_reply(ask.number, Ok(Reply::Registered(challenged)));
    assert_eq!(
        page.response(401).headers.get("WWW-Authenticate"),
        Some(challenge)
    );
    assert!(!page.phone.is_settled());
    page.say(&request(
        "REGISTER sip:example.org",
        2,
        "REGISTER",
        "",
        "Authorization: Digest username=\"alice\"\r\n",
    ));
    let ask = page.ask();
    assert!(
        matches!(&ask.kind, AskKind::Register(register) if register.authorization[0].value.contains("alice"))
    );
    let ok = PhoneRegistered {
        status: 200,
        reason: "OK".into(),
        expires_s: 60,
        headers: Vec::new(),
        before: None,
    };
    page.phone
        .handle_reply(ask.number, Ok(Reply::Registered(ok)));
    let contact = page
        .response(200)
        .headers
        .get("Contact")
        .unwrap()
        .to_owned();
    assert_eq!(contact, "<sip:alice@page.invalid;transport=ws>;expires=60");
    assert!(page.phone.is_settled());
}

#[test]
fn a_page_calls_holds_and_hangs_up() {
    let (mut page, tag) = answered();
    let more = "Content-Type: application/sdp\r\n";
    page.say(&with_body(
        "INVITE sip:x@gateway.invalid",
        2,
        "INVITE",
        &tag,
        more,
        "v=0 hold",
    ));
    let ask = page.ask();
    assert!(
        matches!(&ask.kind, AskKind::Offer(call, offer) if *call == id() && offer == "v=0 hold")
    );
    // Another one before the answer: RFC 3261 section 14.2.
    page.say(&with_body(
        "INVITE sip:x@gateway.invalid",
        3,
        "INVITE",
        &tag,
        more,
        "v=0 again",
    ));
    page.response(491);
    let answer = "v=0 held".to_owned();
    page.phone
        .handle_reply(ask.number, Ok(Reply::Answered(Answered { answer })));
    assert_eq!(page.response(200).body, b"v=0 held");
    page.say(&request("BYE sip:x@gateway.invalid", 4, "BYE", &tag, ""));
    page.response(200);
    assert!(matches!(page.ask().kind, AskKind::HangUp(call) if call == id()));
    page.phone.handle_event(ended(None));
    page.silent();
}

#[test]
fn a_challenge_to_the_invite_reaches_the_page() {
    let mut page = calling();
    let challenge = Header {
        name: "Proxy-Authenticate".into(),
        value: "Digest realm=\"r\", nonce=\"n\"".into(),
    };
    page.phone.handle_event(Event::Challenged {
        call: id(),
        challenges: vec![challenge],
    });
    page.phone.handle_event(ended(Some(407)));
    let refusal = page.response(407);
    assert_eq!(
        refusal.headers.get("Proxy-Authenticate"),
        Some("Digest realm=\"r\", nonce=\"n\"")
    );
    page.say(&request("ACK sip:echo@example.org", 1, "ACK", ";tag=x", ""));
    page.say(&invite(
        2,
        "Proxy-Authorization: Digest username=\"alice\"\r\n",
    ));
    page.response(100);
    assert!(
        matches!(page.ask().kind, AskKind::Call(call) if call.phone.authorization[0].name == "Proxy-Authorization")
    );
}

#[test]
fn a_cancel_before_and_after_the_gateway_has_the_call_ends_it() {
    let mut page = Page::new();
    page.say(&invite(1, ""));
    page.response(100);
    let ask = page.ask();
    page.say(&request("CANCEL sip:echo@example.org", 1, "CANCEL", "", ""));
    page.response(200);
    page.response(487);
    page.silent();
    page.phone.handle_reply(ask.number, view());
    assert!(matches!(page.ask().kind, AskKind::HangUp(_)));
    page.phone.handle_event(ended(None));
    page.silent();

    let mut page = calling();
    page.say(&request("CANCEL sip:echo@example.org", 1, "CANCEL", "", ""));
    page.response(200);
    page.response(487);
    assert!(matches!(page.ask().kind, AskKind::HangUp(_)));
}

/// Somebody calls alice; gives the INVITE.
fn called(page: &mut Page) -> Request {
    let incoming = json!({"type": "call.incoming", "call": "c1", "from": "sip:bob@example.org", "from_name": "Bob", "offer": "v=0 theirs"});
    page.phone
        .handle_event(serde_json::from_value(incoming).unwrap());
    page.request(Method::Invite)
}

/// A response of the page to a request of ours.
fn answer_to(request: &Request, status: u16, body: &str) -> String {
    let field = |name| request.headers.get(name).unwrap();
    format!(
        "SIP/2.0 {status} Fine\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=page\r\nCall-ID: {}\r\nCSeq: {}\r\n\
         Contact: <sip:alice@page.invalid>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        field("Via"),
        field("From"),
        field("To"),
        field("Call-ID"),
        field("CSeq"),
        body.len()
    )
}

#[test]
fn a_page_is_called_and_answers() {
    let mut page = Page::registered();
    let invite = called(&mut page);
    assert_eq!(
        (invite.uri.as_str(), invite.body.as_slice()),
        ("sip:alice@page.invalid;transport=ws", &b"v=0 theirs"[..])
    );
    assert!(
        invite
            .headers
            .get("From")
            .unwrap()
            .starts_with("\"Bob\" <sip:bob@example.org>;tag=")
    );
    page.say(&answer_to(&invite, 180, ""));
    page.say(&answer_to(&invite, 200, "v=0 mine"));
    let ack = page.request(Method::Ack);
    assert_eq!(
        (ack.headers.cseq(), ack.headers.to_tag()),
        (Some((1, Method::Ack)), Some("page"))
    );
    let ask = page.ask();
    assert!(
        matches!(&ask.kind, AskKind::Answer(call, answer) if *call == id() && answer == "v=0 mine")
    );
    page.phone.handle_reply(ask.number, view());
    page.phone.handle_event(ended(None));
    assert_eq!(
        page.request(Method::Bye).headers.cseq(),
        Some((2, Method::Bye))
    );
    page.silent();
}

#[test]
fn a_page_refuses_or_is_too_late() {
    let mut page = Page::registered();
    let invite = called(&mut page);
    page.say(&answer_to(&invite, 486, ""));
    let ack = page.request(Method::Ack);
    assert_eq!(
        ack.headers.via().unwrap().branch(),
        invite.headers.via().unwrap().branch()
    );
    assert!(matches!(page.ask().kind, AskKind::Reject(call, 486) if call == id()));

    // The caller gives up: nothing is cancelled before the page has said anything.
    let invite = called(&mut page);
    page.phone.handle_event(ended(Some(487)));
    page.silent();
    page.say(&answer_to(&invite, 100, ""));
    let cancel = page.request(Method::Cancel);
    assert_eq!(
        cancel.headers.via().unwrap().branch(),
        invite.headers.via().unwrap().branch()
    );
    // Its 200 crosses ours.
    page.say(&answer_to(&invite, 200, "v=0 mine"));
    page.request(Method::Ack);
    page.request(Method::Bye);
    page.silent();
}

#[test]
fn a_page_that_is_not_registered_cannot_be_called() {
    let mut page = Page::new();
    let incoming = json!({"type": "call.incoming", "call": "c1", "from": "sip:bob@example.org", "from_name": null, "offer": "v=0"});
    page.phone
        .handle_event(serde_json::from_value(incoming).unwrap());
    assert!(matches!(page.ask().kind, AskKind::Reject(_, 480)));
}

#[test]
fn transfers_are_blind_or_to_the_other_call() {
    let (mut page, tag) = answered();
    page.say(&request(
        "REFER sip:x@gateway.invalid",
        2,
        "REFER",
        &tag,
        "Refer-To: <sip:carol@example.org>\r\n",
    ));
    let ask = page.ask();
    assert!(
        matches!(&ask.kind, AskKind::Transfer(_, Transfer { to: Some(to), call: None }) if to == "sip:carol@example.org")
    );
    page.phone.handle_reply(ask.number, Ok(Reply::Done));
    page.response(202);
    let told =
        json!({"type": "call.transfer", "call": "c1", "status": 200, "reason": "OK", "over": true});
    page.phone
        .handle_event(serde_json::from_value(told).unwrap());
    let notify = page.request(Method::Notify);
    assert_eq!(notify.body, b"SIP/2.0 200 OK\r\n");
    let refer = "Refer-To: <sip:carol@example.org?Replaces=call-1%3Bto-tag%3Da%3Bfrom-tag%3Db>\r\n";
    page.say(&request(
        "REFER sip:x@gateway.invalid",
        3,
        "REFER",
        &tag,
        refer,
    ));
    assert!(
        matches!(page.ask().kind, AskKind::Transfer(_, Transfer { to: None, call: Some(other) }) if other == id())
    );
    let refer = "Refer-To: <sip:carol@example.org?Replaces=other%3Bto-tag%3Da%3Bfrom-tag%3Db>\r\n";
    page.say(&request(
        "REFER sip:x@gateway.invalid",
        4,
        "REFER",
        &tag,
        refer,
    ));
    page.response(481);
}

#[test]
fn what_is_not_sip_or_does_not_fit_gets_its_answer_and_changes_nothing() {
    let mut page = Page::new();
    page.say("\r\n\r\n");
    assert_eq!(page.phone.next_message().as_deref(), Some(&b"\r\n"[..]));
    page.say("\r\n");
    page.say("hello");
    page.silent();
    for (line, method, tag, status) in [
        ("BYE sip:x@gateway.invalid", "BYE", ";tag=none", 481),
        ("CANCEL sip:echo@example.org", "CANCEL", "", 481),
        ("SUBSCRIBE sip:echo@example.org", "SUBSCRIBE", "", 405),
        ("DANCE sip:echo@example.org", "DANCE", "", 501),
        ("OPTIONS sip:echo@example.org", "OPTIONS", "", 200),
    ] {
        page.say(&request(line, 9, method, tag, ""));
        page.response(status);
        page.silent();
    }
    // The gateway refuses the call: its status in SIP's words.
    page.say(&invite(1, ""));
    page.response(100);
    let ask = page.ask();
    let problem = Problem::new(
        422,
        "no-common-codec",
        "Offer cannot be used",
        "no \"codec\"",
    );
    page.phone.handle_reply(ask.number, Err(problem));
    let refusal = page.response(488);
    assert_eq!(
        refusal.headers.get("Warning"),
        Some("399 gateway.invalid \"no 'codec'\"")
    );
    assert!(!page.phone.is_settled());
}
