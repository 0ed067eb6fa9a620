//! Reliable provisional responses (RFC 3262) in both roles: order, repetition, what they carry, and what waits for PRACK.

use std::time::Duration;

use gateway_core::sip::message::{Message, Response};
use gateway_core::sip::{CallHandle, Config, Event, Invite};

use crate::calls::{answer, names, nothing_left, status_of};
use crate::link::{LATENCY, Node, World, addr, config, incoming, invite, stack, stack_with};

fn early(world: &mut World, call: CallHandle, status: u16, sdp: Option<&str>) {
    let now = world.now;
    let sdp = sdp.map(str::to_owned);
    world.stack(1).provisional(now, call, status, sdp);
}

fn accept(world: &mut World, call: CallHandle) {
    let now = world.now;
    world.stack(1).accept(now, call, "v=final\r\n".into());
}

/// A world whose node 1 is what the test sends by hand, with the INVITE of node 0 on its way.
fn by_hand() -> (World, CallHandle) {
    let silent = Node::Script(Box::new(|_| Vec::new()));
    let mut world = World::new(vec![stack(0), silent]);
    let now = world.now;
    let call = world.stack(0).invite(now, invite()).expect("a good URI");
    world.run(LATENCY * 2);
    (world, call)
}

/// A provisional response of a fork, reliable if it has a number.
fn respond(world: &mut World, status: u16, tag: &str, rseq: Option<u32>, sdp: &str) {
    let request = world.request(0, "INVITE");
    let Message::Response(mut response) = answer(&request, status, tag) else {
        unreachable!()
    };
    if let Some(rseq) = rseq {
        response.headers.push("Require", "100rel");
        response.headers.push("RSeq", rseq.to_string());
    }
    response.body = sdp.as_bytes().to_vec();
    world.inject(addr(1), 0, &response.to_bytes());
}

fn provisionals(world: &World) -> Vec<(u16, usize, Option<String>)> {
    let events = world.events[0].iter();
    let seen = events.filter_map(|(_, event)| match event {
        Event::Provisional {
            status, fork, sdp, ..
        } => Some((*status, *fork, sdp.clone())),
        _ => None,
    });
    seen.collect()
}

