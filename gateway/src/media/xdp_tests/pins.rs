//! What stays in the bpffs, and for whom.

use super::*;

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
