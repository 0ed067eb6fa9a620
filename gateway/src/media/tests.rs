//! The media plane in userspace mode over loopback sockets, as the event loop uses it.

use super::testing::*;
use super::*;
use flow::Why;
use gateway_core::api::Path;
use std::net::UdpSocket;
use tokio::sync::mpsc::Receiver;

pub(super) fn config(rtp_ports: RangeInclusive<u16>) -> MediaConfig {
    MediaConfig {
        web_listen: vec!["127.0.0.1:0".parse().unwrap()],
        rtp_addresses: vec!["127.0.0.1".parse().unwrap()],
        rtp_ports,
        port_rest: Duration::from_millis(300),
        calls: 10,
        datapath: datapath::Config {
            mode: datapath::Mode::Userspace,
            ..datapath::Config::default()
        },
    }
}

fn call(name: &str) -> CallId {
    CallId(name.into())
}

/// The next event, within two seconds.
pub(super) fn event(events: &mut Receiver<MediaEvent>) -> MediaEvent {
    for _ in 0..2000 {
        if let Ok(event) = events.try_recv() {
            return event;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("no event within two seconds");
}

pub(super) fn opened(
    media: &Media,
    events: &mut Receiver<MediaEvent>,
    name: &str,
) -> Result<MediaPorts, PortsError> {
    media.open_ports(call(name), 1, false);
    match event(events) {
        MediaEvent::PortsOpened(opened, ports) if opened == call(name) => {
            ports.map(|ports| ports[0])
        }
        other => panic!("{other:?}"),
    }
}

pub(super) fn counted(media: &Media, why: Why) -> u64 {
    let report = media.report();
    report.userspace.iter().find(|(w, _)| *w == why).unwrap().1
}

/// A call with its two flows installed.
pub(super) fn connected(
    media: &Media,
    events: &mut Receiver<MediaEvent>,
) -> (Addresses, MediaPorts, UdpSocket, UdpSocket) {
    let ports = opened(media, events, "a").unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let (web, phone) = (socket(any), socket(any));
    let addresses = Addresses {
        web: media.web_addresses()[0],
        rtp: ports.rtp,
        browser: web.local_addr().unwrap(),
        phone: phone.local_addr().unwrap(),
    };
    for (id, spec) in [(1, addresses.to_sip()), (2, addresses.to_web())] {
        media.install(FlowId(id), spec);
        let MediaEvent::FlowPath(flow, path) = event(events) else {
            panic!("no path");
        };
        assert_eq!((flow, path.path), (FlowId(id), Path::Userspace));
        assert_eq!(path.reason, "the configuration says userspace");
    }
    (addresses, ports, web, phone)
}

#[test]
fn a_call_is_forwarded_both_ways_and_counted() {
    let (media, mut events) = Media::start(config(21000..=21099)).unwrap();
    let (addresses, _, web, phone) = connected(&media, &mut events);
    talk(
        &addresses,
        (&web, &phone),
        &mut Browser::new(),
        65500..65535,
    );
    for id in [1, 2] {
        media.read(FlowId(id));
        let MediaEvent::FlowCounters {
            snapshot,
            monotonic_ns,
            ..
        } = event(&mut events)
        else {
            panic!("no counters");
        };
        let snapshot = snapshot.unwrap();
        assert_eq!((snapshot.packets, snapshot.octets), (35, 35 * 160));
        assert!(snapshot.last_seen_ns > 0 && snapshot.last_seen_ns <= monotonic_ns);
    }
    let report = media.report();
    assert_eq!((report.flows_userspace, report.flows_xdp), (2, 0));
    assert_eq!(counted(&media, Why::Forwarded), 70);
}

#[test]
fn forged_repeated_and_unknown_packets_do_not_get_through() {
    let (media, mut events) = Media::start(config(21100..=21199)).unwrap();
    let (addresses, _, web, phone) = connected(&media, &mut events);
    let mut browser = Browser::new();
    let good = browser.protect(&rtp(111, 7, 1));
    let mut forged = good.clone();
    forged[20] ^= 1;
    web.send_to(&forged, addresses.web).unwrap();
    web.send_to(&good, addresses.web).unwrap();
    web.send_to(&good, addresses.web).unwrap();
    web.send_to(&browser.protect(&rtp(99, 8, 1)), addresses.web)
        .unwrap();
    receive(&phone);
    assert!(receives_nothing(&phone));
    assert_eq!(counted(&media, Why::AuthFailed), 1);
    assert_eq!(counted(&media, Why::Replayed), 1);
    assert_eq!(counted(&media, Why::PayloadType), 1);
    assert!(events.try_recv().is_err());
}

#[test]
fn everything_but_the_rtp_of_flows_goes_up() {
    let (media, mut events) = Media::start(config(21200..=21299)).unwrap();
    let (addresses, ports, web, phone) = connected(&media, &mut events);
    let stranger = socket("127.0.0.1:0".parse().unwrap());
    for (from, to, bytes, why) in [
        (&web, addresses.web, vec![0, 1, 0, 0], Why::Stun),
        (&web, addresses.web, vec![22, 254, 253], Why::Dtls),
        (&web, addresses.web, vec![0x80, 200, 0, 1], Why::Rtcp),
        (&phone, ports.rtcp, vec![0x80, 201, 0, 1], Why::Rtcp),
        (&stranger, ports.rtp, rtp(8, 1, 1), Why::NoFlow),
    ] {
        from.send_to(&bytes, to).unwrap();
        let MediaEvent::Datagram {
            local,
            remote,
            bytes: up,
        } = event(&mut events)
        else {
            panic!("{why:?} did not go up");
        };
        assert_eq!((local, remote, up), (to, from.local_addr().unwrap(), bytes));
        assert!(counted(&media, why) > 0);
    }
    web.send_to(&[99, 0], addresses.web).unwrap();
    web.send_to(&[], addresses.web).unwrap();
    media.transmit(addresses.web, addresses.browser, b"from us".to_vec());
    assert_eq!(receive(&web), (b"from us".to_vec(), addresses.web));
    for _ in 0..100 {
        if counted(&media, Why::UnknownProtocol) == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(counted(&media, Why::UnknownProtocol), 2);
    assert!(events.try_recv().is_err());
}

#[test]
fn a_flow_follows_the_browser_to_a_new_address_with_its_state() {
    let (media, mut events) = Media::start(config(21300..=21399)).unwrap();
    let (mut addresses, _, web, phone) = connected(&media, &mut events);
    let mut browser = Browser::new();
    talk(&addresses, (&web, &phone), &mut browser, 10..20);
    let recorded = browser.protect(&rtp(111, 20, 0x1234));
    web.send_to(&recorded, addresses.web).unwrap();
    receive(&phone);

    let moved = socket("127.0.0.1:0".parse().unwrap());
    addresses.browser = moved.local_addr().unwrap();
    media.install(FlowId(1), addresses.to_sip());
    media.install(FlowId(2), addresses.to_web());
    for _ in 0..2 {
        assert!(matches!(event(&mut events), MediaEvent::FlowPath(..)));
    }
    // What was received from the old address is not received again from the new one.
    moved.send_to(&recorded, addresses.web).unwrap();
    assert!(receives_nothing(&phone));
    assert_eq!(counted(&media, Why::Replayed), 1);
    talk(&addresses, (&moved, &phone), &mut browser, 21..30);
    // What the browser sent by the old pair before it knew of the new one is taken for two seconds, and not later.
    let late = browser.protect(&rtp(111, 31, 0x1234));
    web.send_to(&late, addresses.web).unwrap();
    assert_eq!(Rtp::parse(&receive(&phone).0).ssrc, TO_SIP);
    std::thread::sleep(Duration::from_millis(2100));
    web.send_to(&browser.protect(&rtp(111, 32, 0x1234)), addresses.web)
        .unwrap();
    assert!(matches!(event(&mut events), MediaEvent::Datagram { .. }));
    talk(&addresses, (&moved, &phone), &mut browser, 33..40);
}

#[test]
fn a_removed_flow_forwards_nothing() {
    let (media, mut events) = Media::start(config(21400..=21499)).unwrap();
    let (addresses, _, _web, phone) = connected(&media, &mut events);
    media.remove(FlowId(2));
    media.read(FlowId(2));
    let MediaEvent::FlowCounters { snapshot: None, .. } = event(&mut events) else {
        panic!("the flow is still there");
    };
    phone.send_to(&rtp(8, 1, 1), addresses.rtp).unwrap();
    assert!(matches!(event(&mut events), MediaEvent::Datagram { .. }));
    assert_eq!(media.report().flows_userspace, 1);
}

#[test]
fn ports_run_out_and_come_back_after_a_rest() {
    let (media, mut events) = Media::start(config(21500..=21503)).unwrap();
    let first = opened(&media, &mut events, "a").unwrap();
    assert_eq!(first.rtp.port() % 2, 0);
    assert_eq!(first.rtcp.port(), first.rtp.port() + 1);
    opened(&media, &mut events, "b").unwrap();
    assert_eq!(opened(&media, &mut events, "c"), Err(PortsError::Exhausted));
    media.close_ports(first);
    assert_eq!(opened(&media, &mut events, "d"), Err(PortsError::Exhausted));
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(opened(&media, &mut events, "e"), Ok(first));
    media.close_ports(first);
    std::thread::sleep(Duration::from_millis(350));
    media.open_ports(call("with video"), 2, false);
    let MediaEvent::PortsOpened(_, refused) = event(&mut events) else {
        panic!("no answer");
    };
    assert_eq!(refused, Err(PortsError::Exhausted), "two pairs or none");
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(opened(&media, &mut events, "f"), Ok(first));
    media.open_ports(call("v6"), 1, true);
    let MediaEvent::PortsOpened(_, refused) = event(&mut events) else {
        panic!("no answer");
    };
    assert_eq!(refused, Err(PortsError::Refused));
}

#[test]
fn a_pair_that_another_process_holds_is_passed_over() {
    let _other = socket("127.0.0.1:21601".parse().unwrap());
    let (media, mut events) = Media::start(config(21600..=21603)).unwrap();
    let ports = opened(&media, &mut events, "a").unwrap();
    assert_eq!(ports.rtp.port(), 21602);
}

#[test]
fn an_explicit_mode_that_cannot_be_had_is_an_error() {
    let mut config = config(21700..=21799);
    config.datapath.mode = datapath::Mode::XdpNative;
    let error = Media::start(config).err().unwrap();
    assert!(
        format!("{error:#}").contains("xdp-native cannot be had"),
        "{error:#}"
    );
}

/// STUN from a source that floods us is dropped before the event queue; another source's comes up, and flows go on.
#[test]
fn a_flood_without_a_flow_is_dropped_before_the_event_queue() {
    let mut config = config(32_400..=32_409);
    config.datapath.flood.stun = datapath::Rate {
        per_second: 1,
        burst: 10,
    };
    let (media, mut events) = Media::start(config).unwrap();
    let (addresses, _, browser, phone) = connected(&media, &mut events);
    let flooder = socket("127.0.0.9:0".parse().unwrap());
    for _ in 0..200 {
        flooder.send_to(&[0, 1, 0, 0], addresses.web).unwrap();
    }
    let other = socket("127.0.0.8:0".parse().unwrap());
    other.send_to(&[0, 1, 0, 8], addresses.web).unwrap();
    // The browser's checks belong to a flow: they are not charged.
    for _ in 0..20 {
        browser.send_to(&[0, 1, 0, 7], addresses.web).unwrap();
    }
    let mut came = [0; 9];
    for _ in 0..10 + 1 + 20 {
        let MediaEvent::Datagram { remote, bytes, .. } = event(&mut events) else {
            panic!("no datagram");
        };
        came[usize::from(bytes[3])] += 1;
        assert!(bytes[3] != 0 || remote == flooder.local_addr().unwrap());
    }
    assert_eq!((came[0], came[8], came[7]), (10, 1, 20));
    assert_eq!(counted(&media, Why::StunBudget), 190);
    talk(
        &addresses,
        (&browser, &phone),
        &mut Browser::new(),
        100..120,
    );
}
