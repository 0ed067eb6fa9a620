//! Room for flows.

use super::*;

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
