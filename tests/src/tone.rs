//! Tones: what goes into the browser's fake microphone, and finding it again in G.711.

use std::f64::consts::TAU;

/// Frequency of the fake microphone, Hz.
pub const MICROPHONE_HZ: f64 = 440.0;

/// A WAV file, 48 kHz mono, 4 s: the tone on for 300 ms and off for 200 ms, since noise suppression takes a steady
/// tone away.
pub fn wav() -> Vec<u8> {
    const RATE: u32 = 48_000;
    let samples = (0..RATE * 4).map(|index| {
        let on = index % (RATE / 2) < RATE * 3 / 10;
        let phase = TAU * MICROPHONE_HZ * f64::from(index) / f64::from(RATE);
        if on {
            (phase.sin() * 12_000.0) as i16
        } else {
            0
        }
    });
    let data: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
    let length = u32::try_from(data.len()).expect("a few seconds");
    let mut file = Vec::with_capacity(44 + data.len());
    file.extend(b"RIFF");
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend(1_u16.to_le_bytes()); // PCM
    file.extend(1_u16.to_le_bytes()); // mono
    file.extend(RATE.to_le_bytes());
    file.extend((RATE * 2).to_le_bytes());
    file.extend(2_u16.to_le_bytes());
    file.extend(16_u16.to_le_bytes());
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(data);
    file
}

/// ITU-T G.711 mu-law to linear.
pub fn mu_law(byte: u8) -> i16 {
    let value = !byte;
    let magnitude = ((i16::from(value & 0x0f) << 3) + 0x84) << ((value >> 4) & 7);
    if value & 0x80 == 0 {
        magnitude - 0x84
    } else {
        0x84 - magnitude
    }
}

/// ITU-T G.711 A-law to linear.
pub fn a_law(byte: u8) -> i16 {
    let value = byte ^ 0x55;
    let mantissa = (i16::from(value & 0x0f) << 4) + 8;
    let magnitude = match (value >> 4) & 7 {
        0 => mantissa,
        segment => (mantissa + 0x100) << (segment - 1),
    };
    if value & 0x80 == 0 {
        -magnitude
    } else {
        magnitude
    }
}

/// The share of the signal's energy that lies at a frequency, 0 to 1, in the loudest quarter of all 20 ms blocks. 8
/// kHz.
pub fn share(samples: &[i16], frequency: f64) -> f64 {
    let mut blocks: Vec<_> = samples
        .chunks_exact(160)
        .map(|block| (energy(block), block))
        .collect();
    blocks.sort_by(|left, right| right.0.total_cmp(&left.0));
    blocks.truncate((blocks.len() / 4).max(1));
    let total: f64 = blocks.iter().map(|(energy, _)| energy).sum();
    let at: f64 = blocks
        .iter()
        .map(|(_, block)| goertzel(block, frequency))
        .sum();
    if total < 1.0 { 0.0 } else { at / total }
}

fn energy(block: &[i16]) -> f64 {
    block.iter().map(|sample| f64::from(*sample).powi(2)).sum()
}

/// Energy of a block at one frequency, in the unit of [`energy`].
fn goertzel(block: &[i16], frequency: f64) -> f64 {
    let step = TAU * frequency / 8000.0;
    let (mut re, mut im) = (0.0, 0.0);
    for (index, sample) in (0_u32..).zip(block) {
        let phase = step * f64::from(index);
        re += f64::from(*sample) * phase.cos();
        im += f64::from(*sample) * phase.sin();
    }
    let count = f64::from(u32::try_from(block.len()).expect("a block is short"));
    2.0 * (re * re + im * im) / count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(frequency: f64) -> Vec<i16> {
        let sample =
            |index: u32| ((TAU * frequency * f64::from(index) / 8000.0).sin() * 10_000.0) as i16;
        (0..1600).map(sample).collect()
    }

    #[test]
    fn tells_one_tone_from_another() {
        assert!(share(&sine(440.0), 440.0) > 0.9);
        assert!(share(&sine(1000.0), 440.0) < 0.1);
        assert!(share(&[0; 1600], 440.0) < 0.1);
    }

    #[test]
    fn decodes_the_corners_of_g711() {
        assert_eq!(
            (mu_law(0xff), mu_law(0x7f), mu_law(0x80), mu_law(0x00)),
            (0, 0, 32_124, -32_124)
        );
        assert_eq!(
            (a_law(0xd5), a_law(0x55), a_law(0xaa), a_law(0x2a)),
            (8, -8, 32_256, -32_256)
        );
    }
}
