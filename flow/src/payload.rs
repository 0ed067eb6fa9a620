//! Payload types of a flow: by the number that arrives, what it leaves as.
//!
//! Why in one ready form: the call logic fills it, an entry holds it as it is ([`crate::FlowEntry`]), and the packet path reads two bytes
//! of it a packet. What cannot be said in it is refused when it is set.

use crate::{EVENT_CLOCKS, EntryError, MEDIA, PayloadKind, PayloadSpec};

/// Payload type that was not negotiated; others: the type that leaves, and above it medium and kind.
const NOT_NEGOTIATED: u16 = 0xffff;
const MEDIUM: u32 = 8;
/// 0 = media, else one more than the place of its clocks.
const EVENT: u32 = 12;

/// By payload type as it arrives (0..=127) what it leaves as; what was not set is not negotiated: the packet is dropped and counted.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PayloadMap {
    numbers: [u16; 128],
    event_clocks: [EventClocks; EVENT_CLOCKS],
}

/// Clocks of a telephone-event payload type.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventClocks {
    pub(crate) in_hz: u32,
    pub(crate) out_hz: u32,
}

impl EventClocks {
    const NONE: Self = Self {
        in_hz: 0,
        out_hz: 0,
    };
}

const _: () = assert!(size_of::<PayloadMap>() == 2 * 128 + 8 * EVENT_CLOCKS);
const _: () = assert!(EVENT_CLOCKS.is_power_of_two() && EVENT_CLOCKS < 15);
const _: () = assert!(MEDIA.is_power_of_two() && MEDIA <= 16);

/// What the map says about a payload type.
#[derive(Clone, Copy)]
pub(crate) struct PayloadEntry(u16);

impl PayloadEntry {
    /// Payload type that leaves.
    #[inline(always)]
    pub(crate) fn out(self) -> u32 {
        u32::from(self.0) & 127
    }

    /// 0 for media, else which of the telephone-event clocks, plus 1.
    #[inline(always)]
    pub(crate) fn event(self) -> u32 {
        u32::from(self.0) >> EVENT
    }

    /// Its medium.
    #[inline(always)]
    pub(crate) fn medium(self) -> u32 {
        (u32::from(self.0) >> MEDIUM) & (MEDIA as u32 - 1)
    }
}

impl PayloadMap {
    /// Nothing is negotiated.
    pub const EMPTY: Self = Self {
        numbers: [NOT_NEGOTIATED; 128],
        event_clocks: [EventClocks::NONE; EVENT_CLOCKS],
    };

    /// For a flow of one medium without telephone-events: payload types that arrive and leave, 0..=127; others are not taken.
    pub fn single(pairs: impl IntoIterator<Item = (u8, u8)>) -> Self {
        let mut map = Self::EMPTY;
        for (arrived, out) in pairs {
            // Out of range: left out, as said above.
            let _ = map.set(arrived, PayloadSpec::media(out, 0));
        }
        map
    }

    /// Says what a payload type leaves as.
    ///
    /// # Errors
    /// [`EntryError::PayloadType`]: either number is above 127, or there are more telephone-event clocks than [`EVENT_CLOCKS`];
    /// [`EntryError::Medium`]: no such medium. Nothing is changed then.
    pub fn set(&mut self, arrived: u8, payload: PayloadSpec) -> Result<(), EntryError> {
        let PayloadSpec { out, medium, kind } = payload;
        if out > 127 {
            return Err(EntryError::PayloadType);
        }
        if usize::from(medium) >= MEDIA {
            return Err(EntryError::Medium);
        }
        let place = self.numbers.get(usize::from(arrived));
        place.ok_or(EntryError::PayloadType)?;
        let event = match kind {
            PayloadKind::Media => 0,
            PayloadKind::TelephoneEvent {
                clock_in_hz: in_hz,
                clock_out_hz: out_hz,
            } => self.add_event_clocks(EventClocks { in_hz, out_hz })?,
        };
        self.numbers[usize::from(arrived)] =
            u16::from(out) | u16::from(medium) << MEDIUM | event << EVENT;
        Ok(())
    }

