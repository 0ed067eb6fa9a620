//! Phones with SRTP, by keys in the descriptions (SDES, RFC 4568): baresip, or by ICE and DTLS as browsers do (RFC 5763): Kamailio with
//! rtpengine, which is ice-lite. What they hear they send back, so Chromium's tone has gone through four encryptions when it
//! comes home.

use testbed::baresip::Baresip;
use testbed::capture;
use testbed::datapath::Datapath;
use testbed::netns::Line;
use testbed::sbc::{Keying, Sbc};

/// 20 ms of G.711.
const PLAIN_BYTES: usize = 160;

/// `sip.srtp`, what baresip calls it, and the suite that is offered: those that baresip has.
const CALLS: [(&str, &str, &str); 4] = [
    ("require", "srtp-mand", "AES_CM_128_HMAC_SHA1_80"),
    ("require", "srtp-mand", "AES_CM_128_HMAC_SHA1_32"),
    ("offer", "srtp", "AEAD_AES_128_GCM"),
    ("require", "srtp-mand", "AEAD_AES_256_GCM"),
];

pub(crate) fn chromium_calls_a_phone_with_srtp_of_every_suite_that_it_has(datapath: Datapath) {
    // All datapaths run one state machine: one suite of each kind shows that the others have its calls, too.
    let step = if datapath == Datapath::XdpNative {
        1
    } else {
        2
    };
    for (usage, encryption, suite) in CALLS.into_iter().step_by(step) {
        let line = Line::new();
        let _phone = Baresip::with_srtp(&line.sip, encryption);
        let config = datapath.config(&line, None).replace(
            "[rtp]",
            &format!("srtp = \"{usage}\"\nsrtp_suites = [\"{suite}\"]\n\n[rtp]"),
        );
        encrypted_call(datapath, &line, &config, &Baresip::address(), suite);
    }
}

/// A SIP server that speaks as WhatsApp's does: ice-lite, DTLS-SRTP, one port for RTP and RTCP.
pub(crate) fn chromium_calls_an_ice_lite_server_with_dtls(datapath: Datapath) {
    let line = Line::new();
    let _phone = Baresip::alone(&line.sip);
    let sbc = Sbc::start(&line.sip, Keying::Dtls);
    let config = datapath
        .config(&line, None)
        .replace("[rtp]", "srtp = \"dtls\"\n\n[rtp]");
    encrypted_call(datapath, &line, &config, &Sbc::address(), "DTLS");
    assert!(sbc.was_ice_lite());
}

/// The suites that baresip has not.
pub(crate) fn chromium_calls_rtpengine_with_srtp_of_256_bits(datapath: Datapath) {
    for suite in ["AES_256_CM_HMAC_SHA1_80", "AES_256_CM_HMAC_SHA1_32"] {
        let line = Line::new();
        let _phone = Baresip::alone(&line.sip);
        let _sbc = Sbc::start(&line.sip, Keying::Sdes);
        let config = datapath.config(&line, None).replace(
            "[rtp]",
            &format!("srtp = \"require\"\nsrtp_suites = [\"{suite}\"]\n\n[rtp]"),
        );
        encrypted_call(datapath, &line, &config, &Sbc::address(), suite);
    }
}

/// A call that is SRTP on both sides, also on the wire.
fn encrypted_call(datapath: Datapath, line: &Line, config: &str, address: &str, suite: &str) {
    let (packets, after) =
        super::whole_call(datapath, line, config, ("guest", ""), address, |daemon| {
            for flow in daemon.flows() {
                assert_eq!(flow["action"], "transcrypt", "{suite}: {flow}");
            }
        });
    // Whether it is that suite the other end's authentication tells: the browser has heard its tone.
    let streams = capture::by_sender(&packets);
    assert_eq!(streams.len(), 2, "{suite}: {:?}", streams.keys());
    for (sender, stream) in streams {
        let least = usize::try_from(after.page.received).unwrap_or(0) / 2;
        assert!(stream.len() > least, "{suite}: {sender}: {}", stream.len());
        // tshark shows no payload of suites that it knows from the descriptions, and that of others with its tag.
        let plain = |packet: &&capture::Rtp| packet.payload.len() == PLAIN_BYTES;
        assert_eq!(stream.iter().filter(plain).count(), 0, "{suite}: {sender}");
    }
}
