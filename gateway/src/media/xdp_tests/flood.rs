//! A flood beside a call.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

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