    /// One more than the place of these clocks.
    fn add_event_clocks(&mut self, clocks: EventClocks) -> Result<u16, EntryError> {
        let free = |known: &EventClocks| *known == clocks || *known == EventClocks::NONE;
        match self.event_clocks.iter().position(free) {
            Some(place) if clocks.in_hz > 0 && clocks.out_hz > 0 => {
                self.event_clocks[place] = clocks;
                Ok(place as u16 + 1)
            }
            _ => Err(EntryError::PayloadType),
        }
    }

    /// What a payload type leaves as; `None` = not negotiated.
    pub fn get(&self, arrived: u8) -> Option<PayloadSpec> {
        let number = *self.numbers.get(usize::from(arrived))?;
        let entry = (number != NOT_NEGOTIATED).then_some(PayloadEntry(number))?;
        let kind = match entry.event() {
            0 => PayloadKind::Media,
            event => {
                let clocks = self.event_clocks(event);
                PayloadKind::TelephoneEvent {
                    clock_in_hz: clocks.in_hz,
                    clock_out_hz: clocks.out_hz,
                }
            }
        };
        Some(PayloadSpec {
            out: entry.out() as u8,
            medium: entry.medium() as u8,
            kind,
        })
    }

    /// All that is negotiated: what arrives, and what it leaves as.
    pub fn iter(&self) -> impl Iterator<Item = (u8, PayloadSpec)> + '_ {
        (0..128).filter_map(|arrived| Some((arrived, self.get(arrived)?)))
    }

    /// What is done with a payload type that arrives (0..=127).
    #[inline(always)]
    pub(crate) fn entry(&self, arrived: u32) -> Option<PayloadEntry> {
        let number = self.numbers[(arrived & 127) as usize];
        (number != NOT_NEGOTIATED).then_some(PayloadEntry(number))
    }

    /// The clocks that [`PayloadEntry::event`] names.
    #[inline(always)]
    pub(crate) fn event_clocks(&self, event: u32) -> EventClocks {
        self.event_clocks[event.wrapping_sub(1) as usize & (EVENT_CLOCKS - 1)]
    }
}

impl core::fmt::Debug for PayloadMap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: PayloadKind = PayloadKind::TelephoneEvent {
        clock_in_hz: 8000,
        clock_out_hz: 48_000,
    };

    #[test]
    fn what_is_set_is_what_is_read() {
        let mut map = PayloadMap::single([(0, 8), (127, 127)]);
        let event = PayloadSpec {
            kind: EVENTS,
            ..PayloadSpec::media(110, 1)
        };
        map.set(101, event).unwrap();
        let all = [
            (0, PayloadSpec::media(8, 0)),
            (101, event),
            (127, PayloadSpec::media(127, 0)),
        ];
        assert!(map.iter().eq(all));
        assert_eq!(map.get(1), None);
        assert_eq!(map.get(255), None);
    }

    #[test]
    fn what_is_out_of_range_is_refused_and_changes_nothing() {
        let mut map = PayloadMap::single([(128, 0), (0, 128)]);
        let refusals = [
            (128, PayloadSpec::media(0, 0), EntryError::PayloadType),
            (3, PayloadSpec::media(128, 0), EntryError::PayloadType),
            (3, PayloadSpec::media(3, MEDIA as u8), EntryError::Medium),
            (3, PayloadSpec::media(3, 255), EntryError::Medium),
        ];
        for (arrived, payload, error) in refusals {
            assert_eq!(map.set(arrived, payload), Err(error));
        }
        assert!(map == PayloadMap::EMPTY);
    }

    #[test]
    fn there_is_room_for_so_many_clocks() {
        let mut map = PayloadMap::EMPTY;
        let mut set = |number: u8, clock_out_hz| {
            let kind = PayloadKind::TelephoneEvent {
                clock_in_hz: 8000,
                clock_out_hz,
            };
            let payload = PayloadSpec {
                kind,
                ..PayloadSpec::media(101, 0)
            };
            map.set(number, payload)
        };
        for number in 0..EVENT_CLOCKS as u8 {
            set(number, 8000 + u32::from(number)).unwrap();
        }
        assert_eq!(set(9, 8000), Ok(()), "clocks that are there already");
        assert_eq!(set(10, 7000), Err(EntryError::PayloadType));
        assert_eq!(set(10, 0), Err(EntryError::PayloadType));
        assert_eq!(map.get(10), None);
    }
}
