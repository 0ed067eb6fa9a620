//! A sine tone, continuous over any cut into packets.

use super::SAMPLE_HZ;

/// A generator of samples.
#[derive(Clone, Debug)]
pub struct Tone {
    step: f64,
    phase: f64,
    amplitude: f64,
}

impl Tone {
    /// A tone of a frequency at a level in dB below full scale (negative).
    pub fn new(frequency_hz: f64, level_dbfs: f64) -> Self {
        Self {
            step: std::f64::consts::TAU * frequency_hz / f64::from(SAMPLE_HZ),
            phase: 0.0,
            // The level of a sine is that of its effective value.
            amplitude: f64::from(i16::MAX)
                * std::f64::consts::SQRT_2
                * 10f64.powf(level_dbfs / 20.0),
        }
    }

    /// The next sample.
    pub fn sample(&mut self) -> i16 {
        let sample = self.amplitude * self.phase.sin();
        self.phase = (self.phase + self.step) % std::f64::consts::TAU;
        // `as` saturates.
        sample.round() as i16
    }
}
