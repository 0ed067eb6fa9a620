//! When the next report goes out (RFC 3550 section 6.3, for two participants a leg).
//!
//! Simplified as the RFC permits for a known, tiny membership: with two members the deterministic
//! interval is always the minimum of 5 s, so neither bandwidth nor reconsideration enter; what
//! stays is the randomisation that keeps calls from reporting in step.

use std::time::Duration;

use crate::Random;

/// RFC 3550 section 6.2, `Tmin`.
const MINIMUM: Duration = Duration::from_secs(5);

/// A usual interval: 5 s times 0.5 to 1.5.
pub fn interval(random: &mut Random) -> Duration {
    MINIMUM / 2 + MINIMUM.mul_f64(f64::from(random.u32()) / f64::from(u32::MAX))
}

/// The succession of intervals of one leg: the first is half as long, so that new calls soon have
/// numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReportInterval {
    started: bool,
}

impl ReportInterval {
    /// Time from now to the next report.
    pub fn next(&mut self, random: &mut Random) -> Duration {
        let usual = interval(random);
        if std::mem::replace(&mut self.started, true) {
            usual
        } else {
            usual / 2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(byte: u8) -> Random {
        Random::new(move |bytes| bytes.fill(byte))
    }

    #[test]
    fn interval_spans_half_to_one_and_a_half_of_five_seconds() {
        assert_eq!(interval(&mut constant(0)), Duration::from_millis(2500));
        assert_eq!(interval(&mut constant(0xff)), Duration::from_millis(7500));
        let middle = interval(&mut constant(0x80));
        assert!(
            (Duration::from_millis(4990)..Duration::from_millis(5020)).contains(&middle),
            "{middle:?}"
        );
    }

    #[test]
    fn first_interval_is_halved() {
        let mut intervals = ReportInterval::default();
        assert_eq!(
            intervals.next(&mut constant(0)),
            Duration::from_millis(1250)
        );
        assert_eq!(
            intervals.next(&mut constant(0)),
            Duration::from_millis(2500)
        );
    }
}
