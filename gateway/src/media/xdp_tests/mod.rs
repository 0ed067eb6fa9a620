//! The media plane with XDP, between network namespaces. Needs root and a build with the XDP object.

mod spread;
mod two_interfaces;

use super::netns::Bed;
use super::testing::*;
use super::*;
use crate::datapath::Mode;
use flow::Why;
use gateway_core::api::Path;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::Receiver;

/// The daemon's side of a test.
struct Gateway {
    media: Media,
    events: Receiver<MediaEvent>,
    addresses: Addresses,
    pin_dir: PathBuf,
}

impl Gateway {
    /// Starts in the calling thread's namespace and opens the ports of one call.
    fn start(bed: &Bed, mode: Mode, web: &str, rtp: &str, interfaces: &[&str]) -> Self {
        let interfaces = interfaces.iter().map(ToString::to_string).collect();
        let datapath = datapath::Config {
            mode,
            interfaces,
            ..datapath::Config::default()
        };
        Self::start_with(bed, datapath, web, rtp)
    }

    /// The same with more settings of the datapath.
    fn start_with(bed: &Bed, datapath: datapath::Config, web: &str, rtp: &str) -> Self {
        let pin_dir = PathBuf::from("/sys/fs/bpf").join(bed.full("pins"));
        let config = MediaConfig {
            web_listen: vec![SocketAddr::new(web.parse().unwrap(), 40000)],
            rtp_addresses: vec![rtp.parse().unwrap()],
            rtp_ports: 30000..=30099,
            port_rest: Duration::from_secs(5),
            calls: 10,
            datapath: datapath::Config {
                pin_dir: pin_dir.clone(),
                keystream_mib: 1,
                ..datapath
            },
        };
        let (media, mut events) = Media::start(config).unwrap();
        media.open_ports(CallId("call".into()), 1, rtp.contains(':'));
        let Some(MediaEvent::PortsOpened(_, Ok(ports))) = events.blocking_recv() else {
            panic!("no ports");
        };
        let web = media.web_addresses()[0];
        let addresses = Addresses {
            web,
            rtp: ports[0].rtp,
            browser: web,
            phone: web,
        };
        Self {
            media,
            events,
            addresses,
            pin_dir,
        }
    }

    /// Installs both flows of the call between these peers.
    fn connect(&mut self, browser: &UdpSocket, phone: &UdpSocket) {
        self.addresses.browser = browser.local_addr().unwrap();
        self.addresses.phone = phone.local_addr().unwrap();
        self.media.install(FlowId(1), self.addresses.to_sip());
        self.media.install(FlowId(2), self.addresses.to_web());
    }

    /// Waits until both flows have this path, and answers the last reason.
    fn await_path(&mut self, path: Path) -> String {
        let mut have = [false; 2];
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        loop {
            assert!(
                std::time::Instant::now() < deadline,
                "the flows do not come to {path:?}"
            );
            let Ok(event) = self.events.try_recv() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let MediaEvent::FlowPath(FlowId(id), view) = event else {
                panic!("{event:?}");
            };
            println!("flow {id}: {view:?}");
            have[id as usize - 1] = view.path == path;
            if have == [true; 2] {
                return view.reason;
            }
        }
    }

