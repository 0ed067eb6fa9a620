//! dnsmasq as the DNS server of a namespace: the records of a test and nothing else.

use crate::netns::{Line, Namespace};
use crate::process::{Process, Program};
use std::time::Duration;

/// A running dnsmasq.
pub struct Dns {
    _process: Process,
}

impl Dns {
    /// Starts it at the SIP side's address, port 53, with records as dnsmasq's options say them (`srv-host=...`).
    pub fn start(namespace: &Namespace, records: &[String]) -> Self {
        let listen = format!("--listen-address={}", Line::SIP);
        let fixed = [
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--conf-file=/dev/null",
            "--bind-interfaces",
            "--except-interface=lo",
            "--log-facility=-",
            "--user=root",
            "--pid-file=",
        ];
        let records = records.iter().map(|record| format!("--{record}"));
        let mut process = Program::new("dnsmasq")
            .inside(Some(namespace))
            .args(fixed)
            .args([listen])
            .args(records)
            .start();
        process.wait_for_line("started", Duration::from_secs(10));
        Self { _process: process }
    }

    /// What the daemon's configuration calls it.
    pub fn address() -> String {
        format!("{}:53", Line::SIP)
    }
}
