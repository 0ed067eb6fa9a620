//! Rows about telephone-events (RFC 4733): clocks, repeated ends, segments, what the daemon is told.

use flow::{ActionSpec, PayloadKind, PayloadSpec, StreamSource, Suite, Why};

use super::srtp::{other_keys, transcrypting};
use super::{Case, SSRC_IN, SSRC_OUT, protect, stream, unprotect, usual_keys};
use crate::packet::Rtp;

const USUAL: Suite = Suite::AesCm128HmacSha1_80;
/// Payload types of events that arrive and leave.
const EVENT_IN: u8 = 101;
const EVENT_OUT: u8 = 110;
/// Longest duration of a packet.
const LONGEST: u32 = 0xffff;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for action in [Way::Relay, Way::Protect, Way::Unprotect, Way::Transcrypt] {
        for (clocks, stream_hz) in [
            ((8000, 8000), 8000),
            ((48_000, 8000), 48_000),
            ((8000, 48_000), 48_000),
            ((48_000, 8000), 8000),
            ((8000, 48_000), 8000),
            ((16_000, 8000), 16_000),
        ] {
            cases.push(pressed(action, clocks, stream_hz).case);
        }
        cases.push(twice_the_same(action).case);
        cases.push(long(action).case);
    }
    cases.extend([
        an_end_over_the_limit().case,
        segments_that_arrive().case,
        without_an_end().case,
        reordered().case,
        malformed(),
        of_a_new_source(),
    ]);
    cases
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Relay,
    Protect,
    Unprotect,
    Transcrypt,
}

/// A row whose packets are numbered as they are sent.
struct Row {
    case: Case,
    way: Way,
    sequence: u16,
}

/// An event packet in its parts.
#[derive(Clone, Copy)]
struct Report {
    timestamp: u32,
    digit: u8,
    marker: bool,
    end: bool,
    duration: u32,
}

impl Report {
    fn of(timestamp: u32, digit: u8, duration: u32) -> Self {
        Self {
            timestamp,
            digit,
            marker: false,
            end: false,
            duration,
        }
    }

    fn first(self) -> Self {
        Self {
            marker: true,
            ..self
        }
    }

    fn end(self) -> Self {
        Self { end: true, ..self }
    }

    fn rtp(self, ssrc: u32, sequence: u16, payload_type: u8) -> Rtp {
        let [.., high, low] = self.duration.to_be_bytes();
        Rtp {
            marker: self.marker,
            payload_type,
            timestamp: self.timestamp,
            payload: vec![self.digit, u8::from(self.end) << 7 | 10, high, low],
            ..Rtp::new(ssrc, sequence, 0)
        }
    }
}

impl Row {
    fn new(name: &str, way: Way, (clock_in_hz, clock_out_hz): (u32, u32), stream_hz: u32) -> Self {
        let action = match way {
            Way::Relay => ActionSpec::Relay,
            Way::Protect => protect(),
            Way::Unprotect => unprotect(),
            Way::Transcrypt => transcrypting(USUAL, USUAL),
        };
        let name =
            format!("{way:?}, events {clock_in_hz} to {clock_out_hz} beside {stream_hz}: {name}");
        let mut case = Case::new(name, action);
        let events = PayloadSpec {
            kind: PayloadKind::TelephoneEvent {
                clock_in_hz,
                clock_out_hz,
            },
            ..PayloadSpec::media(EVENT_OUT, 0)
        };
        case.spec.payloads.set(EVENT_IN, events).expect("in range");
        case.spec.streams[0]
            .as_mut()
            .expect("every row has a stream")
            .clock_hz = stream_hz;
        Self {
            case,
            way,
            sequence: 500,
        }
    }

    fn passes(&mut self, rtp: &Rtp, out: &Rtp) {
        let (mut rtp, mut out) = (rtp.bytes(), out.bytes());
        if let Way::Unprotect | Way::Transcrypt = self.way {
            rtp = usual_keys().protect(&rtp, 0);
        }
        match self.way {
            Way::Protect => out = usual_keys().protect(&out, 0),
            Way::Transcrypt => out = other_keys(USUAL).protect(&out, 0),
            Way::Relay | Way::Unprotect => {}
        }
        self.case.sends(&rtp, &out);
    }

    /// Sound with this timestamp.
    fn sound(&mut self, timestamp: u32) {
        self.sequence += 1;
        let rtp = Rtp {
            timestamp,
            ..Rtp::new(SSRC_IN, self.sequence, 40)
        };
        let out = Rtp {
            ssrc: SSRC_OUT,
            ..rtp.clone()
        };
        self.passes(&rtp, &out);
    }

    fn event(&mut self, report: Report, out: Report) {
        self.sequence += 1;
        let sequence = self.sequence;
        self.event_at(sequence, report, out);
    }

