//! Whole exchanges with a page that follows the draft, and with one that does not.

use super::*;
use crate::Random;
use crate::api::{Answered, CallId, Content, Control, Event, Problem, Reply};
use serde_json::{Value, json};

fn page() -> Page {
    let mut state = 7_u8;
    Page::new(Random::new(move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(181).wrapping_add(41);
            *byte = state;
        }
    }))
}

fn offer(seq: u32) -> String {
    let roap = json!({"messageType": "OFFER", "offererSessionId": "page-1", "answererSessionId": null, "seq": seq,
        "tiebreaker": 5, "sdp": "v=0 page", "attacheddata": [{"key": "order", "value": "42"}]});
    format!("RSMP {roap}")
}

/// The next text, which has to be `SDP {json}` of this peer.
fn sdp(page: &mut Page, peer: &str) -> Value {
    let text = page.next_text().expect("a text waits");
    assert_eq!(text.peer, peer);
    let json = text.body.strip_prefix("SDP ").expect("SDP");
    serde_json::from_str(json).unwrap()
}

/// The next text: of whom, and what.
fn next(page: &mut Page) -> (String, String) {
    let text = page.next_text().expect("a text waits");
    (text.peer, text.body)
}

fn id(name: &str) -> CallId {
    CallId(name.into())
}

fn view(name: &str) -> Result<Reply, Problem> {
    let mut statistics = json!(crate::api::Statistics::default());
    statistics["browser_rtt_max_ms"] = json!(30.0);
    statistics["browser_rtt_average_ms"] = json!(20.0);
    let view: crate::api::CallView = serde_json::from_value(json!({
        "id": name, "direction": "outgoing", "state": "calling", "peer": "sip:echo@example.org",
        "codec": null, "suite": null, "dtls": null, "to_sip": null, "to_browser": null, "duration_s": 1.5,
        "at_ms": 1_800_000_000_000_u64, "statistics": statistics,
    }))
    .unwrap();
    Ok(Reply::Call(Box::new(view)))
}

fn answered(answer: &str) -> Event {
    Event::Answer {
        call: id("c1"),
        answer: answer.into(),
        early: false,
    }
}

fn refused() -> Result<Reply, Problem> {
    Err(Problem::new(400, "bad", "Bad", "no"))
}

/// A call to echo that the gateway has.
fn calling() -> Page {
    let mut page = page();
    let ask = page.handle_message("echo", &offer(1)).unwrap().unwrap();
    assert!(matches!(&ask.kind, AskKind::Call { to, offer, data }
        if to == "echo" && offer == "v=0 page" && data["order"] == "42"));
    assert_eq!(page.handle_reply(ask.number, view("c1")), None);
    page
}

#[test]
fn a_page_calls_is_answered_changes_the_session_and_hangs_up() {
    let mut page = calling();
    assert!(!page.has_text());
    page.handle_event(&answered(
        "v=0\r\nm=audio 9 x\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n",
    ));
    let answer = sdp(&mut page, "echo");
    assert_eq!(
        (answer["messageType"].as_str(), answer["seq"].as_u64()),
        (Some("ANSWER"), Some(1))
    );
    assert_eq!(answer["offererSessionId"], "page-1");
    assert_eq!(
        answer["Candidates"][0]["candidate"],
        "candidate:1 1 udp 1 192.0.2.1 9 typ host"
    );
    assert_eq!(
        (
            answer["Candidates"][0]["sdpMLineIndex"].as_u64(),
            answer["Candidates"][0]["sdpMid"].as_str()
        ),
        (Some(0), Some("0"))
    );
    let ok = format!("RSMP {}", json!({"messageType": "OK", "seq": 1}));
    assert_eq!(page.handle_message("echo", &ok), Ok(None));
    // The answer that repeats the early one is not told twice.
    page.handle_event(&answered("v=0 again"));
    assert!(!page.has_text());

    let ask = page.handle_message("echo", &offer(2)).unwrap().unwrap();
    assert_eq!(ask.kind, AskKind::Offer(id("c1"), "v=0 page".into()));
    page.handle_reply(
        ask.number,
        Ok(Reply::Answered(Answered {
            answer: "v=0 two".into(),
        })),
    );
    let second = sdp(&mut page, "echo");
    assert_eq!(
        (second["seq"].as_u64(), second["sdp"].as_str()),
        (Some(2), Some("v=0 two"))
    );

    let ask = page.handle_message("echo", "BYE").unwrap().unwrap();
    assert_eq!(ask.kind, AskKind::HangUp(id("c1")));
    page.handle_reply(ask.number, Ok(Reply::Done));
    page.handle_event(&ended("c1"));
    assert_eq!(next(&mut page), ("echo".into(), "BYE".into()));
    assert_eq!(page.handle_message("echo", "BYE"), Ok(None));
}

