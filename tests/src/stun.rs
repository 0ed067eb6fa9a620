//! Connectivity checks (RFC 8445) by hand: what a browser sends, and what somebody sends who does not know the password.

use hmac::{Hmac, Mac as _};
use sha1::Sha1;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802a;

/// A nominating check for `username` (receiver's user fragment, colon, sender's) under a password.
pub fn check(username: &str, password: &[u8], transaction: [u8; 12]) -> Vec<u8> {
    let mut out = vec![0, 1, 0, 0];
    out.extend(COOKIE);
    out.extend(transaction);
    put(&mut out, USERNAME, username.as_bytes());
    put(&mut out, PRIORITY, &0x6eff_ffff_u32.to_be_bytes());
    put(&mut out, ICE_CONTROLLING, &[7; 8]);
    put(&mut out, USE_CANDIDATE, &[]);
    // Each of the two covers the length up to its own end (RFC 8489 sections 14.5 and 14.7).
    set_length(&mut out, 24);
    let mut mac = Hmac::<Sha1>::new_from_slice(password).expect("HMAC takes keys of any length");
    mac.update(&out);
    put(&mut out, MESSAGE_INTEGRITY, &mac.finalize().into_bytes());
    set_length(&mut out, 8);
    let fingerprint = crc32(&out) ^ 0x5354_554e;
    put(&mut out, FINGERPRINT, &fingerprint.to_be_bytes());
    out
}

/// Whether a datagram is the success response to a transaction.
pub fn is_answer(bytes: &[u8], transaction: [u8; 12]) -> bool {
    bytes.starts_with(&[1, 1]) && bytes.get(8..20) == Some(&transaction)
}

fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend(kind.to_be_bytes());
    out.extend((value.len() as u16).to_be_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The length of the message with so many bytes more.
fn set_length(out: &mut [u8], more: usize) {
    let length = (out.len() - 20 + more) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
}

/// The CRC of ITU-T V.42, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_has_its_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
