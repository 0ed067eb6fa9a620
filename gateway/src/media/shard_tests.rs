//! Several media threads: calls are spread, and a flow that changes its thread takes its state along.

use super::testing::{Browser, receive, receives_nothing, rtp, socket, talk};
use super::tests::{config, connected, counted, event, opened};
use super::{Media, MediaEvent};
use flow::Why;
use gateway_core::api::CallId;
use gateway_core::gateway::FlowId;
use std::net::UdpSocket;

fn threads(ports: std::ops::RangeInclusive<u16>, count: u32) -> super::MediaConfig {
    let mut config = config(ports);
    config.datapath.threads = count;
    config
}

/// A socket whose packets another one of two threads gets than those of that port.
fn beside(port: u16) -> UdpSocket {
    let any = "127.0.0.1:0".parse().unwrap();
    loop {
        let socket = socket(any);
        if socket.local_addr().unwrap().port() % 2 != port % 2 {
            return socket;
        }
    }
}

#[test]
fn calls_go_round_the_threads_until_no_thread_has_ports() {
    let (media, mut events) = Media::start(threads(21800..=21815, 4)).unwrap();
    let mut pairs = [0; 4];
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let ports = opened(&media, &mut events, name).unwrap();
        pairs[usize::from(ports.rtp.port() / 2) % 4] += 1;
        // The last ones are all of threads that had more than others.
        let most = pairs.iter().max().unwrap();
        assert!(most - pairs.iter().min().unwrap() <= 1, "{pairs:?}");
    }
    assert_eq!(pairs, [2; 4]);
    assert!(opened(&media, &mut events, "i").is_err());
}

#[test]
fn a_flow_that_changes_its_thread_takes_its_state_along_and_late_packets_follow() {
    let (media, mut events) = Media::start(threads(21820..=21839, 2)).unwrap();
    let (mut addresses, _, web, phone) = connected(&media, &mut events);
    let mut browser = Browser::new();
    // Over the wrap: the rollover counter has to move, too.
    talk(&addresses, (&web, &phone), &mut browser, 65_500..65_535);
    let mut from = web;
    let mut first = 65_535;
    for _ in 0..4 {
        let recorded = browser.protect(&rtp(111, first, 0x1234));
        from.send_to(&recorded, addresses.web).unwrap();
        receive(&phone);
        let moved = beside(addresses.browser.port());
        addresses.browser = moved.local_addr().unwrap();
        media.install(FlowId(1), addresses.to_sip());
        media.install(FlowId(2), addresses.to_web());
        for _ in 0..2 {
            assert!(matches!(event(&mut events), MediaEvent::FlowPath(..)));
        }
        let replayed = counted(&media, Why::Replayed);
        moved.send_to(&recorded, addresses.web).unwrap();
        assert!(receives_nothing(&phone), "a packet is taken once");
        assert_eq!(counted(&media, Why::Replayed), replayed + 1);
        let late = browser.protect(&rtp(111, first.wrapping_add(1), 0x1234));
        from.send_to(&late, addresses.web).unwrap();
        receive(&phone);
        let next = first.wrapping_add(2);
        talk(&addresses, (&moved, &phone), &mut browser, next..next + 10);
        (from, first) = (moved, next + 10);
    }
    assert_eq!(media.report().flows_userspace, 2);
    media.remove(FlowId(1));
    media.remove(FlowId(2));
    media.read(FlowId(1));
    let MediaEvent::FlowCounters { snapshot: None, .. } = event(&mut events) else {
        panic!("the flow is still there");
    };
    assert_eq!(media.report().flows_userspace, 0);
}

#[test]
fn what_is_no_media_comes_up_and_goes_out_by_whichever_thread() {
    let (media, mut events) = Media::start(threads(21840..=21859, 3)).unwrap();
    let web = media.web_addresses()[0];
    for _ in 0..9 {
        let browser = socket("127.0.0.1:0".parse().unwrap());
        browser.send_to(&[0, 1, 0, 0], web).unwrap();
        let MediaEvent::Datagram { remote, .. } = event(&mut events) else {
            panic!("STUN did not come up");
        };
        media.transmit(web, remote, b"answer".to_vec());
        assert_eq!(receive(&browser), (b"answer".to_vec(), web));
    }
    media.open_ports(CallId("a".into()), 2, false);
    let MediaEvent::PortsOpened(_, Ok(ports)) = event(&mut events) else {
        panic!("no ports");
    };
    let phone = socket("127.0.0.1:0".parse().unwrap());
    for pair in &ports {
        media.transmit(pair.rtcp, phone.local_addr().unwrap(), b"report".to_vec());
        assert_eq!(receive(&phone), (b"report".to_vec(), pair.rtcp));
    }
}

#[test]
fn the_browsers_address_is_not_shared_with_another_daemon() {
    let (media, _events) = Media::start(threads(21860..=21869, 2)).unwrap();
    let mut second = threads(21870..=21879, 2);
    second.web_listen = media.web_addresses().to_vec();
    let error = Media::start(second).err().expect("the address is taken");
    assert!(format!("{error:#}").contains("in use"), "{error:#}");
}
