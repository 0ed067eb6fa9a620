//! SRTP by the CPU's own instructions (AES, SHA, carry-less multiplication) where it has them: for the packets that sockets carry.
//!
//! Bytes in, bytes out, and nothing of indices or replay: that is the packet path's, which is the same as in the kernel
//! (`flow::Crypto`). The crates find out once per process what the CPU has; without it they compute in constant time.

use crate::datapath::block_cipher::{Block, BlockCipher};
use aes::cipher::KeyInit;
use aes::cipher::consts::U64;
use aes::cipher::generic_array::GenericArray;
use aes_gcm::aead::AeadInPlace;
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use flow::{ActionSpec, Crypto, Flow, Portable, Scratch, SrtpKeys, SrtpPacket, Suite, Why};
use zeroize::Zeroize;

/// Counter blocks made at once.
const BLOCKS: usize = 8;

/// Keys of one direction, for one suite; zeroed on drop.
enum Srtp {
    CounterMode(Box<CounterMode>),
    Gcm128(Box<Aes128Gcm>, [u8; 12]),
    Gcm256(Box<Aes256Gcm>, [u8; 12]),
}

/// AES-CM with HMAC-SHA1 (RFC 3711).
struct CounterMode {
    key: BlockCipher,
    /// salt * 2^16.
    salt: u128,
    /// HMAC-SHA1 after the padded key.
    inner: [u32; 5],
    outer: [u32; 5],
    tag_bytes: usize,
}

/// The keys of a flow, by side; the host's part of the packet path.
pub(super) struct Host {
    arriving: Option<Srtp>,
    leaving: Option<Srtp>,
}

impl Host {
    pub(super) fn new(action: &ActionSpec) -> Self {
        let (arriving, leaving) = match action {
            ActionSpec::Relay => (None, None),
            ActionSpec::Unprotect(keys) => (Some(keys), None),
            ActionSpec::Protect(keys) => (None, Some(keys)),
            ActionSpec::Transcrypt { unprotect, protect } => (Some(unprotect), Some(protect)),
        };
        Self {
            arriving: arriving.map(Srtp::new),
            leaving: leaving.map(Srtp::new),
        }
    }
}

impl Crypto for &Host {
    fn open(&mut self, flow: &mut Flow<'_>, scratch: &mut Scratch) -> Result<(), Why> {
        match &self.arriving {
            Some(srtp) if srtp.open(&mut scratch.srtp()) => Ok(()),
            Some(_) => Err(Why::AuthFailed),
            None => Portable.open(flow, scratch),
        }
    }

    fn seal(&mut self, flow: &mut Flow<'_>, scratch: &mut Scratch) {
        match &self.leaving {
            Some(srtp) => {
                let tag_bytes = srtp.seal(&mut scratch.srtp());
                scratch.add_tag(tag_bytes);
            }
            None => Portable.seal(flow, scratch),
        }
    }
}

fn ssrc(packet: &SrtpPacket<'_>) -> [u8; 4] {
    let [.., a, b, c, d] = *packet.buffer.first_chunk::<12>().expect("an RTP header");
    [a, b, c, d]
}

impl Srtp {
    fn new(keys: &SrtpKeys) -> Self {
        let (suite, session) = (keys.suite(), keys.session());
        let short: &[u8; 16] = session.cipher.first_chunk().expect("16 of 32 bytes");
        let long = &session.cipher;
        let nonce: [u8; 12] = *session.salt.first_chunk().expect("12 of 14 bytes");
        match suite {
            Suite::AeadAes128Gcm => Self::Gcm128(Box::new(Aes128Gcm::new(short.into())), nonce),
            Suite::AeadAes256Gcm => Self::Gcm256(Box::new(Aes256Gcm::new(long.into())), nonce),
            _ => {
                let mut salt = [0; 16];
                salt[..14].copy_from_slice(&session.salt);
                Self::CounterMode(Box::new(CounterMode {
                    key: BlockCipher::new(keys),
                    salt: u128::from_be_bytes(salt),
                    inner: padded(&session.auth, 0x36),
                    outer: padded(&session.auth, 0x5c),
                    tag_bytes: suite.tag_bytes(),
                }))
            }
        }
    }

