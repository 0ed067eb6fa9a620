//! SIPp as the called party: answers with G.711 mu-law and sends every RTP packet back.

use crate::netns::{Line, Namespace};
use crate::process::{Process, Program};
use std::net::Ipv4Addr;

/// A running SIPp.
pub struct Sipp {
    process: Process,
    address: String,
}

impl Sipp {
    /// SIP port.
    pub const PORT: u16 = 5070;

    /// Starts SIPp's own answering scenario with RTP echo at the SIP side's address; it ends after that many calls.
    pub fn answer(namespace: &Namespace, calls: u32) -> Self {
        Self::answer_at(Some(namespace), Line::SIP, calls)
    }

    fn answer_at(namespace: Option<&Namespace>, address: Ipv4Addr, calls: u32) -> Self {
        let (text, port, calls) = (
            address.to_string(),
            Self::PORT.to_string(),
            calls.to_string(),
        );
        let process = Program::new("sipp")
            .inside(namespace)
            .args([
                "-sn",
                "uas",
                "-rtp_echo",
                "-nostdin",
                "-i",
                &text,
                "-p",
                &port,
            ])
            .args(["-mi", &text, "-mp", "6000", "-m", &calls])
            .env("TERM", "dumb")
            .start();
        Self {
            process,
            address: format!("sip:service@{address}:{port}"),
        }
    }

    /// Whom to call.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits for its end; `true` where every call went as the scenario says.
    pub fn went_well(&mut self) -> bool {
        self.process
            .wait(std::time::Duration::from_secs(20))
            .success()
    }
}