    fn event_at(&mut self, sequence: u16, report: Report, out: Report) {
        let rtp = report.rtp(SSRC_IN, sequence, EVENT_IN);
        self.passes(&rtp, &out.rtp(SSRC_OUT, sequence, EVENT_OUT));
    }

    /// The daemon is told of a digit with the packet before.
    fn told(&mut self, digit: u8, duration_ms: u32) {
        let step = self.case.steps.last_mut().expect("a packet was sent");
        step.told = Some((digit, duration_ms));
    }
}

/// Sound, a key pressed for 100 ms with sound between its packets, the end three times, sound. Where the events' clock is not the
/// stream's the arriving timestamps are those of a counter of its own.
fn pressed(way: Way, (clock_in, clock_out): (u32, u32), stream: u32) -> Row {
    let mut row = Row::new("a key is pressed", way, (clock_in, clock_out), stream);
    let (step, event_step, out_step) = (stream / 50, clock_in / 50, clock_out / 50);
    let start = 0x8000_0000;
    for k in 0..3 {
        row.sound(start + k * step);
    }
    let leaves_at = start + 3 * step;
    let arrives_at = if clock_in == stream { leaves_at } else { 77 };
    for k in 1..=5 {
        let mut report = Report::of(arrives_at, 11, k * event_step);
        let mut out = Report::of(leaves_at, 11, k * out_step);
        (report.marker, out.marker) = (k == 1, k == 1);
        row.event(report, out);
        row.sound(start + (2 + k) * step + step / 2);
    }
    for repeated in 0..3 {
        let duration = 5 * event_step;
        let out = Report::of(leaves_at, 11, 5 * out_step).end();
        row.event(Report::of(arrives_at, 11, duration).end(), out);
        if repeated == 0 {
            row.told(11, 100);
        }
    }
    row.sound(start + 8 * step);
    row
}

fn twice_the_same(way: Way) -> Row {
    let mut row = Row::new(
        "one digit twice, nothing between",
        way,
        (48_000, 8000),
        48_000,
    );
    row.sound(0);
    for (number, timestamp) in [960, 4800].into_iter().enumerate() {
        for k in 1..=3 {
            let mut report = Report::of(timestamp, 7, 960 * k);
            let mut out = Report::of(timestamp, 7, 160 * k);
            (report.marker, out.marker) = (k == 1, k == 1);
            row.event(report, out);
        }
        // The repeated ends of the second are lost.
        for repeated in 0..3 - 2 * number {
            row.event(
                Report::of(timestamp, 7, 2880).end(),
                Report::of(timestamp, 7, 480).end(),
            );
            if repeated == 0 {
                row.told(7, 60);
            }
        }
    }
    row
}

/// Over the limit of 1.36 s twice: a packet that comes to it reports the full segment, the next begins another.
fn long(way: Way) -> Row {
    let mut row = Row::new("a key is held for 3.2 s", way, (8000, 48_000), 48_000);
    row.sound(0);
    let mut full = 0;
    for k in 1..=16 {
        let total = k * 9600 - full * LONGEST;
        let out = Report::of(960 + full * LONGEST, 3, total.min(LONGEST));
        let (report, mut out) = (Report::of(5, 3, k * 1600), out);
        out.marker = k == 1;
        row.event(if k == 1 { report.first() } else { report }, out);
        full += u32::from(total >= LONGEST);
    }
    assert_eq!(full, 2, "the row comes to the limit twice");
    let out = Report::of(960 + 2 * LONGEST, 3, 16 * 9600 - 2 * LONGEST).end();
    for repeated in 0..3 {
        row.event(Report::of(5, 3, 16 * 1600).end(), out);
        if repeated == 0 {
            row.told(3, 3200);
        }
    }
    // Sound goes on by its own timestamps.
    row.sound(960 + 16 * 9600);
    row
}

/// An end is never held back, also where the limit was not reported.
fn an_end_over_the_limit() -> Row {
    let mut row = Row::new(
        "an end over the limit",
        Way::Protect,
        (8000, 48_000),
        48_000,
    );
    row.sound(0);
    row.event(
        Report::of(5, 3, 8000).first(),
        Report::of(960, 3, 48_000).first(),
    );
    for repeated in 0..2 {
        row.event(
            Report::of(5, 3, 16_000).end(),
            Report::of(960 + LONGEST, 3, 96_000 - LONGEST).end(),
        );
        if repeated == 0 {
            row.told(3, 2000);
        }
    }
    row
}