    /// Authenticates, in constant time, and decrypts; `false` if the tag is wrong, and then the payload is of no meaning.
    fn open(&self, packet: &mut SrtpPacket<'_>) -> bool {
        let nonce = |salt| nonce(salt, ssrc(packet), packet.index);
        match self {
            Self::CounterMode(keys) => keys.open(packet),
            Self::Gcm128(key, salt) => open_gcm(&**key, nonce(salt), packet),
            Self::Gcm256(key, salt) => open_gcm(&**key, nonce(salt), packet),
        }
    }

    /// Encrypts, and puts the tag behind the packet; the tag's length.
    fn seal(&self, packet: &mut SrtpPacket<'_>) -> usize {
        let nonce = |salt| nonce(salt, ssrc(packet), packet.index);
        match self {
            Self::CounterMode(keys) => keys.seal(packet),
            Self::Gcm128(key, salt) => seal_gcm(&**key, nonce(salt), packet),
            Self::Gcm256(key, salt) => seal_gcm(&**key, nonce(salt), packet),
        }
    }
}

/// 00 00 || SSRC || ROC || SEQ, and the salt (RFC 7714 section 8.1).
fn nonce(salt: &[u8; 12], ssrc: [u8; 4], index: u64) -> [u8; 12] {
    let mut nonce = *salt;
    let index = index.to_be_bytes();
    let rest = ssrc.iter().chain(&index[2..]);
    for (byte, add) in nonce[2..].iter_mut().zip(rest) {
        *byte ^= add;
    }
    nonce
}

fn open_gcm<A: AeadInPlace>(key: &A, nonce: [u8; 12], packet: &mut SrtpPacket<'_>) -> bool {
    let (message, behind) = packet.buffer.split_at_mut(packet.bytes);
    let (header, payload) = message.split_at_mut(packet.header_bytes);
    let (nonce, tag) = (
        GenericArray::from_slice(&nonce),
        GenericArray::from_slice(&behind[..16]),
    );
    key.decrypt_in_place_detached(nonce, header, payload, tag)
        .is_ok()
}

fn seal_gcm<A: AeadInPlace>(key: &A, nonce: [u8; 12], packet: &mut SrtpPacket<'_>) -> usize {
    let (message, behind) = packet.buffer.split_at_mut(packet.bytes);
    let (header, payload) = message.split_at_mut(packet.header_bytes);
    let nonce = GenericArray::from_slice(&nonce);
    let tag = key
        .encrypt_in_place_detached(nonce, header, payload)
        .expect("a packet is far shorter than AES-GCM allows");
    behind[..16].copy_from_slice(&tag);
    16
}

impl CounterMode {
    fn open(&self, packet: &mut SrtpPacket<'_>) -> bool {
        let mut arrived = [0; 20];
        let behind = packet.bytes..packet.bytes + self.tag_bytes;
        arrived[..self.tag_bytes].copy_from_slice(&packet.buffer[behind.clone()]);
        let tag = self.authenticate(packet);
        let pairs = arrived.iter().zip(&tag).take(self.tag_bytes);
        let difference = pairs.fold(0, |difference, (a, b)| difference | (a ^ b));
        if std::hint::black_box(difference) != 0 {
            // The packet may be tried again, under another index.
            packet.buffer[behind].copy_from_slice(&arrived[..self.tag_bytes]);
            return false;
        }
        self.crypt(packet);
        true
    }

    fn seal(&self, packet: &mut SrtpPacket<'_>) -> usize {
        self.crypt(packet);
        let tag = self.authenticate(packet);
        packet.buffer[packet.bytes..][..self.tag_bytes].copy_from_slice(&tag[..self.tag_bytes]);
        self.tag_bytes
    }

    /// Adds the keystream (RFC 3711 section 4.1.1).
    fn crypt(&self, packet: &mut SrtpPacket<'_>) {
        let ssrc = u128::from(u32::from_be_bytes(ssrc(packet)));
        let mut counter = self.salt ^ (ssrc << 64) ^ (u128::from(packet.index) << 16);
        let mut blocks = [Block::default(); BLOCKS];
        for part in packet.buffer[packet.header_bytes..packet.bytes].chunks_mut(16 * BLOCKS) {
            let blocks = &mut blocks[..part.len().div_ceil(16)];
            for block in blocks.iter_mut() {
                *block = counter.to_be_bytes().into();
                counter += 1;
            }
            self.key.encrypt(blocks);
            for (bytes, block) in part.chunks_mut(16).zip(blocks) {
                for (byte, add) in bytes.iter_mut().zip(block) {
                    *byte ^= *add;
                }
            }
        }
    }

