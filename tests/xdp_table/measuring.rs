//! The comparison keeps measuring: a run of seconds on its own veth bed; and the search for secrets in times keeps searching.

use serde_json::Value;
use std::process::Command;
use testbed::files;

/// The comparison's own bed: frames go in at their times, come out of both datapaths, and are counted.
#[test]
#[ignore = "needs root and the XDP object: cargo xtask test"]
fn the_bench_measures_both_datapaths() {
    let output = Command::new(files::bench())
        .args(["veth", "--quick", "--no-search", "--as-json"])
        .args(["--forwarder=xdp,userspace", "--pps=4000", "--seconds=0.2"])
        .env("CAUSEWAY_BIN", files::daemon())
        .output()
        .expect("the bench tools are built beside the tests");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let figures: Value = serde_json::from_slice(&output.stdout).expect("figures are JSON");
    let rows = figures["measured"].as_array().expect("rows");
    assert_eq!(
        rows.len(),
        12,
        "six kinds of work, two forwarders: {figures}"
    );
    for row in rows {
        let number = |name: &str| row[name].as_f64().unwrap_or_default();
        // A CPU that is taken away costs packets; a forwarder that does not work costs them all.
        assert!(number("loss_percent") < 50.0, "{row}");
        assert!(number("cpu_ns") > 0.0, "{row}");
        assert!(row["latency"]["p50_us"].as_f64() > Some(0.0), "{row}");
    }
}

/// It judges nothing here: what a busy machine says is not to be had twice.
#[test]
#[ignore = "needs root and the XDP object: cargo xtask test"]
fn times_are_compared_on_the_host_and_in_the_kernel() {
    let output = Command::new(files::bench())
        .args(["timing", "--json", "--packets=300"])
        .output()
        .expect("the bench tools are built beside the tests");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    assert_eq!(report["missing"], Value::Null, "{report}");
    let rows = report["rows"].as_array().expect("rows");
    for path in ["host", "kernel"] {
        let of_path = rows.iter().filter(|row| row["path"] == path);
        let (mut rows, mut secrets) = (0, 0);
        for row in of_path {
            rows += 1;
            secrets += u32::from(row["suite"] != "");
            assert!(row["mean_ns"].as_f64() > Some(0.0), "{row}");
            assert!(row["t"].as_f64().is_some_and(f64::is_finite), "{row}");
        }
        assert_eq!(secrets, 9, "three suites, three secrets: {report}");
        assert_eq!(rows - secrets, u32::from(path == "host"), "one control");
    }
}