fn ended(call: &str) -> Event {
    Event::Ended {
        call: id(call),
        by: "sip".into(),
        status: None,
        reason: "over".into(),
        causes: Vec::new(),
    }
}

fn incoming(call: &str) -> Event {
    serde_json::from_value(json!({"type": "call.incoming", "call": call, "from": "sip:7001@example.org",
        "name": null, "offer": "v=0 gateway", "display_name": null, "to": "sip:a@b", "headers": []}))
    .unwrap()
}

#[test]
fn a_page_is_called_and_answers() {
    let mut page = page();
    page.handle_event(&incoming("c2"));
    let offer = sdp(&mut page, "7001");
    assert_eq!(
        (offer["messageType"].as_str(), offer["sdp"].as_str()),
        (Some("OFFER"), Some("v=0 gateway"))
    );
    let answer = |seq: u64| {
        format!(
            "RSMP {}",
            json!({"messageType": "ANSWER", "offererSessionId": offer["offererSessionId"],
            "answererSessionId": "page-9", "seq": seq, "sdp": "v=0 answer"})
        )
    };
    // An answer to another offer changes nothing.
    assert_eq!(page.handle_message("7001", &answer(9)), Ok(None));
    assert_eq!(sdp(&mut page, "7001")["errorType"], "NOMATCH");
    let ask = page.handle_message("7001", &answer(1)).unwrap().unwrap();
    assert_eq!(ask.kind, AskKind::Answer(id("c2"), "v=0 answer".into()));
    page.handle_reply(ask.number, view("c2"));
    let ok = sdp(&mut page, "7001");
    assert_eq!(
        (ok["messageType"].as_str(), ok["answererSessionId"].as_str()),
        (Some("OK"), Some("page-9"))
    );
}

#[test]
fn a_page_refuses_a_call_by_bye_and_two_callers_of_one_number_have_two_names() {
    let mut page = page();
    page.handle_event(&incoming("c2"));
    page.handle_event(&incoming("c3"));
    sdp(&mut page, "7001");
    sdp(&mut page, "7001~2");
    let ask = page.handle_message("7001~2", "BYE").unwrap().unwrap();
    assert_eq!(ask.kind, AskKind::Reject(id("c3")));
}

#[test]
fn both_offer_at_once() {
    let mut page = page();
    page.handle_event(&incoming("c2"));
    let ours = sdp(&mut page, "7001");
    assert_eq!(page.handle_message("7001", &offer(1)), Ok(None));
    let error = sdp(&mut page, "7001");
    assert_eq!(
        (error["messageType"].as_str(), error["errorType"].as_str()),
        (Some("ERROR"), Some("CONFLICT"))
    );
    let same = offer(1).replace(
        "\"tiebreaker\":5",
        &format!("\"tiebreaker\":{}", ours["tiebreaker"]),
    );
    assert_eq!(page.handle_message("7001", &same), Ok(None));
    assert_eq!(sdp(&mut page, "7001")["errorType"], "DOUBLECONFLICT");
    // Our offer still stands.
    let answer = format!(
        "RSMP {}",
        json!({"messageType": "ANSWER", "seq": 1, "sdp": "v=0 answer"})
    );
    assert!(page.handle_message("7001", &answer).unwrap().is_some());
}