    /// HMAC-SHA1 over packet and rollover counter (RFC 3711 section 4.2), overwriting what stands behind the packet.
    fn authenticate(&self, packet: &mut SrtpPacket<'_>) -> [u8; 20] {
        let end = packet.bytes;
        let rollovers = (packet.index >> 16) as u32;
        let whole = (end + 4 + 9).next_multiple_of(64);
        let bits = 8 * (64 + end as u64 + 4);
        let (_, behind) = packet.buffer.split_at_mut(end);
        let behind = &mut behind[..whole - end];
        behind.fill(0);
        behind[..4].copy_from_slice(&rollovers.to_be_bytes());
        behind[4] = 0x80;
        let length = behind.len() - 8;
        behind[length..].copy_from_slice(&bits.to_be_bytes());
        let mut state = self.inner;
        for block in packet.buffer[..whole].chunks_exact(64) {
            compress(&mut state, block);
        }
        let mut last = [0; 64];
        for (bytes, word) in last.chunks_exact_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        last[20] = 0x80;
        last[56..].copy_from_slice(&(8_u64 * (64 + 20)).to_be_bytes());
        let mut state = self.outer;
        compress(&mut state, &last);
        let mut tag = [0; 20];
        for (bytes, word) in tag.chunks_exact_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        tag
    }
}

impl Drop for CounterMode {
    fn drop(&mut self) {
        self.salt.zeroize();
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

/// SHA-1 after the key's block, each byte of it changed by `pad` (RFC 2104).
fn padded(key: &[u8; 20], pad: u8) -> [u32; 5] {
    let mut block = [pad; 64];
    for (byte, key) in block.iter_mut().zip(key) {
        *byte ^= key;
    }
    let mut state = [
        0x6745_2301,
        0xefcd_ab89,
        0x98ba_dcfe,
        0x1032_5476,
        0xc3d2_e1f0,
    ];
    compress(&mut state, &block);
    block.zeroize();
    state
}

fn compress(state: &mut [u32; 5], block: &[u8]) {
    let block: &GenericArray<u8, U64> = GenericArray::from_slice(block);
    sha1::compress(state, std::slice::from_ref(block));
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::SessionKey;

    fn keys(suite: Suite) -> SrtpKeys {
        let session = SessionKey {
            cipher: std::array::from_fn(|place| 7 * place as u8 + 1),
            auth: [0x22; 20],
            salt: std::array::from_fn(|place| 0x80 ^ (13 * place as u8)),
        };
        SrtpKeys::new(suite, &session)
    }

    fn packet(buffer: &mut [u8], bytes: usize) -> SrtpPacket<'_> {
        SrtpPacket {
            buffer,
            header_bytes: 12,
            bytes,
            index: 0x0102_0304_0506,
        }
    }

    #[test]
    fn what_is_sealed_is_opened_and_nothing_else() {
        for suite in Suite::ALL {
            let srtp = Srtp::new(&keys(suite));
            for payload in [0, 1, 15, 16, 33, 160, 1100, 1400] {
                let bytes = 12 + payload;
                let mut buffer = vec![0x5a; bytes + 16 + 96];
                let plain = buffer[..bytes].to_vec();
                let tag = srtp.seal(&mut packet(&mut buffer, bytes));
                assert_eq!(tag, suite.tag_bytes());
                assert_eq!(buffer[..12], plain[..12]);
                for damaged in [0, bytes - 1, bytes, bytes + tag - 1] {
                    let mut copy = buffer.clone();
                    copy[damaged] ^= 1;
                    assert!(
                        !srtp.open(&mut packet(&mut copy, bytes)),
                        "{} {damaged}",
                        suite.name()
                    );
                }
                assert!(
                    srtp.open(&mut packet(&mut buffer, bytes)),
                    "{}",
                    suite.name()
                );
                assert_eq!(buffer[..bytes], plain, "{}", suite.name());
            }
        }
    }
}
