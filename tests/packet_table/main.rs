//! The packet table on the host: through `flow::forward` on frames and through
//! `flow::forward_payload` on datagrams.

use std::collections::BTreeSet;

use flow::{ActionSpec, Outcome, Verdict, Why};
use testbed::corpus;
use testbed::packet::internet_checksum;
use testbed::table::{self, OnHost, Ran, digit};

#[test]
fn every_row_through_forward() {
    for case in table::cases() {
        let (results, _) = case.run_on_host();
        for (number, (step, ran)) in case.steps.iter().zip(results).enumerate() {
            let told = ran.told.as_ref().map(digit);
            let Ran { verdict, frame, .. } = ran;
            assert_eq!(verdict, step.verdict, "{}: packet {number}", case.name);
            assert_eq!(told, step.told, "{}: packet {number}", case.name);
            match (verdict, &step.leaves) {
                (Verdict::Pass(_), _) => assert_eq!(
                    frame, step.frame,
                    "{}: packet {number} is passed",
                    case.name
                ),
                (Verdict::Drop(_), _) => {}
                (_, Some((leaves, _))) => {
                    assert_eq!(
                        hex::encode(frame),
                        hex::encode(leaves),
                        "{}: packet {number}",
                        case.name
                    );
                }
                (_, None) => panic!("{}: packet {number} left", case.name),
            }
        }
    }
}

#[test]
fn every_row_through_the_userspace_path() {
    let mut datagrams = 0;
    for case in table::cases() {
        for (number, (step, result)) in case.steps.iter().zip(case.run_in_userspace()).enumerate() {
            let Some(result) = result else { continue };
            datagrams += 1;
            match (result, &step.leaves) {
                (Ok(payload), Some((_, leaves))) => {
                    assert_eq!(
                        hex::encode(payload),
                        hex::encode(leaves),
                        "{}: packet {number}",
                        case.name
                    );
                }
                (Err(why), None) => {
                    assert_eq!(
                        Verdict::from(why),
                        step.verdict,
                        "{}: packet {number}",
                        case.name
                    );
                    assert_ne!(why.outcome(), Outcome::Forwarded);
                }
                (result, _) => panic!("{}: packet {number}: {result:?}", case.name),
            }
        }
    }
    assert!(datagrams > 500, "{datagrams} datagrams");
}

#[test]
fn the_counters_add_up() {
    for case in table::cases() {
        let (results, counters) = case.run_on_host();
        let left = results
            .iter()
            .filter(|ran| matches!(ran.verdict, Verdict::Tx | Verdict::Redirect(_)))
            .count();
        // A packet whose device is missing was forwarded as far as the flow knows.
        let counted = counters.packets - u64::from(case.name.contains("not allowed"));
        assert_eq!(counted, left as u64, "{}", case.name);
        let by_stream: u64 = counters
            .streams
            .iter()
            .flatten()
            .map(|stream| stream.packets)
            .sum();
        assert_eq!(by_stream, counters.packets, "{}", case.name);
    }
}

/// A sender's jump is the one thing that is noted of a packet that does not leave: the next in order confirms it (RFC 3550 A.1).
#[test]
fn what_is_refused_leaves_no_trace_in_the_state() {
    let mut jumps = 0;
    for case in table::cases() {
        for (number, verdict) in case.refused_with_traces() {
            assert!(
                matches!(
                    verdict.why(),
                    Why::SequenceJump | Why::TooOld | Why::NoDevice
                ),
                "{}: packet {number}: {verdict:?}",
                case.name
            );
            let leaves_encrypted = matches!(
                case.spec.action,
                ActionSpec::Protect(_) | ActionSpec::Transcrypt { .. }
            );
            assert!(
                leaves_encrypted || verdict.why() == Why::NoDevice,
                "{}: packet {number}",
                case.name
            );
            jumps += 1;
        }
    }
    assert!(jumps > 0, "the rows have a sender that starts afresh");
}

#[test]
fn what_is_passed_is_unmodified_whatever_the_frame() {
    let mut passed = 0;
    for seed in 0..40 {
        for case in table::cases() {
            let case = case.mutated(seed);
            for (step, ran) in case.steps.iter().zip(case.run_on_host().0) {
                let Ran { verdict, frame, .. } = ran;
                if let Verdict::Pass(_) = verdict {
                    passed += 1;
                    assert_eq!(
                        hex::encode(frame),
                        hex::encode(&step.frame),
                        "{}: seed {seed}",
                        case.name
                    );
                }
            }
        }
    }
    assert!(passed > 1000, "{passed} frames passed");
}

/// What was worth keeping has the outcome that it had, is unmodified where it is passed, and leaves no trace where it is refused.
#[test]
fn the_corpus_on_the_host() {
    let (cases, mut reasons) = (table::cases(), BTreeSet::new());
    for kept in corpus::read().expect("the corpus is readable") {
        let mut host = OnHost::new(kept.case(&cases).expect("the row is there"));
        for (number, (label, frame)) in kept.frames.iter().enumerate() {
            let before = *host.state();
            let ran = host.forward(frame, 0);
            let (why, what) = (ran.verdict.why(), format!("{}: packet {number}", kept.name));
            assert_eq!(why.label(), label, "{what}");
            if let Verdict::Pass(_) = ran.verdict {
                assert_eq!(hex::encode(ran.frame), hex::encode(frame), "{what}");
            }
            let noted = matches!(why, Why::SequenceJump | Why::TooOld | Why::NoDevice);
            if why.outcome() != Outcome::Forwarded && !noted {
                assert!(*host.state() == before, "{what}: {why:?} left a trace");
            }
            reasons.insert(label.clone());
        }
    }
    assert!(reasons.len() > 15, "only {reasons:?}");
}

#[test]
fn the_checksum_of_rfc_1071_is_known() {
    assert_eq!(
        internet_checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
        !0xddf2
    );
}
