//! A call for tests: the two flow specs, a browser that speaks SRTP by another implementation, a plain SIP phone.

use flow::{
    ActionSpec, ExtensionMap, FlowKey, FlowSpec, MediumSpec, PayloadMap, StreamSource, StreamSpec,
    Suite,
};
use gateway_core::rtp::MasterKeys;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const BROWSER_KEY: [u8; 16] = *b"key of browser..";
const BROWSER_SALT: [u8; 14] = *b"salt of browse";
const GATEWAY_KEY: [u8; 16] = *b"key of gateway..";
const GATEWAY_SALT: [u8; 14] = *b"salt of gatewa";

/// SSRCs with which packets leave the gateway.
pub(crate) const TO_SIP: u32 = 0x0051_9000;
pub(crate) const TO_WEB: u32 = 0x00b0_0b00;

/// The addresses of one call.
#[derive(Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) web: SocketAddr,
    pub(crate) rtp: SocketAddr,
    pub(crate) browser: SocketAddr,
    pub(crate) phone: SocketAddr,
}

impl Addresses {
    /// Browser to SIP: SRTP in, RTP out; payload type 111 becomes 8.
    pub(crate) fn to_sip(self) -> Box<FlowSpec> {
        let action = ActionSpec::Unprotect(keys(BROWSER_KEY, BROWSER_SALT).rtp());
        spec(
            (self.web, self.browser),
            action,
            (self.rtp, self.phone),
            (111, 8),
            TO_SIP,
        )
    }

    /// SIP to browser: RTP in, SRTP out.
    pub(crate) fn to_web(self) -> Box<FlowSpec> {
        let action = ActionSpec::Protect(keys(GATEWAY_KEY, GATEWAY_SALT).rtp());
        spec(
            (self.rtp, self.phone),
            action,
            (self.web, self.browser),
            (8, 111),
            TO_WEB,
        )
    }
}

/// The flows of a call, to SIP and to the browser, after new keys: those of both directions exchanged.
pub(crate) fn renewed(addresses: Addresses) -> [Box<FlowSpec>; 2] {
    let (mut to_sip, mut to_web) = (addresses.to_sip(), addresses.to_web());
    to_sip.action = ActionSpec::Unprotect(keys(GATEWAY_KEY, GATEWAY_SALT).rtp());
    to_web.action = ActionSpec::Protect(keys(BROWSER_KEY, BROWSER_SALT).rtp());
    [to_sip, to_web]
}

fn keys(key: [u8; 16], salt: [u8; 14]) -> MasterKeys {
    MasterKeys::new(Suite::AesCm128HmacSha1_80, &key, &salt).expect("lengths of the suite")
}

fn spec(
    (local, remote): (SocketAddr, SocketAddr),
    action: ActionSpec,
    (egress_local, egress_remote): (SocketAddr, SocketAddr),
    (arrives_as, leaves_as): (usize, u8),
    ssrc_out: u32,
) -> Box<FlowSpec> {
    let stream = StreamSpec {
        source: StreamSource::Learnt,
        medium: 0,
        ssrc_out,
        clock_hz: 8000,
    };
    Box::new(FlowSpec {
        key: FlowKey {
            local: local.into(),
            remote: remote.into(),
        },
        action,
        streams: [Some(stream), None, None, None],
        payloads: PayloadMap::single([(arrives_as as u8, leaves_as)]),
        media: [
            Some(MediumSpec {
                egress_local: egress_local.into(),
                egress_remote: egress_remote.into(),
                dscp: 46,
                max_packets_per_s: 0,
            }),
            None,
        ],
        extensions: ExtensionMap::EMPTY,
    })
}

/// An RTP packet of 20 ms of G.711.
pub(crate) fn rtp(payload_type: u8, sequence: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..160).map(|k| (sequence as u8).wrapping_add(k)));
    packet
}

/// The payload of a packet without extension, and the numbers before it.
pub(crate) struct Rtp {
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) ssrc: u32,
    pub(crate) payload: Vec<u8>,
}

impl Rtp {
    pub(crate) fn parse(packet: &[u8]) -> Self {
        assert!(
            packet.len() >= 12 && packet[0] == 0x80,
            "no plain RTP: {packet:02x?}"
        );
        Self {
            payload_type: packet[1] & 0x7f,
            sequence: u16::from_be_bytes([packet[2], packet[3]]),
            ssrc: u32::from_be_bytes(packet[8..12].try_into().unwrap()),
            payload: packet[12..].to_vec(),
        }
    }
}

/// The browser's two SRTP contexts.
pub(crate) struct Browser {
    send: Context,
    receive: Context,
}

impl Browser {
    pub(crate) fn new() -> Self {
        let context = |key: &[u8], salt: &[u8]| {
            let profile = ProtectionProfile::Aes128CmHmacSha1_80;
            let provider = rtc_srtp::crypto::default_provider().unwrap();
            Context::new(key, salt, profile, None, None, provider.crypto()).unwrap()
        };
        Self {
            send: context(&BROWSER_KEY, &BROWSER_SALT),
            receive: context(&GATEWAY_KEY, &GATEWAY_SALT),
        }
    }

    /// With those keys exchanged, and from rollover counter zero on.
    pub(crate) fn renewed() -> Self {
        let Self { send, receive } = Self::new();
        Self {
            send: receive,
            receive: send,
        }
    }

    pub(crate) fn protect(&mut self, packet: &[u8]) -> Vec<u8> {
        self.send.encrypt_rtp(packet).unwrap().to_vec()
    }

    pub(crate) fn unprotect(&mut self, packet: &[u8]) -> Vec<u8> {
        self.receive.decrypt_rtp(packet).unwrap().to_vec()
    }
}

/// A socket with a time-out.
pub(crate) fn socket(local: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(local).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    socket
}

/// The next datagram and who sent it.
pub(crate) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let (length, from) = socket
        .recv_from(&mut buffer)
        .expect("a datagram within two seconds");
    (buffer[..length].to_vec(), from)
}

/// Nothing arrives for a while.
pub(crate) fn receives_nothing(socket: &UdpSocket) -> bool {
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let nothing = socket.recv_from(&mut [0; 2048]).is_err();
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    nothing
}

/// Sends `count` packets each way, checks each one, and answers how many got through (to SIP, to the browser).
pub(crate) fn talk(
    addresses: &Addresses,
    peers: (&UdpSocket, &UdpSocket),
    browser: &mut Browser,
    sequences: std::ops::Range<u16>,
) {
    let (web, phone) = peers;
    let mut next = None;
    for sequence in sequences {
        let sent = rtp(111, sequence, 0x1234);
        web.send_to(&browser.protect(&sent), addresses.web).unwrap();
        let (packet, from) = receive(phone);
        let got = Rtp::parse(&packet);
        assert_eq!(from, addresses.rtp);
        assert_eq!((got.payload_type, got.ssrc), (8, TO_SIP));
        assert_eq!(got.payload, sent[12..]);

        let sent = rtp(8, sequence.wrapping_add(999), 0x9876);
        phone.send_to(&sent, addresses.rtp).unwrap();
        let (packet, from) = receive(web);
        let got = Rtp::parse(&browser.unprotect(&packet));
        assert_eq!(from, addresses.web);
        assert_eq!((got.payload_type, got.ssrc), (111, TO_WEB));
        assert_eq!(got.payload, sent[12..]);
        assert!(
            next.is_none_or(|next| next == got.sequence),
            "the leaving sequence has a gap"
        );
        next = Some(got.sequence.wrapping_add(1));
    }
}
