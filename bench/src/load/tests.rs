//! Loads over loopback: whole, and with a forwarder in between that spoils them.

use std::net::UdpSocket;
use std::sync::atomic::AtomicBool;

use super::*;

/// Where `udp` is, on a port of the kernel's choice that is free again.
fn free() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

fn config(target: SocketAddr, sink: SocketAddr) -> LoadConfig {
    let source = Side::here("127.0.0.1:0".parse().unwrap());
    let mut config = LoadConfig::g711(20, source, vec![target], Side::here(sink));
    config.seconds = 1.0;
    config.warm_up_s = 0.2;
    // The machine may be busy: only what this test is about shall count.
    config.late = Duration::from_secs(10);
    config
}

/// Runs the load through a forwarder; `change` returns what goes on, nothing or more for each packet.
fn run_through(
    change: impl Fn(usize, Vec<u8>) -> Vec<Vec<u8>> + Sync,
    adjust: impl FnOnce(&mut LoadConfig),
) -> LoadReport {
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
    relay
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let sink = free();
    let mut config = config(relay.local_addr().unwrap(), sink);
    adjust(&mut config);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 2048];
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                let Ok(length) = relay.recv(&mut buffer) else {
                    continue;
                };
                for packet in change(count, buffer[..length].to_vec()) {
                    relay.send_to(&packet, sink).unwrap();
                }
                count += 1;
            }
        });
        let report = run(&config);
        done.store(true, Ordering::Relaxed);
        report.unwrap()
    })
}

#[test]
fn nothing_is_lost_on_loopback_plain_or_encrypted() {
    for key in [None, Some(MasterKey::MEASUREMENT)] {
        let sink = free();
        let mut config = config(sink, sink);
        config.send_key = key;
        config.receive_keys = key.into_iter().collect();
        config.source_port_per_stream = key.is_some();
        let report = run(&config).unwrap();
        assert_eq!((report.sent, report.received), (800, 800), "{report}");
        assert_eq!((report.lost, report.late, report.duplicates), (0, 0, 0));
        assert!(report.checked >= 10 && report.corrupt == 0, "{report}");
        let bytes = if key.is_some() { 182.0 } else { 172.0 };
        assert!((report.bytes_received - bytes).abs() < 0.01, "{report}");
        assert!(report.latency.p50_us > 0.0 && report.latency.max_us < 10_000_000.0);
        assert_eq!(report.total, 1000);
    }
}

#[test]
fn srtp_payloads_are_not_the_plain_ones() {
    let mut plain = config(free(), free());
    let clear = Packets::new(&plain, 40).unwrap();
    plain.send_key = Some(MasterKey::MEASUREMENT);
    let secret = Packets::new(&plain, 40).unwrap();
    for index in 0..40 {
        assert_eq!(clear.packet(index)[..12], secret.packet(index)[..12]);
        assert_ne!(clear.packet(index)[12..172], secret.packet(index)[12..172]);
        assert_eq!(secret.index_of(secret.packet(index)), Some(index));
    }
}

#[test]
fn every_tenth_packet_that_is_dropped_is_missed() {
    let report = run_through(
        |count, packet| {
            if count % 10 == 3 {
                vec![]
            } else {
                vec![packet]
            }
        },
        |_| {},
    );
    assert_eq!(report.sent, 800);
    assert_eq!((report.lost, report.received), (80, 720), "{report}");
    assert!((report.loss_percent - 10.0).abs() < 0.01);
}

#[test]
fn duplicates_and_strangers_are_told_apart() {
    let report = run_through(
        |count, packet| match count {
            500 => vec![packet.clone(), packet],
            600 => vec![packet, vec![0x80; 40], b"hello".to_vec()],
            _ => vec![packet],
        },
        |_| {},
    );
    assert_eq!(
        (report.duplicates, report.foreign, report.lost),
        (1, 2, 0),
        "{report}"
    );
}

#[test]
fn a_forwarder_that_spoils_payloads_is_found_out() {
    let spoil = |_, mut packet: Vec<u8>| {
        packet[20] ^= 1;
        vec![packet]
    };
    let report = run_through(spoil, |_| {});
    assert_eq!(report.corrupt, report.checked, "{report}");
    let report = run_through(spoil, |config| {
        config.send_key = Some(MasterKey::MEASUREMENT);
        config.receive_keys = vec![MasterKey::MEASUREMENT];
    });
    assert_eq!(report.corrupt, report.checked, "{report}");
    assert!(report.checked > 0);
}

#[test]
fn late_packets_do_not_count_as_received() {
    let report = run_through(
        |count, packet| {
            if count == 900 {
                std::thread::sleep(Duration::from_millis(600));
            }
            vec![packet]
        },
        |config| config.late = Duration::from_millis(300),
    );
    assert!(report.late > 0, "{report}");
    assert_eq!(report.late + report.received + report.lost, report.sent);
    assert!(report.latency.max_us > 500_000.0, "{report}");
}

#[test]
fn loads_that_make_no_sense_are_refused() {
    let refused = |change: fn(&mut LoadConfig)| {
        let mut config = config(free(), free());
        change(&mut config);
        run(&config).unwrap_err().to_string()
    };
    assert!(refused(|config| config.streams = 0).contains("nothing"));
    assert!(refused(|config| config.targets.push(config.targets[0])).contains("2 targets"));
    assert!(refused(|config| config.seconds = 1e5).contains("per stream"));
    assert!(refused(|config| config.warm_up_s = 9.0).contains("warm-up"));
    let sink = refused(|config| config.sink.address = "192.0.2.1:9".parse().unwrap());
    assert!(sink.contains("sink"), "{sink}");
}
