//! Rows about the media of one 4-tuple (RFC 9143): audio and video of a browser to two places, each by its own way out.

use flow::{Egress, Exit, MediumSpec, PayloadMap, PayloadSpec, StreamSource, StreamSpec, Why};

use super::{Case, DEVICE, Family, TTL, endpoints, protect, unprotect, usual_keys};
use crate::packet::Rtp;

const AUDIO: usize = 0;
const VIDEO: usize = 1;
const VIDEO_TYPE: u8 = 96;
/// RTX of the video, which was not negotiated.
const RTX_TYPE: u8 = 97;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![signalled_and_learnt(), back_to_the_browser()];
    for (arriving, audio, video, name) in [
        (Family::V4, Family::V4, Family::V4, "v4 to v4 and v4"),
        (Family::V4, Family::V4, Family::V6, "v4 to v4 and v6"),
        (Family::V6, Family::V4, Family::V6, "v6 to v4 and v6"),
        (Family::V6, Family::V6, Family::V4, "v6 to v6 and v4"),
    ] {
        cases.push(to_two_places(name, arriving, audio, video));
    }
    cases
}

/// A flow from a browser: audio back out by the interface it came in by, video by another one, in a VLAN and with a DSCP of its own.
fn browser(name: &str, arriving: Family, audio: Family, video: Family) -> Case {
    let mut case = Case::between(
        format!("audio and video, {name}"),
        unprotect(),
        arriving,
        audio,
    );
    let [egress_local, egress_remote] = endpoints(video, 7);
    case.spec.media[VIDEO] = Some(MediumSpec {
        egress_local: egress_local.into(),
        egress_remote: egress_remote.into(),
        dscp: 34,
        max_packets_per_s: 0,
    });
    case.second_egress = Some(Egress {
        exit: Exit::Redirect(DEVICE),
        source_mac: [2, 0, 0, 0, 0, 7],
        destination_mac: [2, 0, 0, 0, 0, 8],
        vlan: Some(9),
        ttl: 20,
        mtu: 1280,
    });
    let video = PayloadSpec::media(120, 1);
    case.spec.payloads.set(VIDEO_TYPE, video).expect("in range");
    case.spec.streams = [Some(learnt(0, 201)), Some(learnt(1, 202)), None, None];
    case
}

fn learnt(medium: u8, ssrc_out: u32) -> StreamSpec {
    StreamSpec {
        source: StreamSource::Learnt,
        medium,
        ssrc_out,
        clock_hz: if medium == 0 { 8000 } else { 90_000 },
    }
}

fn audio(sequence: u16) -> (Rtp, Rtp) {
    let rtp = Rtp::new(101, sequence, 160);
    let out = Rtp {
        ssrc: 201,
        ..rtp.clone()
    };
    (rtp, out)
}

fn video(sequence: u16) -> (Rtp, Rtp) {
    let rtp = Rtp {
        payload_type: VIDEO_TYPE,
        marker: sequence.is_multiple_of(3),
        ..Rtp::new(102, sequence, 1100)
    };
    let out = Rtp {
        ssrc: 202,
        payload_type: 120,
        ..rtp.clone()
    };
    (rtp, out)
}

impl Case {
    /// An SRTP packet arrives and leaves plain by a medium.
    fn decrypts(&mut self, medium: usize, (rtp, out): &(Rtp, Rtp)) {
        let srtp = usual_keys().protect(&rtp.bytes(), 0);
        let frame = self.arriving(&srtp).bytes();
        let ttl = if medium == AUDIO { TTL - 1 } else { 20 };
        self.sends_by(medium, frame, Some(&srtp), &out.bytes(), ttl);
    }
}

fn to_two_places(name: &str, arriving: Family, first: Family, second: Family) -> Case {
    let mut case = browser(name, arriving, first, second);
    // Video first: what it binds must not be the audio's.
    for sequence in 7..11 {
        case.decrypts(VIDEO, &video(sequence));
        case.decrypts(AUDIO, &audio(sequence));
    }
    let srtp = |rtp: &Rtp| usual_keys().protect(&rtp.bytes(), 0);
    case.refuses(&srtp(&video(10).0), Why::Replayed);
    let rtx = Rtp {
        payload_type: RTX_TYPE,
        ..video(11).0
    };
    case.refuses(&srtp(&rtx), Why::PayloadType);
    // The video's MTU, not the audio's.
    let long = Rtp::new(101, 11, 1300);
    case.refuses(
        &srtp(&Rtp {
            payload_type: VIDEO_TYPE,
            ssrc: 102,
            ..long.clone()
        }),
        Why::TooLong,
    );
    let out = Rtp {
        ssrc: 201,
        ..long.clone()
    };
    case.decrypts(AUDIO, &(long, out));
    // A payload type leads no SSRC to another medium, and each medium has learnt its SSRC.
    let astray = Rtp {
        payload_type: VIDEO_TYPE,
        ..audio(12).0
    };
    case.refuses(&srtp(&astray), Why::UnknownSsrc);
    case
}

/// The audio's SSRC is signalled, the video's is not: it is not taken for audio's, whichever comes first.
fn signalled_and_learnt() -> Case {
    let mut case = browser(
        "one signalled, one learnt",
        Family::V4,
        Family::V4,
        Family::V4,
    );
    case.spec.streams[AUDIO] = Some(StreamSpec {
        source: StreamSource::Signalled(101),
        ..learnt(0, 201)
    });
    case.decrypts(VIDEO, &video(1));
    case.decrypts(AUDIO, &audio(1));
    case.refuses(
        &usual_keys().protect(&Rtp::new(105, 1, 160).bytes(), 0),
        Why::UnknownSsrc,
    );
    case
}

/// From the SIP side video has a flow of its own, under the keys of the audio's and with another SSRC.
fn back_to_the_browser() -> Case {
    let mut case = Case::new("video from its own SIP port to the browser", protect());
    case.spec.media[AUDIO] = case.spec.media[AUDIO].map(|medium| MediumSpec { dscp: 34, ..medium });
    case.spec.payloads = PayloadMap::single([(120, VIDEO_TYPE)]);
    case.spec.streams = [Some(learnt(0, 302)), None, None, None];
    for sequence in 1..4 {
        let (mut rtp, mut out) = video(sequence);
        (rtp.payload_type, out.payload_type, out.ssrc) = (120, VIDEO_TYPE, 302);
        case.sends(&rtp.bytes(), &usual_keys().protect(&out.bytes(), 0));
        case.refuses(&audio(sequence).0.bytes(), Why::PayloadType);
    }
    case
}
