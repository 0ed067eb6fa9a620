//! Reception statistics of one direction (RFC 3550 appendix A.1, A.3 and A.8).

use std::time::{Duration, Instant};

use gateway_core::rtp::ReportBlock;

use super::{ReceptionStats, RtpHeader};

/// A step in the sequence that is larger than this is a restart and no loss.
const MAX_STEP: u16 = 3000;

/// Counts what comes.
#[derive(Clone, Debug, Default)]
pub struct Reception {
    stats: ReceptionStats,
    current: Option<Current>,
    /// Lost in streams that have ended.
    lost_before: i64,
}

/// The stream that runs.
#[derive(Clone, Debug)]
struct Current {
    ssrc: u32,
    first: u64,
    highest: u64,
    /// Bit n: `highest - n` has come.
    window: u64,
    packets: u64,
    jitter: f64,
    /// Arrival and timestamp of the newest packet.
    newest: (Instant, u32),
    /// Expected and received at the last report.
    reported: (u64, u64),
}

impl Reception {
    /// Takes a packet in. Returns whether it is new, that is no duplicate.
    pub fn push(&mut self, now: Instant, header: &RtpHeader, octets: usize, clock_hz: u32) -> bool {
        self.stats.packets += 1;
        self.stats.octets += octets as u64;
        let step = self.current.as_ref().map(|current| {
            let step = header.sequence.wrapping_sub(current.highest as u16);
            (current.ssrc, step)
        });
        let goes_on = step.is_some_and(|(ssrc, step)| {
            ssrc == header.ssrc && (step < MAX_STEP || step > 0u16.wrapping_sub(MAX_STEP))
        });
        match &mut self.current {
            Some(current) if goes_on => {
                let new = current.push(now, header, clock_hz, &mut self.stats);
                self.stats.jitter_ms = 1000.0 * current.jitter / f64::from(clock_hz.max(1));
                self.stats.lost = self.lost_before + current.lost();
                new
            }
            current => {
                if let Some(ended) = current.take() {
                    self.lost_before += ended.lost();
                    self.stats.ssrc_changes += u64::from(ended.ssrc != header.ssrc);
                }
                self.stats.ssrc = header.ssrc;
                *current = Some(Current::new(now, header));
                true
            }
        }
    }

    /// What was counted.
    pub fn stats(&self) -> &ReceptionStats {
        &self.stats
    }

    /// The report block on the stream that runs; the caller adds what it knows of the sender's reports.
    pub fn report(&mut self) -> Option<ReportBlock> {
        let current = self.current.as_mut()?;
        let expected = current.expected();
        let (expected_before, received_before) = current.reported;
        current.reported = (expected, current.packets);
        let expected_now = expected - expected_before;
        let lost_now = expected_now.saturating_sub(current.packets - received_before);
        let fraction = (256 * lost_now).checked_div(expected_now).unwrap_or(0);
        Some(ReportBlock {
            ssrc: current.ssrc,
            fraction_lost: fraction.min(255) as u8,
            cumulative_lost: current.lost().clamp(-0x80_0000, 0x7f_ffff) as i32,
            // Counted from 65536 on, so that a packet before the first one has a number.
            highest_sequence: (current.highest - 0x1_0000) as u32,
            jitter: current.jitter as u32,
            last_sr: 0,
            delay_since_last_sr: 0,
        })
    }
}

impl Current {
    fn new(now: Instant, header: &RtpHeader) -> Self {
        let sequence = 0x1_0000 + u64::from(header.sequence);
        Self {
            ssrc: header.ssrc,
            first: sequence,
            highest: sequence,
            window: 1,
            packets: 1,
            jitter: 0.0,
            newest: (now, header.timestamp),
            reported: (0, 0),
        }
    }

    fn push(
        &mut self,
        now: Instant,
        header: &RtpHeader,
        clock_hz: u32,
        stats: &mut ReceptionStats,
    ) -> bool {
        self.packets += 1;
        let step = header.sequence.wrapping_sub(self.highest as u16);
        if step == 0 || step > MAX_STEP {
            let age = u64::from(0u16.wrapping_sub(step));
            self.first = self.first.min(self.highest.saturating_sub(age));
            let seen = age < 64 && self.window & (1 << age) != 0;
            if age < 64 {
                self.window |= 1 << age;
            }
            stats.duplicates += u64::from(seen);
            stats.reordered += u64::from(!seen);
            return !seen;
        }
        self.highest += u64::from(step);
        self.window = if step < 64 { self.window << step } else { 0 } | 1;
        let (arrival, timestamp) = self.newest;
        let waited = now.saturating_duration_since(arrival);
        let sent = header.timestamp.wrapping_sub(timestamp) as i32;
        // A pause or a new clock is no jitter.
        if waited < Duration::from_secs(2) && i64::from(sent).abs() < 2 * i64::from(clock_hz) {
            let difference = waited.as_secs_f64() * f64::from(clock_hz) - f64::from(sent);
            self.jitter += (difference.abs() - self.jitter) / 16.0;
        }
        self.newest = (now, header.timestamp);
        true
    }

    fn expected(&self) -> u64 {
        self.highest - self.first + 1
    }

    fn lost(&self) -> i64 {
        self.expected() as i64 - self.packets as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(packets: &[(u32, u16)]) -> Reception {
        let start = Instant::now();
        let mut reception = Reception::default();
        for (place, &(ssrc, sequence)) in packets.iter().enumerate() {
            let header = RtpHeader {
                marker: false,
                payload_type: 0,
                sequence,
                timestamp: u32::from(sequence) * 160,
                ssrc,
            };
            let now = start + Duration::from_millis(20) * place as u32;
            reception.push(now, &header, 160, 8000);
        }
        reception
    }

    #[test]
    fn loss_duplicates_and_disorder_are_told_apart_over_the_wrap() {
        let mut reception = run(&[(1, 65534), (1, 65535), (1, 1), (1, 1), (1, 0), (1, 4)]);
        let stats = reception.stats();
        assert_eq!(
            (stats.packets, stats.duplicates, stats.reordered),
            (6, 1, 1)
        );
        // 65534..=4 are seven numbers; six packets came, one of them twice.
        assert_eq!(stats.lost, 1);
        let block = reception.report().unwrap();
        assert_eq!(block.highest_sequence, 0x1_0004);
        assert_eq!((block.cumulative_lost, block.fraction_lost), (1, 36));
        assert_eq!(reception.report().unwrap().fraction_lost, 0);
    }

    #[test]
    fn a_steady_stream_has_no_jitter_and_a_shaken_one_has() {
        assert!(run(&[(1, 1), (1, 2), (1, 3)]).stats().jitter_ms < 0.001);
        // The third packet comes 20 ms late.
        let shaken = run(&[(1, 1), (1, 2), (1, 2), (1, 3)]);
        assert!((shaken.stats().jitter_ms - 20.0 / 16.0).abs() < 0.01);
    }

    #[test]
    fn a_new_ssrc_or_a_jump_starts_anew_and_keeps_the_loss() {
        let reception = run(&[(1, 1), (1, 3), (2, 40_000), (2, 40_001), (2, 7)]);
        let stats = reception.stats();
        assert_eq!((stats.lost, stats.ssrc_changes, stats.ssrc), (1, 1, 2));
    }
}
