//! Packet indices: the estimate from a sequence number, and the window of those that were seen (RFC
//! 3711 sections 3.3.1 and 3.3.2). Used by [`crate::state`] for what arrives and for what leaves.

use crate::Why;

/// Width of a window in packets. RFC 3711 asks for 64 at least.
pub(crate) const WINDOW: u64 = 128;

/// Highest number and a bit for each of the 128 numbers up to it (bit k of the 128 = `highest -
/// k`); empty = nothing yet.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) highest: u64,
    low: u64,
    high: u64,
}

impl Window {
    pub(crate) const EMPTY: Self = Self {
        highest: 0,
        low: 0,
        high: 0,
    };

    /// `highest` was seen, and nothing before.
    pub(crate) const fn started(highest: u64) -> Self {
        Self {
            highest,
            low: 1,
            high: 0,
        }
    }

    /// Everything up to `highest` counts as seen.
    pub(crate) const fn filled(highest: Option<u64>) -> Self {
        match highest {
            Some(highest) => Self {
                highest,
                low: u64::MAX,
                high: u64::MAX,
            },
            None => Self::EMPTY,
        }
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.low == 0
    }

    /// Refuses a number that is set already (with `repeated`) or older than the window.
    #[inline(always)]
    pub(crate) fn check(&self, number: u64, repeated: Why) -> Result<(), Why> {
        if self.is_empty() || number > self.highest {
            return Ok(());
        }
        let age = self.highest - number;
        if age >= WINDOW {
            return Err(Why::TooOld);
        }
        let half = if age < 64 { self.low } else { self.high };
        if (half >> (age & 63)) & 1 != 0 {
            Err(repeated)
        } else {
            Ok(())
        }
    }

    /// Sets a number; one that is older than the window is left out.
    #[inline(always)]
    pub(crate) fn insert(&mut self, number: u64) {
        if self.is_empty() {
            *self = Self::started(number);
        } else if number > self.highest {
            let step = number - self.highest;
            let shift = step & 63;
            self.highest = number;
            if step < 64 {
                // `>> 1 >> 63 - shift`: a shift by 64 is none.
                self.high = (self.high << shift) | ((self.low >> 1) >> (63 - shift));
                self.low = (self.low << shift) | 1;
            } else {
                self.high = if step < WINDOW { self.low << shift } else { 0 };
                self.low = 1;
            }
        } else {
            let age = self.highest - number;
            if age < 64 {
                self.low |= 1 << (age & 63);
            } else if age < WINDOW {
                self.high |= 1 << (age & 63);
            }
        }
    }
}

/// An index that is so many rollovers higher than the estimate.
#[inline(always)]
pub(crate) fn estimate_ahead(highest: u64, sequence: u32, rollovers: u32) -> Option<u64> {
    match estimate(highest, sequence) {
        Some(index) => Some(index + (u64::from(rollovers) << 16)),
        None => {
            let rollovers = u64::from(rollovers).checked_sub(1)?;
            Some((rollovers << 16) | u64::from(sequence & 0xffff))
        }
    }
}

/// Index of a packet by its sequence number and the highest index so far (RFC 3711 section 3.3.1
/// and appendix A); `None` before the first rollover's beginning.
#[inline(always)]
pub(crate) fn estimate(highest: u64, sequence: u32) -> Option<u64> {
    let sequence = u64::from(sequence & 0xffff);
    let newest = highest & 0xffff;
    let rollovers = highest >> 16;
    let rollovers = if newest < 0x8000 {
        if sequence > newest + 0x8000 {
            rollovers.checked_sub(1)?
        } else {
            rollovers
        }
    } else if sequence + 0x8000 < newest {
        rollovers + 1
    } else {
        rollovers
    };
    Some((rollovers << 16) | sequence)
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn estimate_follows_rfc_3711_over_the_wrap() {
        assert_eq!(estimate(0xffff, 0), Some(0x1_0000));
        assert_eq!(estimate(0x1_0000, 0xffff), Some(0xffff));
        assert_eq!(estimate(5, 0xfff0), None);
        assert_eq!(estimate(0x2_8000, 0x7fff), Some(0x2_7fff));
        assert_eq!(estimate(0x2_9000, 0x0fff), Some(0x3_0fff));
        assert_eq!(estimate(0x2_7000, 0xf001), Some(0x1_f001));
    }

    proptest! {
        #[test]
        fn the_window_refuses_exactly_what_it_has_seen(numbers in prop::collection::vec(0u64..400, 1..200)) {
            let mut window = Window::EMPTY;
            let mut seen = std::collections::BTreeSet::new();
            for number in numbers {
                let highest = seen.last().copied();
                let expected = match highest {
                    Some(highest) if number + WINDOW <= highest => Err(Why::TooOld),
                    _ if seen.contains(&number) => Err(Why::Replayed),
                    _ => Ok(()),
                };
                prop_assert_eq!(window.check(number, Why::Replayed), expected);
                if expected.is_ok() {
                    window.insert(number);
                    seen.insert(number);
                }
            }
        }

        #[test]
        fn an_estimate_ahead_finds_the_index_however_many_were_unseen(
            highest in 0u64..0x0000_ffff_0000_0000,
            unseen in 1u64..(16 << 16),
        ) {
            // Exactly half a round can be either side.
            prop_assume!(unseen & 0xffff != 0x8000);
            let rollovers = ((unseen + 0x7fff) >> 16) as u32;
            let sequence = (highest + unseen) as u32;
            prop_assert_eq!(estimate_ahead(highest, sequence, rollovers), Some(highest + unseen));
        }

        #[test]
        fn the_estimate_is_the_nearest_index(highest in 0u64..0x0000_ffff_ffff_0000, step in -0x7fffi64..0x7fff) {
            let true_index = highest as i64 + step;
            prop_assume!(true_index >= 0);
            prop_assert_eq!(estimate(highest, true_index as u32), Some(true_index as u64));
        }
    }
}
