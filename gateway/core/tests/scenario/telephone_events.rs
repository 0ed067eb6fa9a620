//! Keys that the SIP side presses: the page is told of each once.

use crate::world::{PEER_RTP, World};
use crate::{SECOND, callee, place_offer, rtp};
use gateway_core::api::{CallId, Event};
use std::time::Duration;

/// str0m offers no telephone-event: it is written into its offers.
const OFFERED: &str = "a=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\n";
/// Payload type at the telephone.
const EVENT: u8 = 101;
/// One packet.
const STEP: Duration = Duration::from_millis(20);

/// A call whose telephone has Opus, and events at 8 kHz alone.
fn connect(world: &mut World) -> CallId {
    let session = world.guest();
    let offer = world.page.offer(false);
    let line = offer
        .lines()
        .find(|line| line.starts_with("m=audio"))
        .unwrap();
    let offer = offer.replace(line, &format!("{line} 110 126")) + OFFERED;
    let call = place_offer(world, &session, "echo", offer).unwrap();
    let callee = callee(world);
    let (ip, port) = PEER_RTP.split_once(':').unwrap();
    let answer = format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 111 {EVENT}\r\n\
        a=rtpmap:111 opus/48000/2\r\na=rtpmap:{EVENT} telephone-event/8000\r\na=sendrecv\r\n"
    );
    world.peer.accept(world.now, callee, answer);
    world.settle();
    let answer = world.event("call.answer", |event| match event {
        Event::Answer { answer, .. } => Some(answer.clone()),
        _ => None,
    });
    assert!(
        answer.contains("a=rtpmap:110 telephone-event/48000"),
        "{answer}"
    );
    assert!(!answer.contains("a=rtpmap:126"), "{answer}");
    let answer = answer.replace("SAVPF 111 110", "SAVPF 111");
    let answer: String = answer
        .split_inclusive("\r\n")
        .filter(|line| !line.contains(":110 "))
        .collect();
    world.page.accept_answer(&answer);
    let now = world.now;
    world.page.handle_timeout(now);
    world.event("call.connected", |event| {
        matches!(event, Event::Connected { .. }).then_some(())
    });
    world.until(10 * SECOND, "the page is connected", |world| {
        world.page.connected
    });
    call
}

/// The telephone, its packets numbered as they are sent.
struct Telephone {
    sequence: u16,
    timestamp: u32,
}

impl Telephone {
    fn send(&mut self, world: &mut World, payload_type: u8, timestamp: u32, payload: &[u8]) {
        self.sequence += 1;
        world.peer_speaks(
            PEER_RTP,
            rtp(payload_type, self.sequence, timestamp, 0xabcd, payload),
        );
        world.advance(STEP);
        self.timestamp += 960;
    }

    fn talk(&mut self, world: &mut World, packets: u32) {
        for _ in 0..packets {
            self.send(world, 111, self.timestamp, &[0xfc; 40]);
        }
    }

    /// Presses a key for so many packets, and says so often that it is released.
    fn press(&mut self, world: &mut World, digit: u8, packets: u16, ends: u16) {
        let started = self.timestamp;
        for number in 1..=packets + ends {
            let [high, low] = (160 * number.min(packets)).to_be_bytes();
            let end = u8::from(number > packets) << 7;
            self.send(world, EVENT, started, &[digit, end | 10, high, low]);
        }
    }
}

fn told(world: &World) -> Vec<(char, u32)> {
    let digits = world.events.iter().filter_map(|event| match event {
        Event::Dtmf {
            digit, duration_ms, ..
        } => Some((*digit, *duration_ms)),
        _ => None,
    });
    digits.collect()
}

#[test]
fn the_page_is_told_of_each_key_once() {
    let mut world = World::new(60);
    let call = connect(&mut world);
    let mut telephone = Telephone {
        sequence: 100,
        timestamp: 48_000,
    };
    telephone.talk(&mut world, 10);
    for digit in 0..=15 {
        telephone.press(&mut world, digit, 5, 3);
    }
    telephone.press(&mut world, 7, 10, 1);
    telephone.press(&mut world, 7, 10, 2);
    // 16 is a hook flash, and no key.
    telephone.press(&mut world, 16, 5, 3);
    let mut expected: Vec<_> = "0123456789*#ABCD"
        .chars()
        .map(|digit| (digit, 100))
        .collect();
    expected.extend([('7', 200); 2]);
    assert_eq!(told(&world), expected);
    let of_call = |event: &Event| match event {
        Event::Dtmf { call: of, .. } => *of == call,
        _ => true,
    };
    assert!(world.events.iter().all(of_call));
}

#[test]
fn a_key_whose_release_is_lost_is_told_of_all_the_same() {
    let mut world = World::new(61);
    connect(&mut world);
    let mut telephone = Telephone {
        sequence: 100,
        timestamp: 48_000,
    };
    telephone.talk(&mut world, 10);
    telephone.press(&mut world, 1, 4, 0);
    telephone.press(&mut world, 2, 5, 3);
    assert_eq!(told(&world), [('1', 80), ('2', 100)]);
    telephone.press(&mut world, 3, 4, 0);
    world.advance(4 * SECOND);
    assert_eq!(told(&world).len(), 2);
    telephone.talk(&mut world, 1);
    assert_eq!(told(&world)[2..], [('3', 80)]);
    telephone.talk(&mut world, 200);
    assert_eq!(told(&world).len(), 3);
}
