//! Level and tone of received audio, over windows of 100 ms.

use serde::Serialize;

use super::SAMPLE_HZ;

/// Samples of a window: 440 Hz fits 44 times, so that the tone's energy falls into one bin.
const WINDOW: u32 = SAMPLE_HZ / 10;
/// Windows with less than this effective value are silence (-60 dB below full scale).
const SILENCE: f64 = 32.768;
/// A window is the tone if this much of its energy is at the tone's frequency.
const TONE_SHARE: f64 = 0.8;

/// What was heard so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Level {
    /// Whole windows measured.
    pub windows: u64,
    /// Of these, the ones that were the tone.
    pub tone_windows: u64,
    /// Of these, the ones below -60 dBFS.
    pub silent_windows: u64,
    /// Effective value of the newest window in dB below full scale; `None` before the first and where it was all zeros.
    pub level_dbfs: Option<f64>,
    /// Share of the newest window's energy at the tone's frequency, 0..=1.
    pub tone_share: f64,
}

/// Measures samples.
#[derive(Clone, Debug)]
pub struct Meter {
    coefficient: f64,
    count: u32,
    energy: f64,
    last: f64,
    before: f64,
    level: Level,
}

impl Meter {
    /// Looks for a tone of this frequency.
    pub fn new(frequency_hz: f64) -> Self {
        let angle = std::f64::consts::TAU * frequency_hz / f64::from(SAMPLE_HZ);
        Self {
            coefficient: 2.0 * angle.cos(),
            count: 0,
            energy: 0.0,
            last: 0.0,
            before: 0.0,
            level: Level::default(),
        }
    }

    /// Takes one sample in.
    pub fn push(&mut self, sample: i16) {
        let sample = f64::from(sample);
        self.energy += sample * sample;
        // Goertzel's recurrence: one bin of a Fourier transform.
        let now = sample + self.coefficient * self.last - self.before;
        self.before = self.last;
        self.last = now;
        self.count += 1;
        if self.count == WINDOW {
            self.close();
        }
    }

    /// What was heard so far.
    pub fn level(&self) -> Level {
        self.level
    }

    fn close(&mut self) {
        let samples = f64::from(WINDOW);
        let power = self.last * self.last + self.before * self.before
            - self.coefficient * self.last * self.before;
        let effective = (self.energy / samples).sqrt();
        let share = if self.energy > 0.0 {
            (2.0 * power / (samples * self.energy)).min(1.0)
        } else {
            0.0
        };
        let silent = effective < SILENCE;
        self.level.windows += 1;
        self.level.silent_windows += u64::from(silent);
        self.level.tone_windows += u64::from(!silent && share > TONE_SHARE);
        self.level.tone_share = share;
        self.level.level_dbfs =
            (effective > 0.0).then(|| 20.0 * (effective / f64::from(i16::MAX)).log10());
        (self.count, self.energy, self.last, self.before) = (0, 0.0, 0.0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{G711, TONE_HZ, Tone};

    fn heard(samples: impl Iterator<Item = i16>) -> Level {
        let mut meter = Meter::new(TONE_HZ);
        samples.for_each(|sample| meter.push(sample));
        meter.level()
    }

    #[test]
    fn the_tone_is_recognised_through_both_laws() {
        for law in [G711::MuLaw, G711::ALaw] {
            let mut tone = Tone::new(TONE_HZ, -20.0);
            let level = heard((0..8000).map(|_| law.decode(law.encode(tone.sample()))));
            assert_eq!((level.windows, level.tone_windows), (10, 10), "{level:?}");
            let measured = level.level_dbfs.unwrap();
            assert!((measured + 20.0).abs() < 0.3, "{measured} dBFS");
        }
    }

    #[test]
    fn silence_noise_and_other_tones_are_not_the_tone() {
        let silence = heard((0..8000).map(|_| 0));
        assert_eq!((silence.tone_windows, silence.silent_windows), (0, 10));
        assert_eq!(silence.level_dbfs, None);
        let mut noise = 1u32;
        let level = heard((0..8000).map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 16) as i16 / 4
        }));
        assert_eq!(level.tone_windows, 0, "{level:?}");
        let mut other = Tone::new(1000.0, -20.0);
        assert_eq!(heard((0..8000).map(|_| other.sample())).tone_windows, 0);
    }

    #[test]
    fn payload_that_was_decrypted_wrongly_is_not_the_tone() {
        let mut tone = Tone::new(TONE_HZ, -20.0);
        let mut key = 7u32;
        let level = heard((0..8000).map(|_| {
            key = key.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            G711::MuLaw.decode(G711::MuLaw.encode(tone.sample()) ^ (key >> 24) as u8)
        }));
        assert_eq!(level.tone_windows, 0, "{level:?}");
    }
}
