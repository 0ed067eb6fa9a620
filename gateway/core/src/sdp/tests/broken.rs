//! Nothing that a peer sends panics: mutated descriptions go through everything that would be done
//! with them.

use proptest::prelude::*;

use super::*;

/// Runs all that a description could lead to.
fn use_up(sdp: &str) {
    let ours = Ours::new();
    let (browser, telephone) = (web(&fixtures::chromium()), sip(fixtures::SIP_OFFER));
    let known = outgoing(&fixtures::chromium(), fixtures::SIP_ANSWER);
    if let Ok(session) = WebSession::parse(sdp) {
        if let Ok((sdp, offered)) = sip_offer(&session, &CodecPolicy::default(), &sip_local()) {
            let shown = sip(&sdp);
            let shown = shown.described().expect("our own offer has audio");
            let negotiated = negotiate(&offered, &shown).expect("all that was offered is accepted");
            let answer = web_answer(
                &session,
                &negotiated,
                &ours.web(session.setup.answer(Setup::Active)),
            );
            assert_eq!(lines(&answer, "m=").len(), session.media.len());
        }
        let (_, offered) = web_offer(
            &telephone,
            &CodecPolicy::default(),
            &ours.web(Setup::Actpass),
        )
        .unwrap();
        let _ = negotiate(&offered, &session.described());
        let _ = web_answer(&session, &known, &ours.web(Setup::Passive));
    }
    if let Ok(session) = SipSession::parse(sdp) {
        let _ = reanswer(&mut sip_local(), &session, &known);
        let _ = sip_reoffer(&session, &known, None, &sip_local());
        let answer = sip_answer(&session, &known, &sip_local());
        assert_eq!(lines(&answer, "m=").len(), session.media.len());
        if let Ok((sdp, offered)) =
            web_offer(&session, &CodecPolicy::default(), &ours.web(Setup::Actpass))
        {
            let shown = WebSession::parse(&sdp).expect("our own offer is whole");
            let negotiated =
                negotiate(&offered, &shown.described()).expect("all that was offered is accepted");
            assert!(
                sip(&sip_answer(&session, &negotiated, &sip_local()))
                    .audio()
                    .is_ok()
            );
        }
        if let Ok(described) = session.described() {
            let (_, offered) = sip_offer(&browser, &CodecPolicy::default(), &sip_local()).unwrap();
            let _ = negotiate(&offered, &described);
        }
    }
}

fn any_fixture() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(fixtures::chromium()),
        Just(fixtures::firefox()),
        Just(fixtures::aiortc()),
        Just(fixtures::SIP_ANSWER.to_string()),
        Just(fixtures::SIP_OFFER.to_string()),
    ]
}

proptest! {
    #[test]
    fn changed_bytes(sdp in any_fixture(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = sdp.into_bytes();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        use_up(&mend(&bytes));
    }

    #[test]
    fn lines_dropped_repeated_and_swapped(
        sdp in any_fixture(),
        moves in proptest::collection::vec((0..3_u8, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..12),
    ) {
        let mut lines: Vec<&str> = sdp.split_inclusive("\r\n").collect();
        for (what, from, to) in moves {
            if lines.is_empty() {
                break;
            }
            let (from, to) = (from.index(lines.len()), to.index(lines.len()));
            match what {
                0 => drop(lines.remove(from)),
                1 => lines.insert(to, lines[from]),
                _ => lines.swap(from, to),
            }
        }
        use_up(&lines.concat());
    }

    #[test]
    fn values_replaced_by_odd_ones(sdp in any_fixture(), line in any::<prop::sample::Index>(), odd in odd_value()) {
        let lines: Vec<&str> = sdp.split_inclusive("\r\n").collect();
        let chosen = line.index(lines.len());
        let changed: String = lines.iter().enumerate().map(|(index, line)| {
            let end = line.find(':').filter(|_| line.starts_with("a=")).unwrap_or(1);
            let name = line.get(..=end).unwrap_or_default();
            if index == chosen { format!("{name}{odd}\r\n") } else { (*line).to_string() }
        }).collect();
        use_up(&changed);
    }

    #[test]
    fn any_text(sdp in "\\PC{0,200}") {
        use_up(&sdp);
    }
}

fn odd_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("-1".into()),
        Just("0".into()),
        Just("127 opus/48000/2".into()),
        Just("128 PCMU/8000".into()),
        Just("0 PCMU/0".into()),
        Just("111 opus/99999999999/2".into()),
        Just("18446744073709551616".into()),
        Just("IN IP6 ::".into()),
        Just("IN IP4 255.255.255.255".into()),
        Just("65535 IN IP4 1.1.1.1".into()),
        Just("audio 65535 RTP/AVP 0 8 0 8".into()),
        Just("BUNDLE".into()),
        Just("BUNDLE a b c".into()),
        Just("sha-256 :::".into()),
        "[ -~]{0,40}",
    ]
}
