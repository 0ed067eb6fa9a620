//! G.711: mu-law and A-law (ITU-T G.711), as in RTP payload types 0 and 8 (RFC 3551 section 4.5.14).

/// One of the two companding laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum G711 {
    /// PCMU, payload type 0.
    MuLaw,
    /// PCMA, payload type 8.
    ALaw,
}

/// Added to the magnitude of mu-law before its segment is looked for, in 16 bit samples.
const MU_BIAS: i32 = 0x84;
/// Largest magnitude that mu-law can hold after the bias.
const MU_CLIP: i32 = 0x7fff - MU_BIAS;

const MU_DECODED: [i16; 256] = table(G711::MuLaw);
const A_DECODED: [i16; 256] = table(G711::ALaw);

impl G711 {
    /// The encoding's name in SDP.
    pub fn name(self) -> &'static str {
        match self {
            Self::MuLaw => "PCMU",
            Self::ALaw => "PCMA",
        }
    }

    /// The law of an encoding's name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::MuLaw, Self::ALaw]
            .into_iter()
            .find(|law| law.name().eq_ignore_ascii_case(name))
    }

    /// The static payload type.
    pub fn payload_type(self) -> u8 {
        match self {
            Self::MuLaw => 0,
            Self::ALaw => 8,
        }
    }

    /// One sample from its byte.
    pub fn decode(self, byte: u8) -> i16 {
        match self {
            Self::MuLaw => MU_DECODED[usize::from(byte)],
            Self::ALaw => A_DECODED[usize::from(byte)],
        }
    }

    /// One sample to its byte.
    pub fn encode(self, sample: i16) -> u8 {
        match self {
            Self::MuLaw => encode_mu(sample),
            Self::ALaw => encode_a(sample),
        }
    }
}

fn encode_mu(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(MU_CLIP) + MU_BIAS;
    // The highest bit of the biased magnitude is bit 7 in segment 0 and bit 14 in segment 7.
    let segment = magnitude.ilog2() as i32 - 7;
    let step = (magnitude >> (segment + 3)) & 0x0f;
    !(sign | (segment << 4) | step) as u8
}

fn encode_a(sample: i16) -> u8 {
    // A-law has 13 bits; negative samples are mirrored so that -1 belongs to the smallest step, as in the standard's tables.
    let sample = i32::from(sample) >> 3;
    let (sign, magnitude) = if sample >= 0 {
        (0x80, sample)
    } else {
        (0, -sample - 1)
    };
    let (segment, step) = if magnitude < 32 {
        (0, magnitude >> 1)
    } else {
        let segment = magnitude.ilog2() as i32 - 4;
        (segment, (magnitude >> segment) & 0x0f)
    };
    // Even bits are inverted on the line.
    ((sign | (segment << 4) | step) ^ 0x55) as u8
}

const fn table(law: G711) -> [i16; 256] {
    let mut decoded = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        decoded[byte] = match law {
            G711::MuLaw => decode_mu(byte as i32),
            G711::ALaw => decode_a(byte as i32),
        };
        byte += 1;
    }
    decoded
}

const fn decode_mu(byte: i32) -> i16 {
    let code = !byte & 0xff;
    let segment = (code >> 4) & 7;
    let magnitude = ((((code & 0x0f) << 3) + MU_BIAS) << segment) - MU_BIAS;
    (if code & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }) as i16
}

const fn decode_a(byte: i32) -> i16 {
    let code = byte ^ 0x55;
    let segment = (code >> 4) & 7;
    let step = ((code & 0x0f) << 4) + 8;
    let magnitude = if segment == 0 {
        step
    } else {
        (step + 0x100) << (segment - 1)
    };
    (if code & 0x80 != 0 {
        magnitude
    } else {
        -magnitude
    }) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_come_out() {
        let mu = [
            (0x00, -32124),
            (0x80, 32124),
            (0x7f, 0),
            (0xff, 0),
            (0xf0, 120),
            (0x70, -120),
            (0xef, 132),
        ];
        for (byte, sample) in mu {
            assert_eq!(G711::MuLaw.decode(byte), sample, "mu-law {byte:#04x}");
        }
        let a = [
            (0xd5, 8),
            (0x55, -8),
            (0xaa, 32256),
            (0x2a, -32256),
            (0xc5, 264),
        ];
        for (byte, sample) in a {
            assert_eq!(G711::ALaw.decode(byte), sample, "A-law {byte:#04x}");
        }
    }

    #[test]
    fn every_byte_survives_decoding_and_encoding() {
        for byte in 0..=255 {
            assert_eq!(G711::ALaw.encode(G711::ALaw.decode(byte)), byte);
            // Mu-law has two zeros, of which the positive one is sent.
            let expected = if byte == 0x7f { 0xff } else { byte };
            assert_eq!(G711::MuLaw.encode(G711::MuLaw.decode(byte)), expected);
        }
    }

    #[test]
    fn every_sample_comes_back_within_its_step() {
        for law in [G711::MuLaw, G711::ALaw] {
            for sample in i16::MIN..=i16::MAX {
                let back = i32::from(law.decode(law.encode(sample)));
                let error = (back - i32::from(sample)).abs();
                // Half a step is 1/33 of the magnitude at most; the ends clip.
                let allowed = i32::from(sample).abs() / 30 + 16;
                assert!(error <= allowed, "{law:?} {sample} came back as {back}");
            }
        }
    }
}