#[test]
fn a_call_that_the_gateway_does_not_place_is_an_error_and_a_bye() {
    let mut page = page();
    let ask = page.handle_message("echo", &offer(1)).unwrap().unwrap();
    page.handle_reply(ask.number, refused());
    let error = sdp(&mut page, "echo");
    assert_eq!(
        (
            error["errorType"].as_str(),
            error["offererSessionId"].as_str()
        ),
        (Some("REFUSED"), Some("page-1"))
    );
    assert_eq!(page.next_text().unwrap().body, "BYE");
    assert!(page.handle_message("echo", &offer(1)).unwrap().is_some());
}

#[test]
fn a_page_that_hangs_up_before_the_call_has_a_name_ends_it_when_it_has() {
    let mut page = page();
    let ask = page.handle_message("echo", &offer(1)).unwrap().unwrap();
    assert_eq!(page.handle_message("echo", "BYE"), Ok(None));
    let ask = page.handle_reply(ask.number, view("c1")).unwrap();
    assert_eq!(ask.kind, AskKind::HangUp(id("c1")));
}

#[test]
fn an_offer_that_fails_leaves_the_call_as_it_was() {
    let mut page = calling();
    page.handle_event(&answered("v=0 one"));
    sdp(&mut page, "echo");
    let ask = page.handle_message("echo", &offer(2)).unwrap().unwrap();
    // A second one meanwhile.
    assert_eq!(page.handle_message("echo", &offer(3)), Ok(None));
    assert_eq!(sdp(&mut page, "echo")["errorType"], "CONFLICT");
    page.handle_reply(ask.number, refused());
    assert_eq!(sdp(&mut page, "echo")["errorType"], "FAILED");
    assert!(page.handle_message("echo", &offer(4)).unwrap().is_some());
}

#[test]
fn statistics_are_seen_from_the_pages_side() {
    let mut page = calling();
    let ask = page.handle_message("self", "GET-STATS").unwrap().unwrap();
    assert_eq!(ask.kind, AskKind::View(id("c1")));
    page.handle_reply(ask.number, view("c1"));
    let text = page.next_text().unwrap();
    let json: Value = serde_json::from_str(text.body.strip_prefix("PUT-STATS ").unwrap()).unwrap();
    assert_eq!(json["duration"], 1.5);
    assert_eq!(json["timestamp"], 1_800_000_000_000_u64);
    assert_eq!(
        (&json["audio"]["rtt_max"], &json["audio"]["rtt_average"]),
        (&json!(30.0), &json!(20.0))
    );
    assert!(json.get("video").is_none(), "the call has none");
    assert_eq!(json["audio"]["rx"]["packets"], 0);
}

#[test]
fn what_is_none_of_the_protocol_changes_nothing() {
    let mut page = page();
    for body in [
        "",
        "HELLO",
        "RSMP",
        "RSMP {}",
        "RSMP {\"messageType\":\"OFFER\",\"seq\":1}",
        "RSMP []",
        "bye",
    ] {
        assert!(page.handle_message("echo", body).is_err(), "{body}");
    }
    let long = json!({"messageType": "OFFER", "seq": 1, "sdp": "v=0", "offererSessionId": "x".repeat(200)});
    assert!(
        page.handle_message("echo", &format!("RSMP {long}"))
            .is_err()
    );
    assert!(!page.has_text());
    for _ in 0..1000 {
        let roap = json!({"messageType": "ANSWER", "seq": 1, "sdp": "v=0"});
        assert_eq!(
            page.handle_message("nobody", &format!("RSMP {roap}")),
            Ok(None)
        );
    }
    let first = page.next_text().unwrap();
    page.put_back(first.clone());
    assert_eq!(page.next_text().as_ref(), Some(&first));
    let second = page.next_text().unwrap();
    page.put_back(second.clone());
    page.put_back(first.clone());
    assert_eq!(page.next_text(), Some(first));
    assert_eq!(page.next_text(), Some(second));
    let mut texts = 2;
    while page.next_text().is_some() {
        texts += 1;
    }
    assert_eq!(texts, 256);
}

