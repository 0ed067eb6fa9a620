//! AES of either key length by the CPU's own instructions, where it has them: for keystream made ahead of time and for packets that
//! sockets carry.

use aes::cipher::{BlockEncrypt, KeyInit};
use aes::{Aes128Enc, Aes256Enc};
use flow::SrtpKeys;

pub(crate) use aes::Block;

/// The expanded cipher key of one direction; zeroed on drop.
pub(crate) struct BlockCipher(Key);

enum Key {
    Short(Box<Aes128Enc>),
    Long(Box<Aes256Enc>),
}

impl BlockCipher {
    pub(crate) fn new(keys: &SrtpKeys) -> Self {
        let long = &keys.session().cipher;
        Self(match (keys.suite().key_bytes(), long.first_chunk::<16>()) {
            (16, Some(short)) => Key::Short(Box::new(Aes128Enc::new(short.into()))),
            _ => Key::Long(Box::new(Aes256Enc::new(long.into()))),
        })
    }

    /// Encrypts each block; several at a time.
    pub(crate) fn encrypt(&self, blocks: &mut [Block]) {
        match &self.0 {
            Key::Short(key) => key.encrypt_blocks(blocks),
            Key::Long(key) => key.encrypt_blocks(blocks),
        }
    }
}
