//! Calls of this host with each other.

use super::*;

/// Two browsers of one gateway: the SIP side of each call is the other call's.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn two_calls_of_one_host_hand_packets_to_each_other_within_xdp() {
    let (bed, alice, _) = two_armed("h");
    let bob = bed.socket("web", "10.81.0.2:50002");
    let mut gateway = Gateway::start(&bed, Mode::XdpNative, "10.81.0.1", "10.82.0.1", &[]);
    gateway.media.open_ports(CallId("bob".into()), 1, false);
    let Some(MediaEvent::PortsOpened(_, Ok(ports))) = gateway.events.blocking_recv() else {
        panic!("no ports");
    };
    // Alice's call sends to the port of Bob's call and the other way round.
    let web = gateway.addresses.web;
    let of_alice = Addresses {
        web,
        rtp: gateway.addresses.rtp,
        browser: alice.local_addr().unwrap(),
        phone: ports[0].rtp,
    };
    let of_bob = Addresses {
        web,
        rtp: ports[0].rtp,
        browser: bob.local_addr().unwrap(),
        phone: gateway.addresses.rtp,
    };
    gateway.media.install(FlowId(1), of_alice.to_sip());
    gateway.await_flow(1, Path::Userspace);
    gateway.media.install(FlowId(2), of_alice.to_web());
    gateway.await_flow(2, Path::Userspace);
    gateway.media.install(FlowId(3), of_bob.to_web());
    gateway.await_flow(3, Path::XdpNative);
    gateway.await_flow(1, Path::XdpNative);
    gateway.media.install(FlowId(4), of_bob.to_sip());
    gateway.await_flow(2, Path::XdpNative);
    gateway.await_flow(4, Path::XdpNative);

    // Both browsers hold the same keys, so each one's packets open with the other's context.
    let (mut from_alice, mut from_bob) = (Browser::new(), Browser::new());
    let (mut at_alice, mut at_bob) = (Browser::new(), Browser::new());
    let mut say = |gateway: &Gateway, sequences: std::ops::Range<u16>| {
        for sequence in sequences {
            let sent = rtp(111, sequence, 0xa11ce);
            alice
                .send_to(&from_alice.protect(&sent), gateway.addresses.web)
                .unwrap();
            let (packet, from) = receive(&bob);
            let got = Rtp::parse(&at_bob.unprotect(&packet));
            assert_eq!((from, got.payload_type, got.ssrc), (web, 111, TO_WEB));
            assert_eq!(got.payload, sent[12..]);
            let sent = rtp(111, sequence, 0xb0b);
            bob.send_to(&from_bob.protect(&sent), gateway.addresses.web)
                .unwrap();
            let got = Rtp::parse(&at_alice.unprotect(&receive(&alice).0));
            assert_eq!(got.payload, sent[12..]);
        }
    };
    say(&gateway, 100..130);
    assert_eq!(gateway.in_userspace(), 0);
    assert_eq!(gateway.counted(Why::Hairpin), 60);
    assert_eq!(gateway.counted(Why::HairpinMiss), 0);
    for id in 1..=4 {
        assert_eq!(gateway.packets(id), 30);
    }

    // Bob's phone side moves to a phone on the wire and comes back: both directions go on, by sockets meanwhile.
    gateway.media.remove(FlowId(3));
    gateway.await_flow(1, Path::Userspace);
    gateway.media.install(FlowId(5), of_bob.to_web());
    gateway.await_flow(1, Path::XdpNative);
    gateway.media.remove(FlowId(4));
    gateway.await_flow(2, Path::Userspace);
}