#[test]
fn an_answer_waits_for_the_prack_of_the_early_description() {
    let mut world = World::pair();
    let (_, theirs) = world.ring();
    early(&mut world, theirs, 180, None);
    early(&mut world, theirs, 183, Some("v=early\r\n"));
    accept(&mut world, theirs);
    let sdp = world.until(0, |event| match event {
        Event::Answered { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(sdp.as_deref(), Some("v=early\r\n"));
    world.run(LATENCY * 2);
    let wanted = [
        "0 INVITE",
        "1 100 INVITE",
        "1 180 INVITE",
        "1 183 INVITE",
        "0 PRACK",
        "1 200 PRACK",
        "1 200 INVITE",
        "0 ACK",
    ];
    assert_eq!(names(&world), wanted);
    let Some(Message::Response(Response { body, .. })) = world.messages(1, "200 INVITE").pop()
    else {
        panic!()
    };
    assert!(body.is_empty(), "the description went out before");
    let rseq = world.header(1, "183 INVITE", "RSeq").unwrap();
    assert_eq!(
        world.header(0, "PRACK", "RAck"),
        Some(format!("{rseq} 1 INVITE"))
    );
}

#[test]
fn without_prack_the_response_is_repeated_doubling_and_the_call_refused_after_64_t1() {
    let mut world = World::pair();
    world.lose(|sent| sent.name() == "PRACK");
    let (ours, theirs) = world.ring();
    let begin = world.ms();
    early(&mut world, theirs, 183, Some("v=early\r\n"));
    assert_eq!(status_of(&mut world, ours), 504);
    let after: Vec<u64> = world
        .times(1, "183 INVITE")
        .iter()
        .map(|ms| ms - begin)
        .collect();
    assert_eq!(after, [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
    assert_eq!(
        provisionals(&world).len(),
        1,
        "repetitions are not reported"
    );
    nothing_left(&mut world);
}

#[test]
fn a_lost_response_or_prack_only_delays() {
    for lost in ["183 INVITE", "PRACK", "200 PRACK"] {
        let mut world = World::pair();
        let mut count = 0;
        world.lose(move |sent| {
            count += u32::from(sent.name() == lost);
            sent.name() == lost && count == 1
        });
        let (ours, theirs) = world.ring();
        early(&mut world, theirs, 183, Some("v=early\r\n"));
        accept(&mut world, theirs);
        world.until(0, |event| {
            matches!(event, Event::Answered { .. }).then_some(())
        });
        world.run(Duration::from_secs(20));
        assert_eq!(provisionals(&world).len(), 1, "{lost}");
        let now = world.now;
        world.stack(0).hang_up(now, ours);
        nothing_left(&mut world);
    }
}

#[test]
fn responses_are_taken_in_their_order_and_confirmed_once_each() {
    let (mut world, _) = by_hand();
    respond(&mut world, 183, "a", Some(7), "v=1\r\n");
    respond(&mut world, 183, "a", Some(7), "v=1\r\n");
    respond(&mut world, 180, "a", Some(9), "");
    assert_eq!(provisionals(&world), [(183, 0, Some("v=1\r\n".into()))]);
    respond(&mut world, 180, "a", Some(8), "");
    respond(&mut world, 180, "a", Some(9), "");
    assert_eq!(provisionals(&world).len(), 3);
    let racks: Vec<String> = world
        .messages(0, "PRACK")
        .iter()
        .map(|prack| prack.headers().get("RAck").unwrap().to_owned())
        .collect();
    assert_eq!(racks, ["7 1 INVITE", "8 1 INVITE", "9 1 INVITE"]);
    let numbers: Vec<u32> = world
        .messages(0, "PRACK")
        .iter()
        .map(|prack| prack.headers().cseq().unwrap().0)
        .collect();
    assert_eq!(numbers, [2, 3, 4], "each is a request of the early dialog");
}

#[test]
fn each_fork_has_its_own_numbers_and_its_own_dialog() {
    let (mut world, _) = by_hand();
    respond(&mut world, 183, "a", Some(1), "v=a\r\n");
    respond(&mut world, 183, "b", Some(100), "v=b\r\n");
    respond(&mut world, 180, "a", Some(2), "");
    assert_eq!(
        provisionals(&world),
        [
            (183, 0, Some("v=a\r\n".into())),
            (183, 1, Some("v=b\r\n".into())),
            (180, 0, None)
        ]
    );
    let pracks: Vec<(String, String)> = world
        .messages(0, "PRACK")
        .iter()
        .map(|prack| {
            let headers = prack.headers();
            (
                headers.to_tag().unwrap().to_owned(),
                headers.get("RAck").unwrap().to_owned(),
            )
        })
        .collect();
    let wanted = [
        ("a", "1 1 INVITE"),
        ("b", "100 1 INVITE"),
        ("a", "2 1 INVITE"),
    ];
    assert_eq!(
        pracks,
        wanted.map(|(tag, rack)| (tag.to_owned(), rack.to_owned()))
    );
}

#[test]
fn a_caller_that_requires_it_gets_everything_reliably_and_one_at_a_time() {
    let mut world = World::new(vec![Node::Script(Box::new(|_| Vec::new())), stack(1)]);
    let text = "INVITE sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\r\n\
         From: <sip:x@192.0.2.1>;tag=x\r\nTo: <sip:bob@192.0.2.2>\r\nCall-ID: c\r\nCSeq: 9 INVITE\r\n\
         Require: 100rel\r\nContact: <sip:x@192.0.2.1>\r\nContent-Length: 0\r\n\r\n";
    world.inject(addr(0), 1, text.as_bytes());
    let call = world.until(1, incoming);
    early(&mut world, call, 180, None);
    early(&mut world, call, 181, None);
    world.run(Duration::from_millis(10));
    assert_eq!(world.messages(1, "181 INVITE").len(), 0, "one at a time");
    let tag = world.messages(1, "180 INVITE")[0]
        .headers()
        .to_tag()
        .unwrap()
        .to_owned();
    let prack = |world: &mut World, number: u32, rack: &str| {
        let text = text
            .replace("INVITE", "PRACK")
            .replace("branch=z9hG4bK1", &format!("branch=z9hG4bKp{number}"))
            .replace(
                "To: <sip:bob@192.0.2.2>",
                &format!("To: <sip:bob@192.0.2.2>;tag={tag}"),
            )
            .replace("CSeq: 9", &format!("CSeq: {number}"))
            .replace("Require: 100rel", &format!("RAck: {rack}"));
        world.inject(addr(0), 1, text.as_bytes());
        world.log.last().unwrap().name()
    };
    let first: u32 = world
        .header(1, "180 INVITE", "RSeq")
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..1 << 31).contains(&first));
    assert_eq!(
        prack(&mut world, 10, &format!("{} 9 INVITE", first + 1)),
        "481 PRACK"
    );
    assert_eq!(
        prack(&mut world, 11, &format!("{first} 8 INVITE")),
        "481 PRACK"
    );
    assert_eq!(
        prack(&mut world, 12, &format!("{first} 9 INVITE")),
        "181 INVITE"
    );
    let second = world.header(1, "181 INVITE", "RSeq").unwrap();
    assert_eq!(second, (first + 1).to_string());
    // A 2xx without a description before it need not wait; its PRACK may come later.
    accept(&mut world, call);
    assert_eq!(
        prack(&mut world, 13, &format!("{second} 9 INVITE")),
        "200 PRACK"
    );
    assert_eq!(
        prack(&mut world, 14, &format!("{second} 9 INVITE")),
        "481 PRACK"
    );
}

#[test]
fn an_offer_in_a_reliable_response_is_answered_by_prack() {
    let mut world = World::pair();
    let now = world.now;
    let without = Invite {
        sdp: None,
        ..invite()
    };
    let ours = world.stack(0).invite(now, without).unwrap();
    let theirs = world.until(1, incoming);
    early(&mut world, theirs, 183, Some("v=offer\r\n"));
    let offer = world.until(0, |event| match event {
        Event::Offered { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(offer, "v=offer\r\n");
    let now = world.now;
    world
        .stack(0)
        .answer_offer(now, ours, 0, Ok("v=answer\r\n".into()));
    let answer = world.until(1, |event| match event {
        Event::EarlyAnswer { call, sdp } if *call == theirs => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(answer, "v=answer\r\n");
    accept(&mut world, theirs);
    world.until(0, |event| {
        matches!(event, Event::Answered { sdp: None, .. }).then_some(())
    });
    world.until(1, |event| {
        matches!(event, Event::Confirmed { sdp: None, .. }).then_some(())
    });
}

#[test]
fn switched_off_it_is_neither_offered_nor_taken() {
    let off = |node| {
        stack_with(
            node,
            Config {
                reliable_provisional: false,
                ..config(node)
            },
        )
    };
    let mut world = World::new(vec![off(0), off(1)]);
    let (_, theirs) = world.ring();
    early(&mut world, theirs, 183, Some("v=early\r\n"));
    accept(&mut world, theirs);
    let sdp = world.until(0, |event| match event {
        Event::Answered { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    assert_eq!(sdp.as_deref(), Some("v=final\r\n"));
    assert_eq!(world.messages(0, "PRACK").len(), 0);
    assert_eq!(
        world.header(0, "INVITE", "Supported").as_deref(),
        Some("replaces, timer")
    );
}
