//! Browser side and SIP side on interfaces of their own: address families, marks on the wire, an interface that goes and comes back, and
//! what is too long for one of them.

use super::*;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read as _;
use std::time::Instant;

/// After an interface is up again the media of a running call is back within this time.
const BACK_WITHIN: Duration = Duration::from_secs(3);
const V4: (&str, &str) = ("10.81.0.1", "10.82.0.1");
const V6: (&str, &str) = ("fd00:81::1", "fd00:82::1");

/// A call's gateway and its peers, with both flows installed.
struct Call {
    bed: Bed,
    browser: UdpSocket,
    phone: UdpSocket,
    gateway: Gateway,
}

/// The peer of one of our addresses.
fn peer(bed: &Bed, name: &str, ours: &str, port: u16) -> UdpSocket {
    let mut addr: SocketAddr = SocketAddr::new(ours.parse().unwrap(), port);
    let host = ours.strip_suffix('1').map(|net| format!("{net}2")).unwrap();
    addr.set_ip(host.parse().unwrap());
    bed.socket(name, &addr.to_string())
}

fn call(name: &str, mode: Mode, (web, rtp): (&str, &str), path: Path) -> Call {
    let (bed, ..) = two_armed(name);
    let browser = peer(&bed, "web", web, 50_200);
    let phone = peer(&bed, "sip", rtp, 60_200);
    let mut gateway = Gateway::start(&bed, mode, web, rtp, &[]);
    gateway.connect(&browser, &phone);
    gateway.await_path(path);
    Call {
        bed,
        browser,
        phone,
        gateway,
    }
}

impl Call {
    fn talks(&self, talker: &mut Browser, sequences: std::ops::Range<u16>) {
        let peers = (&self.browser, &self.phone);
        talk(&self.gateway.addresses, peers, talker, sequences);
    }

