//! Calls through both sides: what each kind of peer offers, what we write, what peers make of it.

mod broken;
mod codecs;
mod crypto;
mod extensions;
mod fixtures;
mod hold;
mod peers;
mod refused;
mod texts;
mod video;

use flow::PayloadMap;

use super::*;

const UFRAG: &str = "gwfr";
const PASSWORD: &str = "gateway-password-of-24ch";

/// What we say of ourselves in all these tests.
struct Ours {
    ice: IceParameters,
    fingerprint: Fingerprint,
    candidates: Vec<HostCandidate>,
    streams: [WebStream; 2],
}

impl Ours {
    fn new() -> Self {
        Self {
            ice: IceParameters {
                ufrag: UFRAG.into(),
                password: PASSWORD.into(),
                lite: true,
            },
            fingerprint: Fingerprint {
                algorithm: "sha-256".into(),
                bytes: (0..32).collect(),
            },
            streams: [305_419_896, 591_751_049].map(|ssrc| WebStream {
                ssrc,
                direction: Direction::SendRecv,
            }),
            candidates: vec![
                HostCandidate::Udp("198.51.100.7:3478".parse().unwrap()),
                HostCandidate::Udp("[2001:db8::7]:3478".parse().unwrap()),
            ],
        }
    }

    fn web(&self, setup: Setup) -> WebLocal<'_> {
        WebLocal {
            session_id: 4242,
            version: 1,
            ice: &self.ice,
            candidates: &self.candidates,
            fingerprint: &self.fingerprint,
            setup,
            cname: "cw-1",
            streams: &self.streams,
        }
    }
}

fn sip_local() -> SipLocal {
    SipLocal {
        session_id: 77,
        version: 1,
        profile: "RTP/AVP".into(),
        crypto: Vec::new(),
        dtls: None,
        media: [40_000, 40_002].map(transport).to_vec(),
    }
}

fn transport(port: u16) -> SipTransport {
    SipTransport {
        rtp: ([192, 0, 2, 10], port).into(),
        rtcp: ([192, 0, 2, 10], port + 1).into(),
        direction: Direction::SendRecv,
    }
}

fn crlf(text: &str) -> String {
    text.trim_start().replace('\n', "\r\n")
}

fn web(sdp: &str) -> WebSession {
    WebSession::parse(sdp).unwrap()
}

fn sip(sdp: &str) -> SipSession {
    SipSession::parse(sdp).unwrap()
}

/// These voices, and no video.
fn policy(names: &[&str]) -> CodecPolicy {
    CodecPolicy {
        audio: names.iter().map(ToString::to_string).collect(),
        video: Vec::new(),
    }
}

/// One description of audio alone.
fn audio(codecs: &[Codec]) -> [Described<'_>; 1] {
    [Described {
        kind: Kind::Audio,
        codecs,
        asked: Asked::default(),
        extensions: &[],
    }]
}

/// The browser offers, the SIP side answers.
fn outgoing(offer: &str, answer: &str) -> Negotiated {
    let (_, offered) = sip_offer(&web(offer), &CodecPolicy::default(), &sip_local()).unwrap();
    let answer = sip(answer);
    negotiate(&offered, &answer.described().unwrap()).unwrap()
}

/// Payload types that a map carries, as (in, out).
fn pairs(map: &PayloadMap) -> Vec<(u8, u8)> {
    map.iter().map(|(from, to)| (from, to.out)).collect()
}

/// The same of what comes from the browser, all media together.
fn to_sip(negotiated: &Negotiated) -> Vec<(u8, u8)> {
    pairs(&negotiated.web_to_sip())
}

/// The lines that start with `prefix`.
fn lines<'a>(sdp: &'a str, prefix: &str) -> Vec<&'a str> {
    sdp.lines()
        .filter(|line| line.starts_with(prefix))
        .collect()
}
