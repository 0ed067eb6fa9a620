//! Flows spread over CPUs: each on its own, in order, and nothing but their RTP.

use super::*;
use crate::datapath::Cpus;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

const FLOWS: u16 = 4;
const BURSTS: u16 = 20;
const BURST: u16 = 10;

/// From now on the calling thread, and the receive interrupt of what it sends over veth, run there.
fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// One browser's stream to a phone of its own.
struct Stream {
    browser: UdpSocket,
    phone: UdpSocket,
    talker: Browser,
    received: u16,
}

impl Stream {
    fn sends(&mut self, web: SocketAddr, sequence: u16) {
        let packet = self.talker.protect(&rtp(111, sequence, 0x1234));
        self.browser.send_to(&packet, web).unwrap();
    }

    /// The next one arrives, whatever CPU the one before took.
    fn receives(&mut self, sequence: u16) {
        let got = Rtp::parse(&receive(&self.phone).0);
        let sent = rtp(111, sequence, 0x1234);
        assert_eq!(got.payload, sent[12..], "packet {sequence}");
        self.received += 1;
    }
}

/// Sends all streams' packets in bursts, one of each stream in turn.
fn send_all(streams: &mut [Stream], web: SocketAddr, first: u16) {
    for burst in 0..BURSTS {
        let from = first + burst * BURST;
        for sequence in from..from + BURST {
            for stream in streams.iter_mut() {
                stream.sends(web, sequence);
            }
        }
        for stream in streams.iter_mut() {
            (from..from + BURST).for_each(|sequence| stream.receives(sequence));
        }
    }
}

fn spread(mode: Mode, path: Path, name: &str) {
    let (bed, ..) = two_armed(name);
    let datapath = datapath::Config {
        mode,
        cpus: Cpus::List(vec![0, 1]),
        ..datapath::Config::default()
    };
    let mut gateway = Gateway::start_with(&bed, datapath, "10.81.0.1", "10.82.0.1");
    let report = gateway.media.report().spread;
    assert_eq!(report.reason, "over CPUs 0, 1 by configuration");
    let mut streams: Vec<_> = (0..FLOWS)
        .map(|number| Stream {
            browser: bed.socket("web", &format!("10.81.0.2:{}", 50_100 + number)),
            phone: bed.socket("sip", &format!("10.82.0.2:{}", 60_100 + number)),
            talker: Browser::new(),
            received: 0,
        })
        .collect();
    for (id, stream) in (1..).zip(&streams) {
        let mut call = gateway.addresses;
        call.browser = stream.browser.local_addr().unwrap();
        call.phone = stream.phone.local_addr().unwrap();
        gateway.media.install(FlowId(id), call.to_sip());
        gateway.await_flow(id, path);
    }
    let web = gateway.addresses.web;
    let of_one_cpu = u64::from(FLOWS / 2 * BURSTS * BURST);

    // What comes in on one CPU is handed to the other where the flow is that one's, and stays otherwise.
    for (cpu, other) in [(0, 1), (1, 0)] {
        stay_on(cpu);
        send_all(&mut streams, web, 1000 * (1 + cpu as u16));
        let mut taken = [0; 2];
        taken[1] = of_one_cpu;
        if cpu == 1 {
            taken[0] = of_one_cpu;
        }
        let report = gateway.media.report().spread;
        assert_eq!(report.taken, taken, "to {other}");
    }
    let total = 2 * 2 * of_one_cpu;
    assert_eq!(gateway.counted(Why::Spread), 2 * of_one_cpu);
    assert_eq!(gateway.counted(Why::Redirected), total);
    assert_eq!(gateway.in_userspace(), 0);
    for id in 1..=u64::from(FLOWS) {
        assert_eq!(gateway.packets(id), total / u64::from(FLOWS));
    }
    // What is no RTP is passed by the CPU that received it.
    for stream in &streams {
        stream.browser.send_to(&[0, 1, 0, 0], web).unwrap();
        let Some(MediaEvent::Datagram { bytes, .. }) = gateway.events.blocking_recv() else {
            panic!("no datagram");
        };
        assert_eq!(bytes, [0, 1, 0, 0]);
    }
    assert_eq!(gateway.counted(Why::Spread), 2 * of_one_cpu);
    assert_eq!(gateway.counted(Why::Stun), u64::from(FLOWS));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn flows_are_spread_over_cpus_in_order_by_native_xdp() {
    spread(Mode::XdpNative, Path::XdpNative, "u");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn flows_are_spread_over_cpus_in_order_by_generic_xdp() {
    spread(Mode::XdpGeneric, Path::XdpGeneric, "v");
}

/// XDP_TX is not to be had away from the receiving CPU: the frame is redirected to where it came from.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_spread_flow_leaves_by_the_interface_that_it_came_in_by() {
    let mut bed = Bed::new("w");
    bed.peer("one", 81);
    let browser = bed.socket("one", "10.81.0.2:50000");
    let phone = bed.socket("one", "10.81.0.2:60000");
    let datapath = datapath::Config {
        cpus: Cpus::List(vec![0, 1]),
        ..datapath::Config::default()
    };
    let mut gateway = Gateway::start_with(&bed, datapath, "10.81.0.1", "10.81.0.1");
    gateway.connect(&browser, &phone);
    gateway.await_path(Path::XdpNative);
    stay_on(0);
    let peers = (&browser, &phone);
    talk(&gateway.addresses, peers, &mut Browser::new(), 1..20);
    assert_eq!(gateway.counted(Why::Forwarded), 38);
    // Each direction has its CPU.
    assert_eq!(gateway.counted(Why::Spread), 19);
    assert_eq!(gateway.media.report().spread.taken, [0, 19]);
}

/// A CPU that is not there costs the spreading, not the datapath.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_that_cpu_nothing_is_spread_and_the_check_says_so() {
    let (bed, browser, phone) = two_armed("x");
    let datapath = datapath::Config {
        cpus: Cpus::List(vec![0, 4095]),
        ..datapath::Config::default()
    };
    let auto = datapath::Config {
        cpus: Cpus::Auto,
        ..datapath::Config::default()
    };
    let addresses = ["10.81.0.1", "10.82.0.1"].map(|address| address.parse().unwrap());
    let report = crate::check::run(&auto, &addresses, 10).to_string();
    assert!(
        report.contains("because every interface has one receive queue"),
        "{report}"
    );
    let report = crate::check::run(&datapath, &addresses, 10).to_string();
    let mut lines = report.lines().filter(|line| line.contains(" spread "));
    let line = lines.next().expect("the check has a line on it");
    assert!(line.starts_with("note "), "{line}");
    assert!(
        line.ends_with("off, because there is no CPU 4095"),
        "{line}"
    );
    let mut gateway = Gateway::start_with(&bed, datapath, "10.81.0.1", "10.82.0.1");
    assert!(gateway.media.report().spread.cpus.is_empty());
    gateway.connect(&browser, &phone);
    gateway.await_path(Path::XdpNative);
    let peers = (&browser, &phone);
    talk(&gateway.addresses, peers, &mut Browser::new(), 1..10);
    assert_eq!(gateway.counted(Why::Spread), 0);
}
