//! The highest rate that a device forwards without loss: begun where its CPU time lets expect it, then halved.

use super::Pace;
use super::device::Device;
use super::stand::{Aim, Run, Stand};

/// Lost or late packets that still count as none, in percent, in the middle one of ten parts of a run: in another the host may have
/// taken the CPU away for a moment, which no device can do anything about.
const LOSS_PERCENT: f64 = 0.1;
/// A rate at which the whole run loses more than this does not hold; where even the middle part does, it is not tried again at once.
const OVERLOAD_PERCENT: f64 = 2.0;
/// Below this share of its rate the generator is the limit, and not the device.
const KEPT_PACE: f64 = 0.93;
/// More is beyond feed and sink on one CPU.
const MOST_PPS: f64 = 6_000_000.0;
/// The search begins no lower.
const LEAST_PPS: f64 = 20_000.0;
/// Packets of a run: it is the shorter the higher the rate.
const MOST_PACKETS: f64 = 500_000.0;
/// Packets that come at once.
const BURST: usize = 20;
/// Step up while nothing is lost yet, and down while all rates lose.
const STEP: f64 = 1.6;
/// Rates tried for work that is measured less closely.
const SHORT_STEPS: usize = 8;
/// Known well enough.
const CLOSE: f64 = 1.1;

/// What a search found.
pub(super) struct Found {
    /// The run at the highest rate that held; none where even the lowest rate lost.
    pub(super) run: Option<Run>,
    /// Whether the feed or the end of the search bounds the rate from above, and not the device.
    pub(super) at_least: bool,
}

/// Tries rates until the limit is known or the steps are used up. At high rates a packet costs less than at that of the CPU time,
/// so the first guess is low.
pub(super) fn highest(
    stand: &mut Stand<'_>,
    device: &mut Device,
    cpu_ns: f64,
    progress: &mut dyn FnMut(&str),
) -> anyhow::Result<Found> {
    let mut best: Option<Run> = None;
    let mut at_least = true;
    let mut limits = Limits::default();
    let mut pps = (1e9 / cpu_ns).clamp(LEAST_PPS, MOST_PPS / STEP);
    let steps = stand.config.search_steps;
    let steps = if device.work.is_short() {
        steps.min(SHORT_STEPS)
    } else {
        steps
    };
    for _ in 0..steps {
        let held = match attempt(stand, device, pps)? {
            Attempt::Holds(run) => {
                progress(&format!("  {pps:.0} pps holds"));
                let better = |best: &Run| run.load.sent_pps > best.load.sent_pps;
                if best.as_ref().is_none_or(better) {
                    best = Some(run);
                }
                true
            }
            Attempt::Loses(percent) => {
                progress(&format!("  {pps:.0} pps loses {percent:.2} %"));
                at_least = false;
                false
            }
            Attempt::NotSent(sent) => {
                progress(&format!("  {pps:.0} pps cannot be sent, only {sent:.0}"));
                at_least = true;
                false
            }
        };
        let Some(next) = limits.narrow(pps, held) else {
            break;
        };
        pps = next;
    }
    Ok(Found {
        run: best,
        at_least: at_least || limits.loses.is_none(),
    })
}

/// Between which rates the limit lies.
#[derive(Default)]
struct Limits {
    holds: Option<f64>,
    loses: Option<f64>,
    /// Whether the rate that lost did so twice, with others tried in between.
    sure: bool,
}

impl Limits {
    /// Takes what came of a rate; returns the next, or nothing where the limit is known. The host may have been busy all the while that
    /// a rate was tried, so the lowest that lost is tried again before it counts, and goes if it holds.
    fn narrow(&mut self, pps: f64, held: bool) -> Option<f64> {
        if held {
            self.holds = Some(pps);
            if self.loses.is_some_and(|loses| loses <= pps) {
                self.loses = None;
            }
        } else {
            self.sure = self.loses == Some(pps);
            self.loses = Some(pps);
        }
        match (self.holds, self.loses) {
            (Some(low), Some(high)) if high / low < CLOSE => (!self.sure).then_some(high),
            (Some(low), Some(high)) => Some((low * high).sqrt()),
            (Some(low), None) => (low < MOST_PPS).then(|| (low * STEP).min(MOST_PPS)),
            (None, _) => Some(pps / STEP),
        }
    }
}

enum Attempt {
    Holds(Run),
    /// With the least loss of all tries.
    Loses(f64),
    /// With the rate that was sent.
    NotSent(f64),
}

/// Tries a rate until it holds once. A device that has lost packets is started anew, because its queues may be full of old ones.
fn attempt(stand: &mut Stand<'_>, device: &mut Device, pps: f64) -> anyhow::Result<Attempt> {
    let (mut least, mut sent) = (f64::INFINITY, 0.0f64);
    for _ in 0..stand.config.tries {
        let pace = Pace {
            pps,
            burst: BURST,
            seconds: stand.config.search_seconds.min(MOST_PACKETS / pps),
        };
        let run = stand.measure(device, pace, Aim::Rate)?;
        sent = sent.max(run.load.sent_pps);
        let kept_pace = run.load.sent_pps >= KEPT_PACE * pps;
        if kept_pace {
            least = least.min(run.load.loss_percent);
        }
        let overloaded = run.load.loss_percent > OVERLOAD_PERCENT;
        if kept_pace && !overloaded && run.load.usual_loss_percent < LOSS_PERCENT {
            return Ok(Attempt::Holds(run));
        }
        stand.restart(device)?;
        if kept_pace && run.load.usual_loss_percent > OVERLOAD_PERCENT {
            break;
        }
    }
    Ok(if sent < KEPT_PACE * pps {
        Attempt::NotSent(sent)
    } else {
        Attempt::Loses(least)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches where a rate holds below `limit`, but for the steps in `disturbed`; returns the highest that held.
    fn search(limit: f64, first: f64, steps: usize, disturbed: &[usize]) -> f64 {
        let (mut limits, mut pps, mut best) = (Limits::default(), first, 0.0f64);
        for step in 0..steps {
            let held = pps < limit && !disturbed.contains(&step);
            if held {
                best = best.max(pps);
            }
            match limits.narrow(pps, held) {
                Some(next) => pps = next,
                None => break,
            }
        }
        best
    }

    #[test]
    fn the_limit_is_found_from_above_and_from_below() {
        for first in [100_000.0, 400_000.0, 1_500_000.0] {
            let found = search(500_000.0, first, 12, &[]);
            assert!((500_000.0 / CLOSE..500_000.0).contains(&found), "{found}");
        }
    }

    #[test]
    fn a_disturbed_rate_is_tried_again() {
        for disturbed in 0..3 {
            let found = search(500_000.0, 300_000.0, 16, &[disturbed]);
            assert!(found >= 500_000.0 / CLOSE, "{disturbed}: {found}");
        }
        let found = search(500_000.0, 400_000.0, 20, &[0, 1, 2]);
        assert!(found >= 500_000.0 / CLOSE, "{found}");
    }

    #[test]
    fn a_feed_without_a_limit_ends_at_the_most() {
        assert_eq!(search(f64::INFINITY, 4_000_000.0, 12, &[]), MOST_PPS);
    }
}