#[test]
fn data_goes_both_ways_and_the_server_steers_the_page() {
    let mut page = calling();
    for (keyword, content_type) in [
        ("INFO-MAP", "application/x-www-form-urlencoded"),
        ("INFO-PEER", "application/octet-stream"),
    ] {
        let text = format!("{keyword} a=1&b=2");
        let ask = page.handle_message("echo", &text).unwrap().unwrap();
        let content = Content {
            content_type: content_type.into(),
            body: "a=1&b=2".into(),
        };
        assert_eq!(ask.kind, AskKind::Info(id("c1"), content));
        assert_eq!(page.handle_reply(ask.number, Ok(Reply::Done)), None);
    }
    let content = Content {
        content_type: "application/octet-stream".into(),
        body: "c=3".into(),
    };
    page.handle_event(&Event::Info {
        call: id("c1"),
        content,
    });
    for control in [Control::Talk, Control::Hold] {
        page.handle_event(&Event::Control {
            call: id("c1"),
            control,
        });
    }
    let texts: Vec<_> = std::iter::from_fn(|| page.next_text()).collect();
    let bodies: Vec<_> = texts.iter().map(|text| text.body.as_str()).collect();
    assert_eq!(bodies, ["INFO-PEER c=3", "EVENT-TALK", "EVENT-HOLD"]);
    assert!(texts.iter().all(|text| text.peer == "echo"));
    // No such call: an ERROR, nothing asked.
    assert_eq!(page.handle_message("nobody", "INFO-MAP x=1"), Ok(None));
    assert_eq!(sdp(&mut page, "nobody")["errorType"], "NOMATCH");
}

/// Row S-12: a caller without an offer.
#[test]
fn a_page_is_asked_for_an_offer_and_makes_it() {
    let mut page = page();
    let event = json!({"type": "call.incoming", "call": "c2", "from": "sip:7001@example.org", "from_name": null,
        "offer": "v=0 gateway", "without_offer": true, "data": {"order": "42"}});
    page.handle_event(&serde_json::from_value(event).unwrap());
    assert_eq!(next(&mut page), ("7001".into(), "INVITE".into()));
    // One that cannot be used leaves the call where it was.
    let ask = page.handle_message("7001", &offer(1)).unwrap().unwrap();
    assert_eq!(ask.kind, AskKind::Offer(id("c2"), "v=0 page".into()));
    page.handle_reply(ask.number, refused());
    assert_eq!(sdp(&mut page, "7001")["errorType"], "FAILED");
    let ask = page.handle_message("7001", &offer(2)).unwrap().unwrap();
    page.handle_reply(ask.number, Ok(Reply::Done));
    assert!(!page.has_text(), "the answer comes with the ACK");
    // Meanwhile another one is a conflict.
    assert_eq!(page.handle_message("7001", &offer(3)), Ok(None));
    assert_eq!(sdp(&mut page, "7001")["errorType"], "CONFLICT");
    page.handle_event(&Event::Answer {
        call: id("c2"),
        answer: "v=0 answer".into(),
        early: false,
    });
    let answer = sdp(&mut page, "7001");
    assert_eq!(
        (answer["messageType"].as_str(), answer["seq"].as_u64()),
        (Some("ANSWER"), Some(2))
    );
    assert_eq!(
        answer["attacheddata"],
        json!([{"key": "order", "value": "42"}])
    );
    let ask = page.handle_message("7001", "BYE").unwrap().unwrap();
    assert_eq!(ask.kind, AskKind::HangUp(id("c2")));
}

#[test]
fn a_page_refuses_a_caller_without_an_offer() {
    let mut page = page();
    let event = json!({"type": "call.incoming", "call": "c2", "from": "sip:7001@example.org", "from_name": null,
        "offer": "v=0 gateway", "without_offer": true});
    page.handle_event(&serde_json::from_value(event).unwrap());
    let ask = page.handle_message("7001", "BYE").unwrap().unwrap();
    assert_eq!(ask.kind, AskKind::Reject(id("c2")));
}

/// Row S-17: data of an incoming call stand in its OFFER.
#[test]
fn data_of_a_call_reach_the_page() {
    let mut page = page();
    let event = json!({"type": "call.incoming", "call": "c2", "from": "sip:7001@example.org", "from_name": null,
        "offer": "v=0 gateway", "data": {"order": "42"}});
    page.handle_event(&serde_json::from_value(event).unwrap());
    let offer = sdp(&mut page, "7001");
    assert_eq!(
        offer["attacheddata"],
        json!([{"key": "order", "value": "42"}])
    );
}
