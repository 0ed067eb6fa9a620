//! The keys that a flow had before, and how far they were used: keys that come back go on there.
//!
//! A SIP side brings keys back where two phones of a forked call choose different lines of one offer (RFC 4568), or one of them none, and the
//! first, whose early media was left for the other's, picks up. Counted from zero again, the key would encrypt a second packet under an
//! index that it has used. Called by [`super::Flows`] when a flow is replaced.

use flow::{ActionSpec, FlowState};
use std::collections::VecDeque;

/// More than an offer has lines: keys of other offers never come back.
const MOST: usize = 8;

/// Of one flow, the newest last.
#[derive(Default)]
pub(super) struct FormerKeys {
    left: VecDeque<(ActionSpec, FlowState)>,
}

impl FormerKeys {
    /// Whether one of both has keys that the other has not.
    pub(super) fn differ(before: &ActionSpec, now: &ActionSpec) -> bool {
        now.new_keys(before).any() || before.new_keys(now).any()
    }

    /// The state to go on with under the keys of `now`, from `state` under those of `before`, which are kept.
    pub(super) fn change(
        &mut self,
        before: ActionSpec,
        now: &ActionSpec,
        state: &FlowState,
    ) -> FlowState {
        let new = now.new_keys(&before);
        let mut next = state.rekeyed(new);
        let mut newest_first = self.left.iter().rev();
        if new.leaving
            && let Some((_, former)) = newest_first
                .clone()
                .find(|(action, _)| now.has_leaving_keys_of(action))
        {
            next = next.with_leaving_of(former);
        }
        if new.arriving
            && let Some((_, former)) =
                newest_first.find(|(action, _)| now.has_arriving_keys_of(action))
        {
            next = next.with_arriving_of(former);
        }
        if self.left.len() == MOST {
            self.left.pop_front();
        }
        self.left.push_back((before, *state));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::userspace::{Forwarded, Userspace};
    use crate::datapath::{Carried, Datapath as _};
    use flow::{StreamSeed, StreamSource, Suite, Why};
    use gateway_core::gateway::FlowId;
    use std::time::Instant;
    use testbed::oracle::Keys;
    use testbed::packet::Rtp;
    use testbed::table;

    /// One phone's early media, another one's under other keys or none, and the first one's again.
    #[test]
    fn no_index_is_used_twice_where_keys_come_back() {
        let keys = [1, 2, 3, 4].map(|number| Keys::new(Suite::AesCm128HmacSha1_80, number));
        let [from, to, other_from, other_to] = &keys;
        let (first, other) = (Some((from, to)), Some((other_from, other_to)));
        for between in [other, None] {
            let mut call = Talk::new(first);
            assert_eq!(call.send(20_001), 20_001);
            call.change(between);
            assert_eq!(call.send(20_002), 20_002);
            assert_eq!(call.send(20_003), 20_003);
            call.change(first);
            // The next index of these keys, not the next number of the packets.
            assert_eq!(call.send(20_004), 20_002);
            assert_eq!(call.refusal(20_001), Some(Why::Replayed));
            call.change(between);
            assert_eq!(call.refusal(20_003), between.map(|_| Why::Replayed));
        }
    }

    #[test]
    fn keys_of_long_ago_are_forgotten_one_by_one() {
        let keys: Vec<_> = (0..12)
            .map(|number| Keys::new(Suite::AesCm128HmacSha1_80, number))
            .collect();
        let mut call = Talk::new(Some((&keys[0], &keys[1])));
        for pair in keys.windows(2).skip(1) {
            call.change(Some((&pair[0], &pair[1])));
        }
        assert_eq!(call.former.left.len(), MOST);
    }

    /// Keys of what arrives and what leaves; none = plain.
    type Pair<'a> = Option<(&'a Keys, &'a Keys)>;

    struct Talk<'a> {
        datapath: Userspace,
        spec: flow::FlowSpec,
        keys: Pair<'a>,
        former: FormerKeys,
        ssrc_in: u32,
    }

    impl<'a> Talk<'a> {
        fn new(keys: Pair<'a>) -> Self {
            let mut spec = table::stream_to_encrypt(1).spec;
            spec.action = action(keys);
            let stream = spec.streams[0].expect("the row has one");
            let StreamSource::Signalled(ssrc_in) = stream.source else {
                panic!("the row's SSRC is signalled");
            };
            let mut carried = Carried::default();
            let seed = StreamSeed {
                ssrc_in,
                received: Some(20_000),
                sent: Some(20_000),
                ..StreamSeed::default()
            };
            carried.state.seed(0, &seed);
            let mut datapath = Userspace::new(1);
            let installed = datapath.install(FlowId(1), &spec, &carried, Instant::now());
            assert!(installed.is_ok());
            Self {
                datapath,
                spec,
                keys,
                former: FormerKeys::default(),
                ssrc_in,
            }
        }

        fn change(&mut self, keys: Pair<'a>) {
            let before = std::mem::replace(&mut self.spec.action, action(keys));
            assert!(FormerKeys::differ(&before, &self.spec.action));
            self.keys = keys;
            let updated = self.datapath.update(FlowId(1), &self.spec, Instant::now());
            assert!(updated.is_ok());
            let (former, now) = (&mut self.former, &self.spec.action);
            self.datapath
                .rekey(FlowId(1), |state| former.change(before, now, state));
        }

        fn forward(&mut self, sequence: u16) -> Result<Vec<u8>, Why> {
            let arriving = Rtp::new(self.ssrc_in, sequence, 160).bytes();
            let packet = match self.keys {
                Some((from, _)) => from.protect(&arriving, 0),
                None => arriving,
            };
            match self.datapath.forward(&self.spec.key, &packet, 1000) {
                Forwarded::Send { bytes, .. } => Ok(bytes.to_vec()),
                Forwarded::Refused(why) => Err(why),
                Forwarded::NoFlow => panic!("no flow"),
            }
        }

        /// The sequence number that the packet leaves with, all of it checked.
        fn send(&mut self, sequence: u16) -> u16 {
            let bytes = self.forward(sequence).expect("it is forwarded");
            let stream = self.spec.streams[0].expect("the row has one");
            let sent = u16::from_be_bytes([bytes[2], bytes[3]]);
            let leaving = Rtp {
                ssrc: stream.ssrc_out,
                sequence: sent,
                ..Rtp::new(self.ssrc_in, sequence, 160)
            };
            let expected = match self.keys {
                Some((_, to)) => to.protect(&leaving.bytes(), 0),
                None => leaving.bytes(),
            };
            assert_eq!(bytes, expected, "{sequence}");
            sent
        }

        fn refusal(&mut self, sequence: u16) -> Option<Why> {
            self.forward(sequence).err()
        }
    }

    fn action(keys: Pair<'_>) -> ActionSpec {
        match keys {
            Some((from, to)) => ActionSpec::Transcrypt {
                unprotect: from.expanded(),
                protect: to.expanded(),
            },
            None => ActionSpec::Relay,
        }
    }
}
