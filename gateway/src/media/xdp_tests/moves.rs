//! Flows whose way changes while they run: routes, neighbours, peers, and packets that XDP cannot send.

use super::*;

/// The SRTP state moves with a flow: into XDP when its route leads to an interface with the program, and back.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flow_moves_into_xdp_and_back_with_its_srtp_state() {
    let (mut bed, browser, _) = two_armed("m");
    // A second way to the phone, by an interface without the program.
    bed.cable("sip", "other0", "eth1", 83);
    let phone = bed.full("sip");
    netns::ip(&format!("-n {phone} addr add 10.99.0.2/32 dev lo"));
    netns::ip(&format!("-n {phone} route add 10.81.0.0/24 via 10.82.0.1"));
    bed.ip("route add 10.99.0.2/32 via 10.83.0.2");
    let phone = bed.socket("sip", "10.99.0.2:60000");
    let interfaces = ["web0", "sip0"];
    let mut gateway = Gateway::start(&bed, Mode::XdpNative, "10.81.0.1", "10.82.0.1", &interfaces);
    gateway.connect(&browser, &phone);
    let mut talker = Browser::new();
    let peers = (&browser, &phone);

    // Browser to SIP leaves by other0, the other way round is in XDP at once.
    let mut seen = [None, None];
    while seen.iter().any(Option::is_none) {
        if let Some(MediaEvent::FlowPath(FlowId(id), view)) = gateway.events.blocking_recv() {
            println!("flow {id}: {view:?}");
            seen[id as usize - 1] = (id == 1 || view.path == Path::XdpNative).then_some(view);
        }
    }
    let [Some(to_sip), _] = seen else {
        unreachable!()
    };
    assert_eq!(to_sip.path, Path::Userspace);
    assert!(
        to_sip
            .reason
            .contains("leave by other0, which has no XDP program"),
        "{to_sip:?}"
    );
    talk(&gateway.addresses, peers, &mut talker, 100..120);
    assert_eq!(gateway.in_userspace(), 20);

    bed.ip("route change 10.99.0.2/32 via 10.82.0.2");
    assert_eq!(gateway.await_flow(1, Path::XdpNative), 1);
    talk(&gateway.addresses, peers, &mut talker, 120..140);
    assert_eq!(gateway.in_userspace(), 20);
    // A packet that was received before the move is known after it.
    let old = Browser::new().protect(&rtp(111, 110, 0x1234));
    browser.send_to(&old, gateway.addresses.web).unwrap();
    assert!(receives_nothing(&phone));
    assert_eq!(gateway.counted(Why::Replayed), 1);
    assert_eq!(gateway.packets(1), 40);

    bed.ip("route change 10.99.0.2/32 via 10.83.0.2");
    gateway.await_flow(1, Path::Userspace);
    talk(&gateway.addresses, peers, &mut talker, 140..160);
    assert_eq!(gateway.in_userspace(), 40);
    browser.send_to(&old, gateway.addresses.web).unwrap();
    assert!(receives_nothing(&phone));
    assert_eq!(gateway.packets(1), 60);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flow_in_xdp_follows_the_browser_and_the_phones_mac_address() {
    let (bed, browser, phone) = two_armed("k");
    let mut gateway = Gateway::start(&bed, Mode::XdpNative, "10.81.0.1", "10.82.0.1", &[]);
    gateway.connect(&browser, &phone);
    gateway.await_path(Path::XdpNative);
    let mut talker = Browser::new();
    talk(&gateway.addresses, (&browser, &phone), &mut talker, 1..20);

    // The browser's new nominated pair.
    let moved = bed.socket("web", "10.81.0.2:50001");
    gateway.connect(&moved, &phone);
    gateway.await_path(Path::XdpNative);
    talk(&gateway.addresses, (&moved, &phone), &mut talker, 20..40);
    // What the browser sent by the old pair before it knew of the new one is taken for two seconds, and not later.
    let web = gateway.addresses.web;
    let mut by_the_old_pair = |sequence| {
        let late = talker.protect(&rtp(111, sequence, 0x1234));
        browser.send_to(&late, web).unwrap();
    };
    by_the_old_pair(40);
    assert_eq!(Rtp::parse(&receive(&phone).0).ssrc, TO_SIP);
    std::thread::sleep(Duration::from_millis(2200));
    by_the_old_pair(41);
    assert!(matches!(
        gateway.events.blocking_recv(),
        Some(MediaEvent::Datagram { .. })
    ));
    assert_eq!(gateway.in_userspace(), 0);

    // Another card answers for the phone's address.
    let sip = bed.full("sip");
    netns::ip(&format!("-n {sip} link set eth0 address 02:00:00:00:99:01"));
    bed.ip("neigh replace 10.82.0.2 lladdr 02:00:00:00:99:01 dev sip0 nud reachable");
    std::thread::sleep(Duration::from_millis(100));
    talk(&gateway.addresses, (&moved, &phone), &mut talker, 42..60);
    assert_eq!(gateway.in_userspace(), 0);
    assert_eq!(gateway.packets(2), 19 + 20 + 18);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_xdp_cannot_send_is_not_forwarded_with_stale_state_either() {
    let (bed, browser, phone) = two_armed("o");
    let mut gateway = Gateway::start(&bed, Mode::XdpNative, "10.81.0.1", "10.82.0.1", &[]);
    gateway.connect(&browser, &phone);
    gateway.await_path(Path::XdpNative);
    let mut talker = Browser::new();
    talk(&gateway.addresses, (&browser, &phone), &mut talker, 1..5);
    // With its tag this one is longer than the leaving side takes: XDP passes it up.
    let mut long = rtp(8, 1004, 0x9876);
    long.resize(1468, 0);
    phone.send_to(&long, gateway.addresses.rtp).unwrap();
    assert!(receives_nothing(&browser));
    assert_eq!(gateway.counted(Why::TooLong), 1);
    assert_eq!(gateway.media.report().kernel_owned, 1);
    assert_eq!(gateway.in_userspace(), 0);
    assert!(gateway.events.try_recv().is_err());
    talk(&gateway.addresses, (&browser, &phone), &mut talker, 6..10);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_lost_neighbour_costs_the_fast_path_only_until_it_answers_again() {
    let (bed, browser, phone) = two_armed("q");
    let mut gateway = Gateway::start(&bed, Mode::XdpNative, "10.81.0.1", "10.82.0.1", &[]);
    gateway.connect(&browser, &phone);
    gateway.await_path(Path::XdpNative);
    let mut talker = Browser::new();
    talk(&gateway.addresses, (&browser, &phone), &mut talker, 1..10);
    bed.ip("neigh del 10.82.0.2 dev sip0");
    gateway.await_flow(1, Path::Userspace);
    // Sent by the socket, for which the kernel resolves the address. A packet that still waits in the socket when the flow moves
    // back is dropped: its SRTP state is the kernel's by then.
    let sent = talker.protect(&rtp(111, 10, 0x1234));
    browser.send_to(&sent, gateway.addresses.web).unwrap();
    gateway.await_flow(1, Path::XdpNative);
    let arrived = u64::from(!receives_nothing(&phone));
    talk(&gateway.addresses, (&browser, &phone), &mut talker, 11..21);
    assert_eq!(gateway.packets(1), 19 + arrived);
    assert_eq!(gateway.packets(2), 19);
}

/// New keys in a call that is past its first round of sequence numbers: both sides count from rollover counter zero, in XDP as before. Where
/// the first keys come back, they go on where they were left.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flow_in_xdp_counts_from_zero_under_new_keys_and_on_under_former_ones() {
    let (bed, browser, phone) = two_armed("n");
    let mut gateway = Gateway::start(&bed, Mode::XdpNative, "10.81.0.1", "10.82.0.1", &[]);
    gateway.connect(&browser, &phone);
    gateway.await_path(Path::XdpNative);
    let (mut talker, peers) = (Browser::new(), (&browser, &phone));
    // The phone's numbers are 999 higher: both directions pass the wrap.
    talk(&gateway.addresses, peers, &mut talker, 65_500..65_535);
    talk(&gateway.addresses, peers, &mut talker, 0..19);
    let heard = talker.protect(&rtp(111, 19, 0x1234));
    browser.send_to(&heard, gateway.addresses.web).unwrap();
    receive(&phone);
    for (id, spec) in [1, 2].into_iter().zip(renewed(gateway.addresses)) {
        gateway.media.install(FlowId(id), spec);
    }
    gateway.await_path(Path::XdpNative);
    let mut renewed = Browser::renewed();
    talk(&gateway.addresses, peers, &mut renewed, 20..60);
    // What was encrypted under the keys before is of no use any more.
    let old = talker.protect(&rtp(111, 60, 0x1234));
    browser.send_to(&old, gateway.addresses.web).unwrap();
    assert!(receives_nothing(&phone));
    assert_eq!(gateway.counted(Why::AuthFailed), 1);
    let first = [gateway.addresses.to_sip(), gateway.addresses.to_web()];
    for (id, spec) in [1, 2].into_iter().zip(first) {
        gateway.media.install(FlowId(id), spec);
    }
    gateway.await_path(Path::XdpNative);
    browser.send_to(&heard, gateway.addresses.web).unwrap();
    assert!(receives_nothing(&phone));
    assert_eq!(gateway.counted(Why::Replayed), 1);
    talk(&gateway.addresses, peers, &mut talker, 61..80);
    assert_eq!(gateway.in_userspace(), 0);
    assert_eq!(gateway.packets(1), 35 + 20 + 40 + 19);
}
