//! `cargo xtask demo` as a person would use it: start, open the URL, call `echo`, hear oneself, Ctrl-C.

use nix::sys::signal::Signal;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;
use testbed::browser::{Browser, Options};
use testbed::files;
use testbed::page::DemoPage;
use testbed::process::{Process, Program};

const START_LIMIT: Duration = Duration::from_secs(240);
const STOP_LIMIT: Duration = Duration::from_secs(20);

#[test]
#[ignore = "needs chromium: cargo xtask test"]
fn without_privileges_a_browser_hears_itself_and_nothing_is_left() {
    // Root without any capability is a common user who may read the checkout.
    let unprivileged = [
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--ambient-caps=-all",
        "--",
    ];
    let demo = if nix::unistd::geteuid().is_root() {
        Program::new("setpriv")
            .args(unprivileged)
            .args([files::xtask().to_string_lossy()])
    } else {
        Program::new(files::xtask())
    };
    let path = hears_itself(demo.args(["demo", "--port", "18080"]).start());
    assert_eq!(path, "userspace");
}

#[test]
#[ignore = "needs chromium: cargo xtask test"]
fn as_whoever_runs_the_test_a_browser_hears_itself() {
    let path = hears_itself(
        Program::new(files::xtask())
            .args(["demo", "--port", "18180"])
            .start(),
    );
    assert!(
        ["userspace", "xdp-generic", "xdp-native"].contains(&path.as_str()),
        "{path}"
    );
}

/// Calls `echo` on the page of a demo, ends the demo, and gives the path that the media took.
fn hears_itself(mut demo: Process) -> String {
    let line = demo.wait_for_line("ready: http", START_LIMIT);
    let url = line.trim_start_matches("ready: ").trim().to_owned();
    let programs = children(demo.id());
    assert!(programs.len() >= 2, "gateway and SIP peer: {programs:?}");
    let browser = Browser::start(&Options {
        loopback: true,
        ..Options::default()
    });
    let page = DemoPage::open(&browser, &url);
    page.sign_in("", "");
    page.dial("echo");
    page.wait_connected();
    let [(to_sip, _), (to_browser, _)] = page.paths();
    assert_eq!(to_sip, to_browser);
    let before = page.statistics();
    sleep(Duration::from_secs(5));
    let after = page.statistics();
    let received = after.received - before.received;
    assert!(received >= 220, "{received} packets in 5 s");
    let energy = after.audio_energy - before.audio_energy;
    assert!(energy > 1e-4, "heard next to nothing: energy {energy}");
    drop(browser);
    stops_without_a_trace(demo, &programs);
    to_sip
}

fn stops_without_a_trace(mut demo: Process, programs: &[u32]) {
    let name = format!("causeway-demo-{}", demo.id());
    demo.signal(Signal::SIGINT);
    let status = demo.wait(STOP_LIMIT);
    assert!(status.success(), "the demo ended with {status}");
    let left: Vec<_> = programs
        .iter()
        .filter(|pid| Path::new("/proc").join(pid.to_string()).exists())
        .collect();
    assert!(left.is_empty(), "still running: {left:?}");
    for directory in [std::env::temp_dir(), "/sys/fs/bpf".into()] {
        assert!(
            !directory.join(&name).exists(),
            "{name} is left in {}",
            directory.display()
        );
    }
}

/// Processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let listed = fs::read_to_string(path).unwrap_or_default();
    listed
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}
