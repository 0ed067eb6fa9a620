//! Retransmission schedules in milliseconds (RFC 3261 tables of section 17 and section 13.3.1.4).

use std::time::Duration;

use gateway_core::sip::message::{Message, Method, Request, response_to};
use gateway_core::sip::{Event, Transport};

use crate::calls::nothing_left;
use crate::link::{Node, World, invite, is_last, stack};

#[test]
fn an_unanswered_invite_doubles_its_interval_and_gives_up_after_64_t1() {
    let mut world = World::pair();
    world.lose(|_| true);
    let now = world.now;
    world.stack(0).invite(now, invite()).unwrap();
    world.settle();
    assert_eq!(
        world.times(0, "INVITE"),
        [0, 500, 1500, 3500, 7500, 15_500, 31_500]
    );
    let (at, event) = &world.events[0][0];
    assert!(
        matches!(event, Event::Rejected { status: 408, .. }),
        "{event:?}"
    );
    assert_eq!(*at, 32_000);
    nothing_left(&mut world);
}

#[test]
fn an_unanswered_bye_doubles_up_to_t2_and_the_call_ends_after_64_t1() {
    let mut world = World::pair();
    let (ours, _) = world.talk();
    world.lose(|sent| sent.name() == "BYE");
    let (now, begin) = (world.now, world.ms());
    world.stack(0).hang_up(now, ours);
    world.run(Duration::from_secs(40));
    let times: Vec<u64> = world.times(0, "BYE").iter().map(|at| at - begin).collect();
    assert_eq!(
        times,
        [
            0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
        ]
    );
    assert_eq!(world.events[0].last().unwrap().0 - begin, 32_000);
    assert_eq!(world.count(0, is_last), 1);
}

#[test]
fn an_unacknowledged_answer_is_repeated_up_to_t2_and_ends_in_bye() {
    let mut world = World::pair();
    let (_, theirs) = world.ring();
    world.lose(|sent| sent.name() == "ACK");
    let (now, begin) = (world.now, world.ms());
    world.stack(1).accept(now, theirs, "v=0\r\n".into());
    world.run(Duration::from_secs(40));
    let times: Vec<u64> = world
        .times(1, "200 INVITE")
        .iter()
        .map(|at| at - begin)
        .collect();
    assert_eq!(
        times,
        [
            0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
        ]
    );
    assert_eq!(
        world.times(0, "ACK").len(),
        times.len(),
        "each repeated answer gets an ACK"
    );
    assert_eq!(world.times(1, "BYE"), [begin + 32_000]);
    assert!(
        matches!(&world.events[1].last().unwrap().1, Event::Ended { by_peer: false, reason, .. } if reason == "no ACK")
    );
    nothing_left(&mut world);
}

#[test]
fn a_refusal_is_repeated_until_its_ack_and_then_absorbs_for_t4() {
    let mut world = World::pair();
    let (_, theirs) = world.ring();
    let mut lost = 0;
    world.lose(move |sent| {
        lost += usize::from(sent.name() == "ACK");
        sent.name() == "ACK" && lost <= 3
    });
    let (now, begin) = (world.now, world.ms());
    world.stack(1).reject(now, theirs, 603, "");
    world.settle();
    let times: Vec<u64> = world
        .times(1, "603 INVITE")
        .iter()
        .map(|at| at - begin)
        .collect();
    assert_eq!(times, [0, 500, 1500, 3500]);
    assert_eq!(world.times(0, "ACK").len(), 4);
    assert_eq!(world.count(0, is_last), 1);
    nothing_left(&mut world);
}

#[test]
fn a_provisional_response_stops_the_repetition_of_invite_and_slows_that_of_others() {
    let script = |request: &Request| match request.method {
        Method::Register => vec![Message::Response(response_to(request, 100, ""))],
        _ => Vec::new(),
    };
    let mut world = World::new(vec![stack(0), Node::Script(Box::new(script))]);
    let now = world.now;
    let register = crate::registration::register();
    world.stack(0).register(now, register);
    world.settle();
    assert_eq!(
        world.times(0, "REGISTER"),
        [0, 4020, 8020, 12_020, 16_020, 20_020, 24_020, 28_020]
    );
    assert!(matches!(
        world.events[0][..],
        [(32_000, Event::RegistrationFailed { status: 408, .. })]
    ));
    nothing_left(&mut world);
}

#[test]
fn nothing_is_repeated_over_tcp_but_the_answer() {
    let mut world = World::pair();
    let now = world.now;
    let tcp = gateway_core::sip::Invite {
        to: "sip:bob@192.0.2.2;transport=tcp".into(),
        ..invite()
    };
    world.stack(0).invite(now, tcp).unwrap();
    world.lose(|_| true);
    world.settle();
    assert_eq!(world.times(0, "INVITE"), [0]);
    assert_eq!(world.log[0].transport, Transport::Tcp);
    assert!(matches!(
        world.events[0][..],
        [(32_000, Event::Rejected { status: 408, .. })]
    ));

    let mut world = World::pair();
    let now = world.now;
    let tcp = gateway_core::sip::Invite {
        to: "sip:bob@192.0.2.2;transport=tcp".into(),
        ..invite()
    };
    world.stack(0).invite(now, tcp).unwrap();
    let theirs = world.until(1, crate::link::incoming);
    world.lose(|sent| sent.name() == "ACK");
    let now = world.now;
    world.stack(1).accept(now, theirs, "v=0\r\n".into());
    world.run(Duration::from_secs(31));
    assert_eq!(
        world.times(1, "200 INVITE").len(),
        10,
        "RFC 3261 section 13.3.1.4: over any transport"
    );
    assert!(
        world
            .log
            .iter()
            .all(|sent| sent.transport == Transport::Tcp)
    );
}
