//! Kamailio with rtpengine as a session border controller: SRTP towards the caller, plain RTP to the phone behind it, which is
//! [`crate::baresip::Baresip::alone`].

use crate::baresip::Baresip;
use crate::files::Directory;
use crate::netns::{Line, Namespace};
use crate::process::{Process, Program};
use std::time::Duration;

/// A running pair of them.
pub struct Sbc {
    _kamailio: Process,
    rtpengine: Process,
    _directory: Directory,
}

/// How it keys its media towards the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keying {
    /// By ICE, as ice-lite agent, and DTLS, as server.
    Dtls,
    /// By the descriptions.
    Sdes,
}

impl Keying {
    /// Flags of rtpengine for the offer and for the answer.
    fn flags(self) -> [&'static str; 2] {
        match self {
            Self::Dtls => [
                "RTP/AVP ICE=remove ICE-lite=backward rtcp-mux-demux",
                "ICE=force DTLS=passive",
            ],
            Self::Sdes => ["RTP/AVP", "RTP/SAVP"],
        }
    }
}

/// rtpengine's control port, on the namespace's loopback.
const CONTROL: u16 = 22_222;

const ROUTES: &str = r#"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "rtpengine.so"

request_route {
    if (has_totag()) {
        if (is_method("BYE")) rtpengine_delete();
        if (!loose_route()) {
            if (is_method("ACK")) {
                if (t_check_trans()) t_relay();
            } else {
                sl_send_reply("404", "Not Here");
            }
            exit;
        }
        t_relay();
        exit;
    }
    if (is_method("CANCEL")) {
        if (t_check_trans()) t_relay();
        exit;
    }
    if (!is_method("INVITE")) {
        sl_send_reply("405", "Method Not Allowed");
        exit;
    }
    record_route();
    rtpengine_offer("replace-origin replace-session-connection OFFER_FLAGS");
    t_on_reply("ANSWER");
    $du = "sip:PHONE";
    t_relay();
}

onreply_route[ANSWER] {
    if (has_body("application/sdp")) {
        rtpengine_answer("replace-origin replace-session-connection ANSWER_FLAGS");
    }
}
"#;

impl Sbc {
    const PORT: u16 = 5060;

    /// Starts both at the SIP side's address.
    pub fn start(namespace: &Namespace, keying: Keying) -> Self {
        let directory = Directory::new("sbc");
        let run = directory.path().to_string_lossy().into_owned();
        let mut rtpengine = Program::new("rtpengine")
            .inside(Some(namespace))
            .args([
                "--foreground",
                "--log-stderr",
                "--log-level=7",
                "--table=-1",
            ])
            .args(["--num-threads=1", "--port-min=30000", "--port-max=30999"])
            .args([
                &format!("--interface={}", Line::SIP),
                &format!("--listen-ng=127.0.0.1:{CONTROL}"),
                &format!("--pidfile={run}/rtpengine.pid"),
            ])
            .start();
        rtpengine.wait_for_line("Startup complete", Duration::from_secs(15));
        let (address, port) = (Line::SIP, Self::PORT);
        let head = format!(
            r#"#!KAMAILIO
debug=2
log_stderror=yes
children=1
tcp_children=1
auto_aliases=no
listen=udp:{address}:{port}
listen=tcp:{address}:{port}
"#
        );
        let control = format!(
            "modparam(\"rtpengine\", \"rtpengine_sock\", \"udp:127.0.0.1:{CONTROL}\")\n\nrequest_route"
        );
        let phone = format!("{address}:{}", Baresip::PORT);
        let routes = ROUTES
            .replace("PHONE", &phone)
            .replace("OFFER_FLAGS", keying.flags()[0])
            .replace("ANSWER_FLAGS", keying.flags()[1])
            .replacen("request_route", &control, 1);
        let config = directory.write("kamailio.cfg", head + &routes);
        let mut kamailio = Program::new("kamailio")
            .inside(Some(namespace))
            .args(["-f", &config.to_string_lossy()])
            .args(["-DD", "-E", "-m", "64", "-M", "4"])
            .args(["-Y", &run, "-P", &format!("{run}/kamailio.pid")])
            .start();
        kamailio.wait_for_line("INFO: <core> [core/tcp_main.c", Duration::from_secs(15));
        Self {
            _kamailio: kamailio,
            rtpengine,
            _directory: directory,
        }
    }

    /// Whether it told the caller that it is ice-lite.
    pub fn was_ice_lite(&self) -> bool {
        let lines = self.rtpengine.lines();
        lines.iter().any(|line| line.contains("a=ice-lite"))
    }

    /// Whom to call.
    pub fn address() -> String {
        format!("sip:phone@{}:{}", Line::SIP, Self::PORT)
    }
}
