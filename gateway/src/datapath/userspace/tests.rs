//! The packet table through the userspace datapath: what the CPU's instructions make of each row is what the packet path's own code does.

use super::*;
use flow::{ActionSpec, FlowStats, StreamSeed, StreamSource, Suite};
use testbed::oracle::Keys;
use testbed::packet::Rtp;
use testbed::table;

#[test]
fn every_row_by_the_cpus_instructions() {
    let mut packets = 0;
    for case in table::cases() {
        let mut datapath = Userspace::new(1);
        let carried = Carried {
            state: case.state,
            stats: FlowStats::new(),
        };
        if let Err(refusal) = datapath.install(FlowId(1), &case.spec, &carried, Instant::now()) {
            panic!("{}: {}", case.name, refusal.reason());
        }
        let expected = case.run_in_userspace();
        for (number, (step, expected)) in (1..).zip(case.steps.iter().zip(expected)) {
            let (Some(payload), Some(expected)) = (&step.payload, expected) else {
                continue;
            };
            // Refused before any state; sockets have no such limit, the kernel fragments.
            if expected == Err(Why::TooLong) {
                continue;
            }
            let got = match datapath.forward(&case.spec.key, payload, number * 1000) {
                Forwarded::Send { bytes, .. } => Ok(bytes.to_vec()),
                Forwarded::Refused(why) => Err(why),
                Forwarded::NoFlow => panic!("{}: no flow", case.name),
            };
            assert_eq!(got, expected, "{}: packet {number}", case.name);
            packets += 1;
        }
    }
    assert!(packets > 100, "only {packets} packets");
}

/// A call of more than a round of sequence numbers gets new keys on one side, then on the other: there indices start at rollover
/// counter zero, on the other side nothing changes.
#[test]
fn new_keys_count_from_zero_on_their_side() {
    let keys = [1, 2, 3, 4].map(|number| Keys::new(Suite::AeadAes128Gcm, number));
    let [from, to, next_from, next_to] = &keys;
    let action = |from: &Keys, to: &Keys| ActionSpec::Transcrypt {
        unprotect: from.expanded(),
        protect: to.expanded(),
    };
    let mut spec = table::stream_to_encrypt(1).spec;
    spec.action = action(from, to);
    let stream = spec.streams[0].expect("the row has one");
    let StreamSource::Signalled(ssrc_in) = stream.source else {
        panic!("the row's SSRC is signalled");
    };
    let mut carried = Carried::default();
    let seed = StreamSeed {
        ssrc_in,
        received: Some((1 << 16) | 40_000),
        sent: Some((2 << 16) | 40_000),
        ..StreamSeed::default()
    };
    carried.state.seed(0, &seed);
    let (id, now) = (FlowId(1), Instant::now());
    let mut datapath = Userspace::new(1);
    assert!(datapath.install(id, &spec, &carried, now).is_ok());
    for (sequence, (from, received), (to, sent), out) in [
        (40_001, (from, 1), (to, 2), 40_001),
        (40_002, (next_from, 0), (to, 2), 40_002),
        (40_003, (next_from, 0), (next_to, 0), 40_003 - 0x8000),
        (40_004, (next_from, 0), (next_to, 0), 40_004 - 0x8000),
    ] {
        let next = action(from, to);
        let new = next.new_keys(&spec.action);
        spec.action = next;
        assert!(datapath.update(id, &spec, now).is_ok());
        datapath.rekey(id, |state| state.rekeyed(new));
        let arriving = Rtp::new(ssrc_in, sequence, 160);
        let leaving = Rtp {
            ssrc: stream.ssrc_out,
            sequence: out,
            ..arriving.clone()
        };
        let packet = from.protect(&arriving.bytes(), received);
        let Forwarded::Send { bytes, .. } = datapath.forward(&spec.key, &packet, 1000) else {
            panic!("packet {sequence} is not forwarded");
        };
        assert_eq!(bytes, to.protect(&leaving.bytes(), sent), "{sequence}");
    }
}
