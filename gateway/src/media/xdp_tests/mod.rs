//! The media plane with XDP, between network namespaces. Needs root and a build with the XDP object.

mod flood;
mod hairpin;
mod moves;
mod pins;
mod slots;
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
