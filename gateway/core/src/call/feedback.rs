//! RTCP feedback of one medium from one leg to the other: who asks for what, translated to what the other side understands.
//!
//! 1. `take` reads the requests out of what a side sent, within a rate.
//! 2. `translate` gives them the SSRC and the sequence numbers that the stream has on the other leg: the flow's counters say
//!    both. One side's PLI is the other's FIR where it knows only that (RFC 4585 section 6.3.1, RFC 5104 section 4.3.1).
//!
//! A NACK goes to the sender; nothing is kept here to send again. What was lost before the gateway comes again that way; what
//! was lost behind it is refused by the packet path as an index that was used, and the picture request that follows heals it.
//!
//! A SIP side that takes picture requests in no form of RTCP is asked by INFO, and may ask so itself (RFC 5168).

use crate::rtp::{Fir, Nack, Pli, Remb, Rtcp};
use crate::sdp::Feedback;
use crate::sip::Content;
use flow::StreamSnapshot;
use std::time::{Duration, Instant};

/// Picture requests closer together than this are one: a picture takes longer to come.
const PICTURE_INTERVAL: Duration = Duration::from_millis(200);
/// The same for those that go as a SIP request.
const INFO_INTERVAL: Duration = Duration::from_secs(1);
/// Media type of picture requests in SIP.
const MEDIA_CONTROL: &str = "application/media_control+xml";
const FAST_UPDATE: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<media_control><vc_primitive><to_encoder><picture_fast_update/>\
     </to_encoder></vc_primitive></media_control>\r\n";
/// NACKs are passed on in windows of this length.
const NACK_WINDOW: Duration = Duration::from_millis(100);
/// Most packets asked for again in a window.
const NACK_PACKETS: usize = 100;
/// Bandwidth estimates closer together than this are dropped.
const REMB_INTERVAL: Duration = Duration::from_millis(50);

/// To which side a request goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    ToSip,
    ToBrowser,
}

/// What a side asks for, without the numbers of its leg that mean nothing on the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// A picture that needs none before it.
    Picture,
    /// Packets again, by the sequence numbers of the asking side's leg.
    Packets(Vec<u16>),
    /// No more than this many bits per second.
    Bitrate(u64),
}

/// Feedback of one medium in one direction.
#[derive(Default)]
pub(super) struct Exchange {
    /// What the side that is asked takes.
    takes: Feedback,
    picture: Option<Instant>,
    /// A side that takes no such feedback is to be asked by SIP.
    info_wanted: bool,
    /// It is not: it refused.
    info_refused: bool,
    /// Command number of our last FIR.
    command: u8,
    nack_window: Option<Instant>,
    nacked: usize,
    bitrate: Option<Instant>,
}

impl Exchange {
    /// Says what the side that is asked takes.
    pub(super) fn target(&mut self, takes: Feedback) {
        self.takes = takes;
    }

    /// The requests among these packets that are about our stream, as far as the other side takes them and the rate allows.
    pub(super) fn take(
        &mut self,
        now: Instant,
        packets: &[Rtcp],
        ours: impl Fn(u32) -> bool,
    ) -> Vec<Request> {
        let mut requests = Vec::new();
        for packet in packets {
            let request = match packet {
                Rtcp::Pli(pli) if ours(pli.media) => self.picture(now),
                Rtcp::Fir(fir) if fir.entries.iter().any(|entry| ours(entry.0)) => {
                    self.picture(now)
                }
                Rtcp::Nack(nack) if ours(nack.media) => self.nack(now, &nack.lost),
                Rtcp::Remb(remb) if remb.ssrcs.iter().any(|ssrc| ours(*ssrc)) => {
                    self.bitrate(now, remb.bitrate)
                }
                Rtcp::Sender(_)
                | Rtcp::Receiver(_)
                | Rtcp::Sdes(_)
                | Rtcp::Bye { .. }
                | Rtcp::Nack(_)
                | Rtcp::Pli(_)
                | Rtcp::Fir(_)
                | Rtcp::Remb(_)
                | Rtcp::Other { .. } => None,
            };
            requests.extend(request);
        }
        requests
    }

    /// A picture is wanted: the request, unless one went out a moment ago or RTCP is not the way.
    pub(super) fn picture(&mut self, now: Instant) -> Option<Request> {
        let by_rtcp = self.takes.pli || self.takes.fir;
        let interval = if by_rtcp {
            PICTURE_INTERVAL
        } else {
            INFO_INTERVAL
        };
        if !passed(self.picture, now, interval) {
            return None;
        }
        self.picture = Some(now);
        self.info_wanted = !by_rtcp && !self.info_refused;
        by_rtcp.then_some(Request::Picture)
    }

    /// Whether SIP has to carry a picture request now; told once.
    pub(super) fn take_info(&mut self) -> bool {
        std::mem::take(&mut self.info_wanted)
    }

    /// The side does not take picture requests by SIP either.
    pub(super) fn refuse_info(&mut self) {
        self.info_refused = true;
    }

    fn nack(&mut self, now: Instant, lost: &[u16]) -> Option<Request> {
        if !self.takes.nack {
            return None;
        }
        if passed(self.nack_window, now, NACK_WINDOW) {
            (self.nack_window, self.nacked) = (Some(now), 0);
        }
        let count = lost.len().min(NACK_PACKETS - self.nacked);
        self.nacked += count;
        (count > 0).then(|| Request::Packets(lost[..count].to_vec()))
    }

    fn bitrate(&mut self, now: Instant, bitrate: u64) -> Option<Request> {
        let wanted = self.takes.remb && passed(self.bitrate, now, REMB_INTERVAL);
        wanted.then(|| {
            self.bitrate = Some(now);
            Request::Bitrate(bitrate)
        })
    }

    /// The request for the other side: `own` is our SSRC there, `stream` what the flow says of the stream that is asked for;
    /// nothing before its first packet.
    pub(super) fn translate(
        &mut self,
        request: Request,
        own: u32,
        stream: Option<StreamSnapshot>,
    ) -> Option<Rtcp> {
        let stream = stream?;
        let media = stream.ssrc_in;
        Some(match request {
            Request::Picture if self.takes.pli => Rtcp::Pli(Pli { sender: own, media }),
            Request::Picture => {
                self.command = self.command.wrapping_add(1);
                Rtcp::Fir(Fir {
                    sender: own,
                    entries: vec![(media, self.command)],
                })
            }
            Request::Packets(lost) => {
                let offset = stream.sequence_offset();
                Rtcp::Nack(Nack {
                    sender: own,
                    media,
                    lost: lost
                        .into_iter()
                        .map(|sequence| sequence.wrapping_sub(offset))
                        .collect(),
                })
            }
            Request::Bitrate(bitrate) => Rtcp::Remb(Remb {
                sender: own,
                bitrate,
                ssrcs: vec![media],
            }),
        })
    }
}

/// A picture request as the body of an INFO (RFC 5168 section 5).
pub(super) fn fast_update() -> Content {
    Content {
        content_type: MEDIA_CONTROL.into(),
        body: FAST_UPDATE.into(),
    }
}

/// What the body of an INFO says about pictures; `None` if it is about something else.
pub(super) fn wants_picture(content: &Content) -> Option<bool> {
    let kind = content.content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case(MEDIA_CONTROL).then(|| {
        let element = b"picture_fast_update";
        content
            .body
            .windows(element.len())
            .any(|window| window == element)
    })
}

fn passed(last: Option<Instant>, now: Instant, interval: Duration) -> bool {
    last.is_none_or(|last| now >= last + interval)
}