    /// Waits until a flow has this path.
    fn await_flow(&mut self, id: u64, path: Path) -> u64 {
        loop {
            match self.events.blocking_recv() {
                Some(MediaEvent::FlowPath(FlowId(flow), view)) => {
                    println!("flow {flow}: {view:?}");
                    if flow == id && view.path == path {
                        return flow;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn counted(&self, why: Why) -> u64 {
        let report = self.media.report();
        report
            .xdp
            .iter()
            .find(|(w, _)| *w == why)
            .map_or(0, |(_, n)| *n)
    }

    /// Packets that the sockets forwarded.
    fn in_userspace(&self) -> u64 {
        let report = self.media.report();
        report
            .userspace
            .iter()
            .find(|(w, _)| *w == Why::Forwarded)
            .unwrap()
            .1
    }

    fn packets(&mut self, id: u64) -> u64 {
        self.media.read(FlowId(id));
        loop {
            match self.events.blocking_recv() {
                Some(MediaEvent::FlowCounters { snapshot, .. }) => break snapshot.unwrap().packets,
                Some(MediaEvent::Datagram { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A browser and a phone on interfaces of their own.
fn two_armed(name: &str) -> (Bed, UdpSocket, UdpSocket) {
    let mut bed = Bed::new(name);
    bed.peer("web", 81);
    bed.peer("sip", 82);
    let browser = bed.socket("web", "10.81.0.2:50000");
    let phone = bed.socket("sip", "10.82.0.2:60000");
    (bed, browser, phone)
}

#[test]
#[ignore = "needs root and namespaces: cargo xtask test"]
fn a_call_finds_its_keystream_made_ahead() {
    let (bed, browser, phone) = two_armed("k");
    let mut gateway = Gateway::start(&bed, Mode::XdpNative, "10.81.0.1", "10.82.0.1", &[]);
    gateway.connect(&browser, &phone);
    gateway.await_path(Path::XdpNative);
    let mut page = Browser::new();
    // Over the wrap of the sequence number.
    for sequence in (65_400..65_535).chain(0..65) {
        let between = (&browser, &phone);
        talk(
            &gateway.addresses,
            between,
            &mut page,
            sequence..sequence + 1,
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((gateway.packets(1), gateway.packets(2)), (200, 200));
    for flow in [1, 2] {
        gateway.media.remove(FlowId(flow));
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    loop {
        let (hits, misses) = gateway.media.report().keystream.unwrap();
        if hits + misses >= 380 {
            assert!(hits > 300, "{hits} hits, {misses} misses");
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{hits} hits, {misses} misses"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn whole_call(mode: Mode, path: Path) {
    let (bed, browser, phone) = two_armed(if path == Path::XdpNative { "n" } else { "g" });
    let mut gateway = Gateway::start(&bed, mode, "10.81.0.1", "10.82.0.1", &[]);
    assert_eq!(gateway.media.report().mode, path);
    gateway.connect(&browser, &phone);
    let reason = gateway.await_path(path);
    assert!(reason.contains("sip0, web0"), "{reason}");
    talk(
        &gateway.addresses,
        (&browser, &phone),
        &mut Browser::new(),
        65520..65535,
    );
    assert_eq!(gateway.counted(Why::Redirected), 30);
    assert_eq!(gateway.in_userspace(), 0);
    assert_eq!((gateway.packets(1), gateway.packets(2)), (15, 15));
    // STUN still comes up.
    browser
        .send_to(&[0, 1, 0, 0], gateway.addresses.web)
        .unwrap();
    let Some(MediaEvent::Datagram { bytes, .. }) = gateway.events.blocking_recv() else {
        panic!("no datagram");
    };
    assert_eq!(bytes, [0, 1, 0, 0]);
    // After its removal the flow's packets come up.
    gateway.media.remove(FlowId(2));
    gateway.media.read(FlowId(2));
    assert!(matches!(
        gateway.events.blocking_recv(),
        Some(MediaEvent::FlowCounters { snapshot: None, .. })
    ));
    phone.send_to(&rtp(8, 1, 1), gateway.addresses.rtp).unwrap();
    assert!(matches!(
        gateway.events.blocking_recv(),
        Some(MediaEvent::Datagram { .. })
    ));
    let pinned = gateway
        .pin_dir
        .join(format!("v{}", flow::ABI))
        .join("link-web0");
    assert!(pinned.exists());
    drop(gateway.media);
    assert!(!gateway.pin_dir.exists());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_call_is_forwarded_by_native_xdp_both_ways() {
    whole_call(Mode::XdpNative, Path::XdpNative);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_call_is_forwarded_by_generic_xdp_both_ways() {
    whole_call(Mode::XdpGeneric, Path::XdpGeneric);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn auto_takes_native_xdp_and_one_interface_sends_back() {
    let mut bed = Bed::new("t");
    bed.peer("one", 81);
    let browser = bed.socket("one", "10.81.0.2:50000");
    let phone = bed.socket("one", "10.81.0.2:60000");
    let mut gateway = Gateway::start(&bed, Mode::Auto, "10.81.0.1", "10.81.0.1", &[]);
    gateway.connect(&browser, &phone);
    gateway.await_path(Path::XdpNative);
    talk(
        &gateway.addresses,
        (&browser, &phone),
        &mut Browser::new(),
        1..20,
    );
    assert_eq!(gateway.counted(Why::Forwarded), 38);
    assert_eq!(gateway.in_userspace(), 0);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_browser_on_ipv6_talks_to_a_phone_on_ipv4() {
    let (bed, _, phone) = two_armed("6");
    let browser = bed.socket("web", "[fd00:81::2]:50000");
    let mut gateway = Gateway::start(&bed, Mode::XdpNative, "fd00:81::1", "10.82.0.1", &[]);
    gateway.connect(&browser, &phone);
    gateway.await_path(Path::XdpNative);
    talk(
        &gateway.addresses,
        (&browser, &phone),
        &mut Browser::new(),
        1..20,
    );
    assert_eq!(gateway.counted(Why::Redirected), 38);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_check_proves_native_xdp_on_veth_and_leaves_nothing_attached() {
    let (_bed, _browser, _phone) = two_armed("c");
    let addresses = ["10.81.0.1", "fd00:82::1"].map(|address| address.parse().unwrap());
    for _ in 0..2 {
        let report = crate::check::run(&datapath::Config::default(), &addresses, 1000);
        println!("{report}");
        assert_eq!(report.path, Some(Path::XdpNative), "{report}");
        assert_eq!(report.conclusion, "datapath: xdp-native on sip0, web0");
    }
}

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
fn a_second_daemon_on_the_same_pins_is_refused_and_a_dead_one_is_cleaned_up() {
    let (bed, ..) = two_armed("p");
    let gateway = Gateway::start(&bed, Mode::XdpNative, "10.81.0.1", "10.82.0.1", &[]);
    let config = MediaConfig {
        web_listen: vec!["10.81.0.1:40001".parse().unwrap()],
        rtp_addresses: vec!["10.82.0.1".parse().unwrap()],
        rtp_ports: 30100..=30199,
        port_rest: Duration::from_secs(5),
        calls: 10,
        datapath: datapath::Config {
            mode: Mode::XdpNative,
            interfaces: Vec::new(),
            pin_dir: gateway.pin_dir.clone(),
            keystream_mib: 1,
            ..datapath::Config::default()
        },
    };
    let error = Media::start(config.clone()).err().expect("two daemons");
    assert!(
        format!("{error:#}").contains("another causeway is running"),
        "{error:#}"
    );
    // What a killed daemon leaves: its pins, and so its program.
    let directory = gateway.pin_dir.join(format!("v{}", flow::ABI));
    let kept = gateway.pin_dir.join("kept");
    std::fs::rename(&directory, &kept).unwrap();
    drop(gateway);
    std::fs::rename(&kept, &directory).unwrap();
    assert!(directory.join("link-web0").exists());
    let (media, _events) = Media::start(config).unwrap();
    assert_eq!(media.report().mode, Path::XdpNative);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_start_that_fails_half_way_leaves_nothing_behind() {
    let (bed, ..) = two_armed("f");
    let index = nix::net::if_::if_nametoindex("web0").unwrap();
    let other = datapath::xdp_probe::attach_pass(index, true).unwrap();
    let pin_dir = PathBuf::from("/sys/fs/bpf").join(bed.full("pins"));
    let config = MediaConfig {
        web_listen: vec!["10.81.0.1:40001".parse().unwrap()],
        rtp_addresses: vec!["10.82.0.1".parse().unwrap()],
        rtp_ports: 30100..=30199,
        port_rest: Duration::from_secs(5),
        calls: 10,
        datapath: datapath::Config {
            mode: Mode::XdpNative,
            interfaces: Vec::new(),
            pin_dir: pin_dir.clone(),
            keystream_mib: 1,
            ..datapath::Config::default()
        },
    };
    // The program is on sip0 by then.
    let error = Media::start(config.clone()).err().expect("web0 is taken");
    let text = format!("{error:#}");
    assert!(
        text.contains("web0: another XDP program is attached"),
        "{text}"
    );
    assert!(!pin_dir.exists());
    drop(other);
    let (media, _events) = Media::start(config).unwrap();
    assert_eq!(media.report().mode, Path::XdpNative);
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

/// More flows than slots: the rest run in userspace, and slots that were given back are used again after their rest.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn slots_run_out_and_come_back_while_a_call_goes_on() {
    const SLOTS: u64 = 46;
    let (bed, browser, phone) = two_armed("s");
    let mut gateway = Gateway::start(&bed, Mode::XdpNative, "10.81.0.1", "10.82.0.1", &[]);
    gateway.connect(&browser, &phone);
    gateway.await_path(Path::XdpNative);
    let mut talker = Browser::new();
    let mut sequence = 1;
    for _ in 0..3 {
        for id in 3..=SLOTS + 2 {
            let mut other = gateway.addresses;
            other.browser.set_port(10_000 + id as u16);
            gateway.media.install(FlowId(id), other.to_sip());
        }
        let mut in_xdp = 0;
        for _ in 3..=SLOTS + 2 {
            let Some(MediaEvent::FlowPath(_, view)) = gateway.events.blocking_recv() else {
                panic!("no path");
            };
            let refused = view.reason == "every slot of the XDP maps is in use";
            assert!(refused || view.path == Path::XdpNative, "{view:?}");
            in_xdp += u64::from(!refused);
        }
        assert_eq!(in_xdp, SLOTS - 2);
        assert_eq!(gateway.media.report().flows_xdp as u64, SLOTS);
        let peers = (&browser, &phone);
        talk(
            &gateway.addresses,
            peers,
            &mut talker,
            sequence..sequence + 10,
        );
        (3..=SLOTS + 2).for_each(|id| gateway.media.remove(FlowId(id)));
        std::thread::sleep(Duration::from_millis(1200));
        talk(
            &gateway.addresses,
            peers,
            &mut talker,
            sequence + 10..sequence + 20,
        );
        sequence += 20;
    }
    let report = gateway.media.report();
    assert_eq!((report.flows_xdp, report.flows_userspace), (2, 0));
    assert_eq!(gateway.in_userspace(), 0);
}

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

/// Only where it is asked for: generic XDP on `lo` carries a call between sockets of one host.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn explicit_generic_xdp_works_on_loopback() {
    let bed = Bed::new("l");
    let (browser, phone) = (
        bed.socket("gw", "127.0.0.1:0"),
        bed.socket("gw", "127.0.0.1:0"),
    );
    let mut gateway = Gateway::start(&bed, Mode::XdpGeneric, "127.0.0.1", "127.0.0.1", &[]);
    gateway.connect(&browser, &phone);
    gateway.await_path(Path::XdpGeneric);
    talk(
        &gateway.addresses,
        (&browser, &phone),
        &mut Browser::new(),
        1..10,
    );
    assert_eq!(gateway.counted(Why::Forwarded), 18);
    assert_eq!(gateway.in_userspace(), 0);
}

/// A source on a third interface floods the browser port with everything that there is, while a call is set up and goes on.
fn flooded(mode: Mode, path: Path, name: &str) {
    let (mut bed, browser, phone) = two_armed(name);
    bed.peer("evil", 83);
    netns::ip(&format!(
        "-n {} route add 10.81.0.0/24 via 10.83.0.1",
        bed.full("evil")
    ));
    let interfaces = ["web0", "sip0", "evil0"];
    let mut gateway = Gateway::start(&bed, mode, "10.81.0.1", "10.82.0.1", &interfaces);
    let evil = bed.socket("evil", "10.83.0.2:6666");
    let web = gateway.addresses.web;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut hello = [0; 60];
            (hello[0], hello[13]) = (22, 1);
            while !over.load(Ordering::Relaxed) {
                for _ in 0..50 {
                    for bytes in [&[0, 1, 0, 0][..], &hello, &rtp(111, 7, 7)] {
                        let _ = evil.send_to(bytes, web);
                    }
                }
                // Leaves the gateway some of the CPU that a flood in software takes.
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            call_in_flood(&mut gateway, &browser, &phone, path);
        }));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = called {
            std::panic::resume_unwind(panic);
        }
    });
    for why in [Why::StunBudget, Why::HelloBudget] {
        assert!(gateway.counted(why) > 0, "{why:?}");
    }
    assert_eq!((gateway.packets(1), gateway.packets(2)), (200, 200));
    assert_eq!(gateway.in_userspace(), 0);
}

fn call_in_flood(gateway: &mut Gateway, browser: &UdpSocket, phone: &UdpSocket, path: Path) {
    // Until the flood is over its budget.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while gateway.counted(Why::StunBudget) == 0 || gateway.counted(Why::HelloBudget) == 0 {
        assert!(std::time::Instant::now() < deadline, "no flood");
        while gateway.events.try_recv().is_ok() {}
        std::thread::sleep(Duration::from_millis(1));
    }
    // The browser's connectivity check reaches the event loop.
    browser
        .send_to(&[0, 1, 0, 0], gateway.addresses.web)
        .unwrap();
    let from = browser.local_addr().unwrap();
    loop {
        match gateway.events.blocking_recv() {
            Some(MediaEvent::Datagram { remote, .. }) if remote == from => break,
            Some(MediaEvent::Datagram { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    gateway.connect(browser, phone);
    let mut have = [false; 2];
    while have != [true; 2] {
        if let Some(MediaEvent::FlowPath(FlowId(id), view)) = gateway.events.blocking_recv() {
            have[id as usize - 1] = view.path == path;
        }
    }
    let peers = (browser, phone);
    talk(&gateway.addresses, peers, &mut Browser::new(), 1..201);
    while gateway.events.try_recv().is_ok() {}
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flood_does_not_disturb_a_call_in_native_xdp() {
    flooded(Mode::XdpNative, Path::XdpNative, "fn");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flood_does_not_disturb_a_call_in_generic_xdp() {
    flooded(Mode::XdpGeneric, Path::XdpGeneric, "fg");
}
