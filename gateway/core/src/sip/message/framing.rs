//! Cuts a TCP byte stream into messages by Content-Length (RFC 3261 section 18.3), with bounded memory.

use super::parse::{Limits, content_length, head_end};

/// Why a connection must be closed: its framing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// No end of the head within the limit.
    #[error("head too large")]
    HeadTooLarge,
    /// Content-Length is missing, twice different, or not a number.
    #[error("no usable Content-Length")]
    BadLength,
    /// Head and body together are over the limit.
    #[error("message too large")]
    TooLarge,
}

/// The unread bytes of one connection.
#[derive(Debug, Default)]
pub struct Framing {
    buffer: Vec<u8>,
    /// How far the buffer was searched for the end of the head.
    searched: usize,
}

/// One thing found in the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole message.
    Message(Vec<u8>),
    /// A double CRLF between messages: the ping of RFC 5626 section 3.5.1, to be answered with one CRLF.
    Ping,
}

impl Framing {
    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` until more bytes come. After an error the head, if there is one, is returned by
    /// [`rest`](Self::rest) for the error response.
    pub fn next_frame(&mut self, limits: &Limits) -> Result<Option<Frame>, FramingError> {
        loop {
            match self.buffer.as_slice() {
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    self.consume(4);
                    return Ok(Some(Frame::Ping));
                }
                // Possibly the first half of a ping: wait, unless a message follows.
                [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] | [] => return Ok(None),
                [b'\r', b'\n', ..] => self.consume(2),
                [b'\n', ..] => self.consume(1),
                _ => break,
            }
        }
        let Some(head) = head_end(&self.buffer, self.searched) else {
            self.searched = self.buffer.len().saturating_sub(3);
            let over = self.buffer.len() > limits.max_message_bytes;
            return if over {
                Err(FramingError::HeadTooLarge)
            } else {
                Ok(None)
            };
        };
        self.searched = head.saturating_sub(4);
        let length = content_length(&self.buffer[..head])
            .ok()
            .flatten()
            .ok_or(FramingError::BadLength)?;
        let total = head
            .checked_add(length)
            .filter(|total| *total <= limits.max_message_bytes);
        let total = total.ok_or(FramingError::TooLarge)?;
        if self.buffer.len() < total {
            return Ok(None);
        }
        let message = self.buffer[..total].to_vec();
        self.consume(total);
        Ok(Some(Frame::Message(message)))
    }

    /// A single CRLF is taken as the answer to a ping of ours (RFC 5626 section 3.5.1), not as half a ping.
    pub fn take_pong(&mut self) {
        if self.buffer == b"\r\n" {
            self.consume(2);
        }
    }

    /// What is buffered.
    pub fn rest(&self) -> &[u8] {
        &self.buffer
    }

    fn consume(&mut self, count: usize) {
        self.buffer.drain(..count);
        self.searched = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nl: 3\r\n\r\nabc";

    #[test]
    fn messages_come_out_whole_however_the_bytes_are_cut() {
        let stream = [ONE, b"\r\n\r\n", ONE, b"\r\n", ONE].concat();
        for size in 1..stream.len() {
            let mut framing = Framing::default();
            let mut frames = Vec::new();
            for chunk in stream.chunks(size) {
                framing.push(chunk);
                while let Some(frame) = framing.next_frame(&Limits::default()).unwrap() {
                    frames.push(frame);
                }
            }
            let message = || Frame::Message(ONE.to_vec());
            assert_eq!(
                frames,
                [message(), Frame::Ping, message(), message()],
                "cut at {size}"
            );
        }
    }

    #[test]
    fn lost_framing_is_an_error_and_memory_stays_bounded() {
        let limits = Limits {
            max_message_bytes: 100,
            ..Limits::default()
        };
        let rows: [(&[u8], FramingError); 5] = [
            (b"INVITE sip:a SIP/2.0\r\n\r\n", FramingError::BadLength),
            (
                b"INVITE sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n",
                FramingError::BadLength,
            ),
            (
                b"INVITE sip:a SIP/2.0\r\nl: 1\r\nContent-Length: 2\r\n\r\n",
                FramingError::BadLength,
            ),
            (
                b"INVITE sip:a SIP/2.0\r\nl: 18446744073709551615\r\n\r\n",
                FramingError::TooLarge,
            ),
            (&[b'x'; 101], FramingError::HeadTooLarge),
        ];
        for (bytes, error) in rows {
            let mut framing = Framing::default();
            framing.push(bytes);
            assert_eq!(framing.next_frame(&limits), Err(error));
        }
    }
}
