//! The highest rate that a device forwards without loss: begun where its CPU time lets expect it, then halved.

use super::Pace;
use super::device::Device;
use super::stand::{Aim, Run, Stand};

/// Lost or late packets that still count as none, in percent, in the middle one of ten parts of a run: in another the host may have
/// taken the CPU away for a moment, which no device can do anything about.
const LOSS_PERCENT: f64 = 0.1;
/// Above this in the whole run it is no accident: the rate does not hold, and is not tried again.
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
const SHORT_STEPS: usize = 5;
/// Known well enough.
const CLOSE: f64 = 1.06;

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
    let mut holds: Option<(f64, Run)> = None;
    let mut loses: Option<f64> = None;
    let mut at_least = true;
    let mut pps = (1e9 / cpu_ns).clamp(LEAST_PPS, MOST_PPS / STEP);
    let steps = stand.config.search_steps;
    let steps = if device.work.is_short() {
        steps.min(SHORT_STEPS)
    } else {
        steps
    };
    for _ in 0..steps {
        match attempt(stand, device, pps)? {
            Attempt::Holds(run) => {
                progress(&format!("  {pps:.0} pps holds"));
                holds = Some((pps, run));
            }
            Attempt::Loses(percent) => {
                progress(&format!("  {pps:.0} pps loses {percent:.2} %"));
                loses = Some(pps);
                at_least = false;
            }
            Attempt::NotSent(sent) => {
                progress(&format!("  {pps:.0} pps cannot be sent, only {sent:.0}"));
                loses = Some(pps);
                at_least = true;
            }
        }
        pps = match (&holds, loses) {
            (Some((low, _)), Some(high)) if high / low < CLOSE => break,
            (Some((low, _)), Some(high)) => (low * high).sqrt(),
            (Some((low, _)), None) if *low >= MOST_PPS => break,
            (Some((low, _)), None) => (low * STEP).min(MOST_PPS),
            (None, _) => pps / STEP,
        };
    }
    Ok(Found {
        run: holds.map(|(_, run)| run),
        at_least,
    })
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
        if kept_pace && overloaded {
            break;
        }
    }
    Ok(if sent < KEPT_PACE * pps {
        Attempt::NotSent(sent)
    } else {
        Attempt::Loses(least)
    })
}
