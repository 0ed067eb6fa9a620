//! Digits that the gateway sends for a page which cannot put them into its media: INFO with `application/dtmf-relay`, one digit each,
//! at the times at which the tones would begin.
//!
//! A browser's own way is RFC 4733 (`insertDTMF`); such packets pass the datapath like its voice. The gateway makes none of its own:
//! the stream to the SIP side is numbered in the datapath, and a second writer there could use an SRTP index twice.

use super::data::Sent;
use super::{Call, State};
use crate::api::{Dtmf, Problem};
use crate::gateway::Hub;
use crate::sip::Content;
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Most digits of a call that wait for their time.
const WAITING: usize = 64;
/// Most digits of one request.
const DIGITS: usize = 32;
const DURATION_MS: RangeInclusive<u64> = 70..=6000;
const GAP_MS: RangeInclusive<u64> = 30..=6000;

/// The digits of a call that wait for their time.
#[derive(Default)]
pub(super) struct Digits {
    waiting: VecDeque<Digit>,
    /// When the next one is due; earlier than now if none was sent lately.
    next: Option<Instant>,
}

struct Digit {
    digit: char,
    duration_ms: u64,
    gap_ms: u64,
}

impl Digits {
    /// When one has to be sent.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next.filter(|_| !self.waiting.is_empty())
    }

    fn take_due(&mut self, now: Instant) -> Option<Digit> {
        let due = self.due().filter(|due| *due <= now)?;
        let digit = self.waiting.pop_front()?;
        self.next = Some(due + Duration::from_millis(digit.duration_ms + digit.gap_ms));
        Some(digit)
    }
}

impl Digit {
    fn content(&self) -> Content {
        Content {
            content_type: "application/dtmf-relay".into(),
            body: format!("Signal={}\r\nDuration={}\r\n", self.digit, self.duration_ms).into(),
        }
    }
}

impl Dtmf {
    /// # Errors
    /// 422 for what is no digit, or none of the times.
    fn read(&self) -> Result<Vec<Digit>, Problem> {
        let wrong = |what: &str| Problem::new(422, "bad-digits", "Bad digits", what);
        let duration_ms = self.duration_ms.unwrap_or(160);
        let gap_ms = self.gap_ms.unwrap_or(70);
        if !DURATION_MS.contains(&duration_ms) {
            return Err(wrong("`duration_ms` has to be 70 to 6000"));
        }
        if !GAP_MS.contains(&gap_ms) {
            return Err(wrong("`gap_ms` has to be 30 to 6000"));
        }
        if self.digits.is_empty() || self.digits.len() > DIGITS {
            return Err(wrong("`digits` has 1 to 32 digits"));
        }
        let digits = self
            .digits
            .chars()
            .map(|digit| match digit.to_ascii_uppercase() {
                digit @ ('0'..='9' | '*' | '#' | 'A'..='D') => Ok(Digit {
                    digit,
                    duration_ms,
                    gap_ms,
                }),
                _ => Err(wrong("a digit is one of 0-9 * # A-D")),
            });
        digits.collect()
    }
}

impl Call {
    /// The page has digits sent.
    pub(crate) fn send_digits(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        dtmf: &Dtmf,
    ) -> Result<(), Problem> {
        let digits = dtmf.read()?;
        self.answered("only an answered call takes digits")?;
        if self.hold().is_some() {
            return Err(self.wrong_state("a call on hold takes no digits"));
        }
        let State::Active(active) = &mut self.state else {
            return Ok(());
        };
        let queue = &mut active.digits;
        if queue.waiting.len() + digits.len() > WAITING {
            let detail = "as many digits as may wait for their time do";
            return Err(Problem::new(503, "digits", "Too many digits wait", detail).retry_after(5));
        }
        queue.waiting.extend(digits);
        queue.next = Some(queue.next.map_or(now, |next| next.max(now)));
        self.send_due_digits(hub, now);
        Ok(())
    }

    /// Sends the digits whose time has come.
    pub(super) fn send_due_digits(&mut self, hub: &mut Hub, now: Instant) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        while let Some(digit) = active.digits.take_due(now) {
            // A digit that finds no room is lost, as a tone is in a bad line.
            if hub
                .stack
                .info(now, active.agreed.sip, digit.content())
                .is_ok()
            {
                active.sent.push_back(Sent::Digit(digit.digit));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dtmf(digits: &str, duration_ms: Option<u64>, gap_ms: Option<u64>) -> Result<usize, u16> {
        let dtmf = Dtmf {
            digits: digits.into(),
            duration_ms,
            gap_ms,
        };
        let read = dtmf.read();
        read.map(|digits| digits.len())
            .map_err(|problem| problem.status)
    }

    #[test]
    fn digits_and_times_have_bounds() {
        assert_eq!(dtmf("0123456789*#ABCDabcd", None, None), Ok(20));
        for (duration, gap) in [(70, 30), (6000, 6000)] {
            assert_eq!(dtmf("1", Some(duration), Some(gap)), Ok(1));
        }
        for (duration, gap) in [(69, 70), (6001, 70), (160, 29), (160, 6001)] {
            assert_eq!(dtmf("1", Some(duration), Some(gap)), Err(422));
        }
        for digits in ["", "E", "1 2", "ä", &"1".repeat(33)] {
            assert_eq!(dtmf(digits, None, None), Err(422), "{digits}");
        }
    }

    #[test]
    fn each_digit_has_its_time() {
        let now = Instant::now();
        let mut digits = Digits::default();
        let dtmf = Dtmf {
            digits: "12".into(),
            duration_ms: Some(200),
            gap_ms: Some(50),
        };
        digits.waiting.extend(dtmf.read().unwrap());
        digits.next = Some(now);
        assert_eq!(digits.take_due(now).unwrap().digit, '1');
        assert!(digits.take_due(now).is_none());
        let second = now + Duration::from_millis(250);
        assert_eq!(digits.due(), Some(second));
        let two = digits.take_due(second).unwrap();
        assert_eq!(two.content().body, b"Signal=2\r\nDuration=200\r\n");
        assert_eq!(digits.due(), None);
    }
}
