//! The bounded way from the media thread to the event loop.
//!
//! Datagrams may be lost when the event loop is behind (they are lost on the wire, too); answers and path changes may not: a part
//! of the channel is reserved for them, and what does not fit there waits in the thread.

use super::MediaEvent;
use std::collections::VecDeque;
use tokio::sync::mpsc::{self, error::TrySendError};

/// Events that may wait for the event loop.
const CAPACITY: usize = 4096;
/// Of these, places that datagrams leave free.
const RESERVED: usize = 1024;

/// The sending end, owned by a media thread.
pub(super) struct Events {
    sender: mpsc::Sender<MediaEvent>,
    waiting: VecDeque<MediaEvent>,
}

/// Both ends.
pub(super) fn channel() -> (Events, mpsc::Receiver<MediaEvent>) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let waiting = VecDeque::new();
    (Events { sender, waiting }, receiver)
}

/// Tells the event loop that a thread has ended, unless it was meant to: nothing would be forwarded any more.
pub(super) struct Alarm(Option<mpsc::Sender<MediaEvent>>);

impl Alarm {
    /// The thread ends as it should.
    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            // Fails only when nobody is left to tell.
            let _ = sender.blocking_send(MediaEvent::Gone);
        }
    }
}

impl Events {
    /// To be dropped when the thread ends.
    pub(super) fn alarm(&self) -> Alarm {
        Alarm(Some(self.sender.clone()))
    }

    /// Another way to the same event loop, for another thread.
    pub(super) fn another(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            waiting: VecDeque::new(),
        }
    }

    /// Whether a datagram would be taken now: asked before its bytes are copied.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.sender.capacity() > RESERVED
    }

    /// Sends an event, or keeps it until there is room. One answer for each command waits at most.
    pub(super) fn send(&mut self, event: MediaEvent) {
        self.waiting.push_back(event);
        self.flush();
    }

    /// Whether events wait, so that [`Self::flush`] has to be called again soon.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            match self.sender.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    return;
                }
                // The daemon is going down: nobody is left to tell.
                Err(TrySendError::Closed(_)) => self.waiting.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::FlowSnapshot;
    use gateway_core::gateway::FlowId;

    fn counters(flow: u64) -> MediaEvent {
        MediaEvent::FlowCounters {
            flow: FlowId(flow),
            snapshot: Some(FlowSnapshot::default()),
            monotonic_ns: 0,
        }
    }

    #[test]
    fn answers_pass_when_datagrams_no_longer_do_and_keep_their_order() {
        let (mut events, mut receiver) = channel();
        let mut taken = 0;
        while events.has_room() {
            events.send(counters(taken));
            taken += 1;
        }
        assert_eq!(taken as usize, CAPACITY - RESERVED);
        for flow in taken..CAPACITY as u64 + 10 {
            events.send(counters(flow));
        }
        assert!(events.is_waiting());
        for expected in 0..CAPACITY as u64 + 10 {
            events.flush();
            let Ok(MediaEvent::FlowCounters { flow, .. }) = receiver.try_recv() else {
                panic!("event {expected} is missing");
            };
            assert_eq!(flow, FlowId(expected));
        }
        assert!(!events.is_waiting() && events.has_room());
    }
}
