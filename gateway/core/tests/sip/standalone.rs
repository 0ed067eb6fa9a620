//! MESSAGE and voice mail notices outside of calls.

use std::time::Duration;

use gateway_core::sip::{Content, Event, InstantMessage, MessageSummary};

use crate::calls::nothing_left;
use crate::link::{Node, World, addr, stack};

fn hello() -> InstantMessage {
    InstantMessage {
        to: "sip:bob@192.0.2.2".into(),
        from: "sip:alice@192.0.2.1".into(),
        display_name: Some("Alice".into()),
        content: Content {
            content_type: "text/plain;charset=utf-8".into(),
            body: "héllo".into(),
        },
        ..InstantMessage::default()
    }
}

#[test]
fn a_message_is_delivered_answered_and_reported_once() {
    let mut world = World::pair();
    // The answer is lost twice: the repeated request gets it again, and no second event.
    let mut count = 0;
    world.lose(move |sent| {
        count += u32::from(sent.name() == "200 MESSAGE");
        sent.name() == "200 MESSAGE" && count < 3
    });
    let now = world.now;
    let sent = world.stack(0).message(now, hello()).unwrap();
    let request = world.until(1, |event| match event {
        Event::Message {
            request,
            call: None,
            contact_user,
            from_uri,
            from_name,
            content,
            ..
        } => {
            assert_eq!(
                (contact_user.as_str(), from_uri.as_str()),
                ("bob", "sip:alice@192.0.2.1")
            );
            assert_eq!(from_name.as_deref(), Some("Alice"));
            assert_eq!(content, &hello().content);
            Some(*request)
        }
        _ => None,
    });
    let now = world.now;
    world.stack(1).answer_request(now, request, 200);
    world.run(Duration::from_secs(40));
    let answered = Event::MessageAnswered {
        message: sent,
        status: 200,
        reason: "OK".into(),
    };
    assert_eq!(world.count(0, |event| *event == answered), 1);
    assert_eq!(
        world.count(1, |event| matches!(event, Event::Message { .. })),
        1
    );
    nothing_left(&mut world);
}

#[test]
fn a_message_that_nobody_answers_is_forgotten_on_both_sides() {
    let mut world = World::pair();
    let now = world.now;
    world.stack(0).message(now, hello()).unwrap();
    nothing_left(&mut world);
    assert!(matches!(
        &world.events[0].last().unwrap().1,
        Event::MessageAnswered { status: 408, .. }
    ));
}

fn notify(package: &str, kind: &str, body: &str) -> String {
    format!(
        "NOTIFY sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKm\r\n\
         From: <sip:vm@192.0.2.1>;tag=v\r\nTo: <sip:bob@192.0.2.2>\r\nCall-ID: m\r\nCSeq: 1 NOTIFY\r\n\
         Event: {package}\r\nSubscription-State: active\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn waiting_messages_are_told() {
    const SUMMARY: &str = "application/simple-message-summary";
    let body = "Messages-Waiting: yes\r\nVoice-Message: 3/0\r\n";
    for (package, kind, body, status) in [
        ("message-summary", SUMMARY, body, 200),
        ("message-summary", SUMMARY, "Voice-Message: 3/0\r\n", 400),
        ("message-summary", "text/plain", body, 415),
        ("presence", "application/pidf+xml", "<x/>", 481),
    ] {
        let mut world = World::new(vec![Node::Script(Box::new(|_| Vec::new())), stack(1)]);
        world.inject(addr(0), 1, notify(package, kind, body).as_bytes());
        let told = world.events[1].iter().find_map(|(_, event)| match event {
            Event::MessagesWaiting {
                request, summary, ..
            } => Some((*request, summary.clone())),
            _ => None,
        });
        if let Some((request, summary)) = told {
            let wanted = MessageSummary {
                waiting: true,
                account: None,
                new: 3,
                old: 0,
            };
            assert_eq!(summary, wanted);
            let now = world.now;
            world.stack(1).answer_request(now, request, 200);
            world.run(Duration::from_millis(1));
        }
        let name = format!("{status} NOTIFY");
        assert_eq!(world.log.last().unwrap().name(), name, "{package} {kind}");
    }
}