/// What arrives in segments has one timestamp at 8 kHz, and is one event.
fn segments_that_arrive() -> Row {
    let mut row = Row::new("segments arrive", Way::Unprotect, (48_000, 8000), 48_000);
    let start = 100_000;
    row.event(
        Report::of(start, 1, 60_000).first(),
        Report::of(start, 1, 10_000).first(),
    );
    row.event(
        Report::of(start, 1, LONGEST),
        Report::of(start, 1, LONGEST / 6),
    );
    let second = start + LONGEST;
    row.event(
        Report::of(second, 1, 9),
        Report::of(start, 1, (LONGEST + 9) / 6),
    );
    let out = Report::of(start, 1, (LONGEST + 30_465) / 6).end();
    row.event(Report::of(second, 1, 30_465).end(), out);
    row.told(1, 2000);
    row.event(Report::of(second, 1, 30_465).end(), out);
    row
}

/// The end is lost: the next event tells.
fn without_an_end() -> Row {
    let mut row = Row::new("an end is lost", Way::Protect, (8000, 8000), 8000);
    row.event(Report::of(0, 9, 160).first(), Report::of(0, 9, 160).first());
    row.event(Report::of(0, 9, 480), Report::of(0, 9, 480));
    row.sound(1000);
    row.event(
        Report::of(1600, 4, 160).first(),
        Report::of(1600, 4, 160).first(),
    );
    row.told(9, 60);
    row.event(
        Report::of(1600, 4, 320).end(),
        Report::of(1600, 4, 320).end(),
    );
    row.told(4, 40);
    // One packet is all that came of this one and of the next: each tells of the one before.
    row.event(Report::of(3200, 5, 160), Report::of(3200, 5, 160));
    row.event(
        Report::of(4800, 5, 800).end(),
        Report::of(4800, 5, 800).end(),
    );
    row.told(5, 20);
    row.event(
        Report::of(4800, 5, 800).end(),
        Report::of(4800, 5, 800).end(),
    );
    row.told(5, 100);
    row
}

fn reordered() -> Row {
    let mut row = Row::new(
        "packets out of order",
        Way::Unprotect,
        (48_000, 8000),
        48_000,
    );
    let report = |k: u32| (Report::of(960, 2, 960 * k), Report::of(960, 2, 160 * k));
    for (sequence, k) in [(10, 1), (12, 3), (11, 2)] {
        let (report, out) = report(k);
        row.event_at(sequence, report, out);
    }
    let (report, out) = report(4);
    row.event_at(14, report.end(), out.end());
    row.told(2, 80);
    row.event_at(20, Report::of(9600, 2, 960), Report::of(9600, 2, 160));
    // Late ends of the event before: scaled, and no new event.
    row.event_at(15, report.end(), out.end());
    row.event_at(16, report.end(), out.end());
    row.event_at(
        21,
        Report::of(9600, 2, 1920).end(),
        Report::of(9600, 2, 320).end(),
    );
    row.told(2, 40);
    row
}

fn malformed() -> Case {
    let mut row = Row::new("too short", Way::Relay, (48_000, 8000), 48_000);
    for bytes in 0..4 {
        let short = Rtp {
            payload_type: EVENT_IN,
            ..Rtp::new(SSRC_IN, 1, bytes)
        };
        row.case.refuses(&short.bytes(), Why::BadRtp);
    }
    let rtp = Report::of(0, 1, 960).rtp(SSRC_IN, 2, EVENT_IN);
    // With a header extension, contributing sources and padding around it.
    let wrapped = Rtp {
        csrcs: vec![4, 5],
        extension: Some((0xbede, vec![0x1011_1213])),
        padding: 4,
        ..rtp
    };
    let out = Rtp {
        extension: None,
        payload_type: EVENT_OUT,
        ssrc: SSRC_OUT,
        payload: vec![1, 10, 0, 160],
        ..wrapped.clone()
    };
    row.passes(&wrapped, &out);
    // Padding is no part of it.
    let padded = Rtp {
        payload: vec![1, 10, 0],
        padding: 5,
        ..wrapped
    };
    row.case.refuses(&padded.bytes(), Why::BadRtp);
    row.case
}

/// Another source takes the stream over while a key is pressed.
fn of_a_new_source() -> Case {
    let mut row = Row::new("a new source", Way::Protect, (8000, 8000), 8000);
    row.case.spec.streams[0] = Some(stream(StreamSource::Learnt, SSRC_OUT));
    row.event(Report::of(320, 9, 160), Report::of(320, 9, 160));
    let sequence = row.sequence + 1;
    // The same timestamp by chance. The event before it is told with it, and lasted 20 ms.
    let report = Report::of(320, 9, 320);
    let out = Report::of(320 + 160 + 160, 9, 320).rtp(SSRC_OUT, sequence, EVENT_OUT);
    row.passes(&report.rtp(55, 9, EVENT_IN), &out);
    row.told(9, 20);
    row.case
}
