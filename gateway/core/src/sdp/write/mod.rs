//! The descriptions that we write: offers and answers to both sides.
//!
//! An answer mirrors the offer's m-lines and mids in their order; all but the media that are agreed
//! on are rejected with port 0 (RFC 3264 section 6). The same functions serve renegotiation: ICE
//! restart, hold and resume are the same call with new values and a raised version.

mod sip;
mod web;

use std::net::{IpAddr, SocketAddr};

use sdp_types::{Attribute, Bandwidth, Media, MediaType, Origin, Session, Time, TransportProto};

pub use sip::{SipDtls, SipLocal, SipTransport, sip_answer, sip_offer, sip_refusal, sip_reoffer};
pub use web::{WebLocal, WebStream, web_answer, web_offer, web_offer_unprompted, web_reoffer};

use super::offered::Listing;
use super::{Asked, Codec, Extension, Kind};

/// How the two sides want the same codecs written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Feedback by payload type, nothing invented.
    Web,
    /// telephone-event always with its events; feedback for `*`, so that an INVITE stays short.
    Sip,
}

fn frame(session_id: u64, version: u64, address: IpAddr) -> Session {
    let mut session = Session::new(Origin::with_ip_addr(session_id, version, address), "-");
    session.add_time(Time::new(0, 0));
    session
}

/// An m-line with its formats and `b=` lines, nothing else yet.
fn media_of(listing: &Listing, port: u16, protocol: &str) -> Media {
    let formats: Vec<String> = listing
        .codecs
        .iter()
        .map(|codec| codec.payload_type.to_string())
        .collect();
    let kind = match listing.kind {
        Kind::Video => MediaType::Video,
        Kind::Audio | Kind::Application | Kind::Other => MediaType::Audio,
    };
    let mut media = Media::new(
        kind,
        port,
        TransportProto::from(protocol),
        formats.join(" "),
    );
    let bandwidth = listing.asked.bandwidth;
    for (name, value) in [("AS", bandwidth.as_kbps), ("TIAS", bandwidth.tias_bps)] {
        media.bandwidths.extend(value.map(|value| Bandwidth {
            bwtype: name.into(),
            bandwidth: u64::from(value),
        }));
    }
    media
}

/// A mirrored m-line that says no. One format is enough and one is needed (RFC 8866 section 5.14).
fn rejected(word: &str, protocol: &str, formats: &str) -> Media {
    let format = formats.split_ascii_whitespace().next().unwrap_or("0");
    let mut media = Media::new(MediaType::Audio, 0, TransportProto::from(protocol), format);
    media.media = word.into();
    media
}

fn add_codecs(media: &mut Media, codecs: &[Codec], asked: Asked, style: Style) {
    for codec in codecs {
        let channels = if codec.name.eq_ignore_ascii_case("opus") {
            "/2"
        } else {
            ""
        };
        media.add_attribute_with_value(
            "rtpmap",
            format!("{} {codec}{channels}", codec.payload_type),
        );
        if style == Style::Web {
            add_feedback(media, &codec.payload_type.to_string(), &codec.rtcp_fb);
        }
        let events = (style == Style::Sip && codec.is_telephone_event()).then_some("0-15");
        if let Some(fmtp) = codec.fmtp.as_deref().or(events) {
            media.add_attribute_with_value("fmtp", format!("{} {fmtp}", codec.payload_type));
        }
    }
    if style == Style::Sip {
        add_feedback_of_all(media, codecs);
    }
    let times = asked.times;
    for (name, value) in [("ptime", times.ptime_ms), ("maxptime", times.maxptime_ms)] {
        media
            .attributes
            .extend(value.map(|ms| Attribute::with_value(name, ms)));
    }
}

fn add_extensions(media: &mut Media, extensions: &[Extension]) {
    for extension in extensions {
        media.add_attribute_with_value("extmap", extension.print());
    }
}

fn add_feedback(media: &mut Media, format: &str, values: &[String]) {
    for value in values {
        media.add_attribute_with_value("rtcp-fb", format!("{format} {value}"));
    }
}

/// One line for all payload types where they have the same feedback.
fn add_feedback_of_all(media: &mut Media, codecs: &[Codec]) {
    let Some((first, others)) = codecs.split_first() else {
        return;
    };
    if others.iter().all(|codec| codec.rtcp_fb == first.rtcp_fb) {
        add_feedback(media, "*", &first.rtcp_fb);
        return;
    }
    for codec in codecs {
        add_feedback(media, &codec.payload_type.to_string(), &codec.rtcp_fb);
    }
}

/// Where we can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostCandidate {
    /// By UDP.
    Udp(SocketAddr),
    /// By a connection that the peer opens (RFC 6544).
    Tcp(SocketAddr),
}

impl HostCandidate {
    /// As `a=candidate` says it (RFC 8839 section 5.1), of so many better ones before it. Priorities are those of RFC 8445 section
    /// 5.1.2.1, and of RFC 6544 section 4.2 for TCP, whose type preference is below that of every candidate by UDP but relayed ones.
    fn line(self, index: usize) -> String {
        let before = u32::try_from(index).unwrap_or(u32::MAX);
        let (protocol, address, preference, local_preference, passive) = match self {
            Self::Udp(address) => ("udp", address, 126, 65_535_u32.saturating_sub(before), ""),
            // Direction preference 4: passive.
            Self::Tcp(address) => (
                "tcp",
                address,
                90,
                (4 << 13) | 8191_u32.saturating_sub(before),
                " tcptype passive",
            ),
        };
        let priority = (preference << 24) | (local_preference << 8) | 255;
        format!(
            "{} 1 {protocol} {priority} {} {} typ host{passive}",
            index + 1,
            address.ip(),
            address.port()
        )
    }
}