    /// Waits until these flows have come to this path; what comes by sockets meanwhile is as it may be.
    fn come_to(&mut self, flows: &[u64], path: Path) {
        let mut missing = flows.to_vec();
        let deadline = Instant::now() + Duration::from_secs(5);
        while !missing.is_empty() {
            assert!(
                Instant::now() < deadline,
                "the flows stay away from {path:?}"
            );
            match self.gateway.events.try_recv() {
                Ok(MediaEvent::FlowPath(FlowId(id), view)) => {
                    println!("flow {id}: {view:?}");
                    if view.path == path {
                        missing.retain(|flow| *flow != id);
                    }
                }
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

fn both_ways(name: &str, mode: Mode, addresses: (&str, &str), path: Path) {
    let mut call = call(name, mode, addresses, path);
    call.talks(&mut Browser::new(), 1..20);
    assert_eq!(call.gateway.counted(Why::Redirected), 38);
    assert_eq!(call.gateway.in_userspace(), 0);
    assert_eq!((call.gateway.packets(1), call.gateway.packets(2)), (19, 19));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn both_sides_on_ipv6_by_native_xdp() {
    both_ways("6n", Mode::XdpNative, V6, Path::XdpNative);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn both_sides_on_ipv6_by_generic_xdp() {
    both_ways("6g", Mode::XdpGeneric, V6, Path::XdpGeneric);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_browser_on_ipv6_and_a_phone_on_ipv4_by_generic_xdp() {
    both_ways("64", Mode::XdpGeneric, (V6.0, V4.1), Path::XdpGeneric);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_browser_on_ipv4_and_a_phone_on_ipv6_by_native_xdp() {
    both_ways("46", Mode::XdpNative, (V4.0, V6.1), Path::XdpNative);
}

/// Whatever arrives at a peer's interface, as it stands on the wire.
fn wire(bed: &Bed, name: &str) -> Socket {
    const EVERYTHING: u16 = 3;
    let protocol = Protocol::from(i32::from(EVERYTHING.to_be()));
    let socket = bed.within(name, || {
        Socket::new(Domain::PACKET, Type::RAW, Some(protocol))
    });
    let socket = socket.expect("root may capture");
    let patience = Some(Duration::from_secs(2));
    socket
        .set_read_timeout(patience)
        .expect("a time-out is set");
    socket
}

/// DSCP of the next frame that carries a datagram to this port.
fn mark(wire: &mut Socket, port: u16) -> u8 {
    let mut frame = [0; 2048];
    loop {
        let length = wire.read(&mut frame).expect("a frame within two seconds");
        let (traffic_class, udp) = match frame[12..14] {
            [0x08, 0x00] if frame[23] == 17 => (frame[15], 34),
            [0x86, 0xdd] if frame[20] == 17 => (frame[14] << 4 | frame[15] >> 4, 54),
            _ => continue,
        };
        if length > udp + 8 && frame[udp + 2..udp + 4] == port.to_be_bytes() {
            return traffic_class >> 2;
        }
    }
}

/// Each leg has its own mark, whatever the packets came with.
fn marks(name: &str, mode: Mode, addresses: (&str, &str), path: Path) {
    let mut call = call(name, mode, addresses, path);
    let (mut at_web, mut at_sip) = (wire(&call.bed, "web"), wire(&call.bed, "sip"));
    let (mut to_sip, mut to_web) = (
        call.gateway.addresses.to_sip(),
        call.gateway.addresses.to_web(),
    );
    for (spec, dscp) in [(&mut to_sip, 26), (&mut to_web, 34)] {
        spec.media[0].as_mut().unwrap().dscp = dscp;
    }
    call.gateway.media.install(FlowId(1), to_sip);
    call.gateway.media.install(FlowId(2), to_web);
    call.come_to(&[1, 2], path);
    let mut talker = Browser::new();
    call.talks(&mut talker, 1..4);
    for _ in 1..4 {
        assert_eq!(
            mark(&mut at_sip, call.phone.local_addr().unwrap().port()),
            26
        );
        assert_eq!(
            mark(&mut at_web, call.browser.local_addr().unwrap().port()),
            34
        );
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn each_leg_has_its_dscp_in_native_xdp() {
    marks("dn4", Mode::XdpNative, V4, Path::XdpNative);
    marks("dn6", Mode::XdpNative, V6, Path::XdpNative);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn each_leg_has_its_dscp_in_generic_xdp_and_userspace() {
    marks("dg6", Mode::XdpGeneric, V6, Path::XdpGeneric);
    marks("du4", Mode::Userspace, V4, Path::Userspace);
    marks("du6", Mode::Userspace, V6, Path::Userspace);
}

/// An interface goes down and comes up again while the call runs; `flow` is the one that leaves by it.
fn goes_and_comes(name: &str, mode: Mode, path: Path, device: &str, flow: u64) {
    let mut call = call(name, mode, V4, path);
    let mut talker = Browser::new();
    call.talks(&mut talker, 1..10);
    call.bed.ip(&format!("link set {device} down"));
    // The browser goes on talking.
    let mut sequence = 10;
    let mut says = |call: &Call, talker: &mut Browser| {
        let packet = talker.protect(&rtp(111, sequence, 0x1234));
        sequence += 1;
        let _ = call.browser.send_to(&packet, call.gateway.addresses.web);
        std::thread::sleep(Duration::from_millis(20));
        let patience = Some(Duration::from_millis(1));
        call.phone.set_read_timeout(patience).unwrap();
        call.phone.recv_from(&mut [0; 2048]).is_ok()
    };
    let mut heard = 0;
    for _ in 0..40 {
        heard += u32::from(says(&call, &mut talker));
    }
    // What was on its way.
    assert!(heard <= 2, "{heard} packets by an interface that is down");
    call.bed.ip(&format!("link set {device} up"));
    let up = Instant::now();
    while !says(&call, &mut talker) {
        assert!(up.elapsed() < BACK_WITHIN, "no media after {BACK_WITHIN:?}");
    }
    println!("media is back {:?} after {device}", up.elapsed());
    call.come_to(&[flow], path);
    // What sockets still hold is the userspace engine's, or nobody's.
    std::thread::sleep(Duration::from_millis(200));
    let patience = Some(Duration::from_millis(50));
    call.phone.set_read_timeout(patience).unwrap();
    while call.phone.recv_from(&mut [0; 2048]).is_ok() {}
    call.phone
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let by_sockets = call.gateway.in_userspace();
    call.talks(&mut talker, 1000..1020);
    assert_eq!(call.gateway.in_userspace(), by_sockets);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_sip_side_goes_down_and_comes_back_within_native_xdp() {
    goes_and_comes("is", Mode::XdpNative, Path::XdpNative, "sip0", 1);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_browser_side_goes_down_and_comes_back_within_native_xdp() {
    goes_and_comes("iw", Mode::XdpNative, Path::XdpNative, "web0", 2);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_sip_side_goes_down_and_comes_back_within_generic_xdp() {
    goes_and_comes("ig", Mode::XdpGeneric, Path::XdpGeneric, "sip0", 1);
}

/// Video that has room on the SIP side, and with its tag none on the browser's; until that takes longer packets.
fn too_long(name: &str, mode: Mode, path: Path) {
    let (bed, ..) = two_armed(name);
    bed.ip("link set web0 mtu 1420");
    let browser = bed.socket("web", "10.81.0.2:50300");
    let phone = bed.socket("sip", "10.82.0.2:60300");
    let mut gateway = Gateway::start(&bed, mode, V4.0, V4.1, &[]);
    gateway.connect(&browser, &phone);
    gateway.await_path(path);
    let mut page = Browser::new();
    let video = |sequence, payload_bytes: usize| {
        let mut packet = rtp(8, sequence, 0x9876);
        packet.resize(12 + payload_bytes, 0x5a);
        packet
    };
    // 1410 bytes of IPv4 with the tag.
    let fits = video(1, 1360);
    phone.send_to(&fits, gateway.addresses.rtp).unwrap();
    let got = page.unprotect(&receive(&browser).0);
    assert_eq!(got[12..], fits[12..]);
    phone
        .send_to(&video(2, 1400), gateway.addresses.rtp)
        .unwrap();
    assert!(receives_nothing(&browser));
    assert_eq!(gateway.counted(Why::TooLong), 1);
    // It came up to the daemon, which does not encrypt it with a copy of the kernel's state.
    assert_eq!(gateway.media.report().kernel_owned, 1);
    assert_eq!(gateway.in_userspace(), 0);

    bed.ip("link set web0 mtu 1500");
    let deadline = Instant::now() + BACK_WITHIN;
    for sequence in 3.. {
        let fits = video(sequence, 1400);
        phone.send_to(&fits, gateway.addresses.rtp).unwrap();
        if !receives_nothing(&browser) {
            break;
        }
        assert!(Instant::now() < deadline, "the new MTU is not followed");
    }
    let next = video(500, 1400);
    phone.send_to(&next, gateway.addresses.rtp).unwrap();
    let got = page.unprotect(&receive(&browser).0);
    assert_eq!(got[12..], next[12..]);
    assert_eq!(gateway.in_userspace(), 0);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_is_too_long_for_the_other_side_is_dropped_with_its_reason() {
    too_long("ln", Mode::XdpNative, Path::XdpNative);
    too_long("lg", Mode::XdpGeneric, Path::XdpGeneric);
}
