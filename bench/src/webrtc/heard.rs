//! What a page heard: counts, loss, jitter and round trips of the stream that came back.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest round trip that is told apart, microseconds.
const LONGEST_US: u64 = 10_000_000;
/// SSRCs that are kept for the report.
const SSRCS: usize = 8;

/// Percentiles of the round trip through the gateway and back, microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct RoundTrip {
    /// Packets that came back.
    pub count: u64,
    /// Shortest.
    pub min_us: u64,
    /// Median.
    pub p50_us: u64,
    /// 90 %.
    pub p90_us: u64,
    /// 99 %.
    pub p99_us: u64,
    /// Longest.
    pub max_us: u64,
}

impl RoundTrip {
    /// The percentiles of a histogram, unless it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            min_us: histogram.min(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            max_us: histogram.max(),
        })
    }
}

/// A histogram of the kind that [`Heard`] keeps: two significant digits up to 10 s.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST_US, 2).expect("the bounds are constants in range")
}

/// The incoming stream.
pub struct Heard {
    clock_hz: u32,
    /// Packets received.
    pub packets: u64,
    /// Payload octets received.
    pub octets: u64,
    /// SSRCs in order of appearance, at most eight.
    pub ssrcs: Vec<u32>,
    /// Times that the sequence jumped ahead.
    pub gaps: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Round trips of our own markers.
    pub round_trips: Histogram<u64>,
    expected_before: u64,
    stream: Option<Stream>,
    jitter: f64,
}

/// Sequence and time of the current SSRC (RFC 3550 appendix A.1, A.8).
struct Stream {
    ssrc: u32,
    base: u64,
    highest: u64,
    transit: f64,
}

impl Heard {
    pub(super) fn new(clock_hz: u32) -> Self {
        Self {
            clock_hz,
            packets: 0,
            octets: 0,
            ssrcs: Vec::new(),
            gaps: 0,
            reordered: 0,
            round_trips: histogram(),
            expected_before: 0,
            stream: None,
            jitter: 0.0,
        }
    }

    /// Takes a packet into account; `arrival` is the time since any fixed moment.
    pub(super) fn record(
        &mut self,
        arrival: Duration,
        ssrc: u32,
        sequence: u16,
        timestamp: u32,
        octets: usize,
    ) {
        self.packets += 1;
        self.octets += octets as u64;
        let transit = arrival.as_secs_f64() - f64::from(timestamp) / f64::from(self.clock_hz);
        match &mut self.stream {
            Some(stream) if stream.ssrc == ssrc => {
                let extended = extend(stream.highest, sequence);
                if extended > stream.highest {
                    self.gaps += u64::from(extended > stream.highest + 1);
                    stream.highest = extended;
                } else {
                    self.reordered += 1;
                    stream.base = stream.base.min(extended);
                }
                // RFC 3550 section 6.4.1; a wrap of the timestamp shows as an impossible step and is left out.
                let step = (transit - stream.transit).abs();
                stream.transit = transit;
                if step < 10.0 {
                    self.jitter += (step - self.jitter) / 16.0;
                }
            }
            _ => {
                self.expected_before = self.expected();
                let base = u64::from(sequence) + (1 << 16);
                self.stream = Some(Stream {
                    ssrc,
                    base,
                    highest: base,
                    transit,
                });
                if !self.ssrcs.contains(&ssrc) && self.ssrcs.len() < SSRCS {
                    self.ssrcs.push(ssrc);
                }
            }
        }
    }

    pub(super) fn round_trip(&mut self, time: Duration) {
        self.round_trips
            .saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// Packets that did not come, by the gaps in the sequence.
    pub fn lost(&self) -> i64 {
        self.expected() as i64 - self.packets as i64
    }

    /// Interarrival jitter, milliseconds.
    pub fn jitter_ms(&self) -> f64 {
        self.jitter * 1000.0
    }

    fn expected(&self) -> u64 {
        self.expected_before
            + self
                .stream
                .as_ref()
                .map_or(0, |stream| stream.highest - stream.base + 1)
    }
}

/// The extended sequence number nearest to the highest one.
fn extend(highest: u64, sequence: u16) -> u64 {
    let distance = sequence.wrapping_sub(highest as u16) as i16;
    highest.saturating_add_signed(i64::from(distance))
}

/// Milliseconds between two moments, for reports.
pub(super) fn ms(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_reordering_and_wraps_are_told_apart() {
        let mut heard = Heard::new(8000);
        let at = |n: u64| Duration::from_millis(20 * n);
        for (n, sequence) in [(0, 65534), (1, 65535), (2, 0), (4, 2), (5, 1), (8, 5)] {
            heard.record(at(n), 9, sequence, n as u32 * 160, 160);
        }
        assert_eq!(
            (heard.packets, heard.lost(), heard.gaps, heard.reordered),
            (6, 2, 2, 1)
        );
        heard.record(at(9), 10, 700, 0, 160);
        heard.record(at(10), 10, 702, 320, 160);
        assert_eq!((heard.lost(), heard.gaps), (3, 3));
        assert_eq!(heard.ssrcs, [9, 10]);
    }

    #[test]
    fn jitter_of_an_even_stream_is_nothing() {
        let mut heard = Heard::new(48000);
        for n in 0..200_u32 {
            heard.record(
                Duration::from_millis(20 * u64::from(n)),
                1,
                n as u16,
                n * 960,
                80,
            );
        }
        assert!(heard.jitter_ms() < 0.001);
        assert_eq!(heard.lost(), 0);
    }
}
