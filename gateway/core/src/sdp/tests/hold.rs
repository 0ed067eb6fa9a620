//! Re-INVITEs of the SIP side, hold from both sides.

use super::*;

fn reoffer(from: &str, to: &str) -> SipSession {
    let changed = fixtures::SIP_ANSWER.replace(from, to);
    assert_ne!(changed, fixtures::SIP_ANSWER);
    sip(&changed)
}

fn answered(offer: &SipSession) -> Reanswer {
    let negotiated = outgoing(&fixtures::chromium(), fixtures::SIP_ANSWER);
    let mut local = sip_local();
    let answer = reanswer(&mut local, offer, &negotiated).unwrap();
    assert_eq!(local.version, 2);
    assert_eq!(lines(&answer.sdp, "o="), ["o=- 77 2 IN IP4 192.0.2.10"]);
    answer
}

#[test]
fn every_kind_of_hold_is_answered_and_resumed() {
    for (theirs, ours) in [
        ("a=sendonly", Direction::RecvOnly),
        ("a=recvonly", Direction::SendOnly),
        ("a=inactive", Direction::Inactive),
        ("a=sendrecv\r\na=x-resumed", Direction::SendRecv),
    ] {
        let answer = answered(&reoffer("a=sendrecv", theirs));
        assert_eq!(
            lines(&answer.sdp, &format!("a={}", ours.as_str())).len(),
            1,
            "{}",
            answer.sdp
        );
        assert_eq!(lines(&answer.sdp, "m="), ["m=audio 40000 RTP/AVP 8 101"]);
    }
}

#[test]
fn the_old_hold_with_an_address_of_zero_is_inactive() {
    for (family, zero) in [("IP4", "0.0.0.0"), ("IP6", "::")] {
        let offer = reoffer("c=IN IP4 192.0.2.20", &format!("c=IN {family} {zero}"));
        assert_eq!(offer.audio().unwrap().direction, Direction::Inactive);
        let answer = answered(&offer);
        assert_eq!(lines(&answer.sdp, "a=inactive").len(), 1);
        assert!(offer.audio().unwrap().rtp.ip().is_unspecified());
        assert_eq!(
            lines(&answer.sdp, "c="),
            ["c=IN IP4 192.0.2.10"],
            "ours is no zero"
        );
    }
}

#[test]
fn a_direction_of_the_session_part_counts_where_the_medium_has_none() {
    let held = fixtures::SIP_ANSWER
        .replace("a=sendrecv\r\n", "")
        .replace("t=0 0\r\n", "t=0 0\r\na=sendonly\r\n");
    assert_eq!(sip(&held).audio().unwrap().direction, Direction::SendOnly);
}

#[test]
fn a_moved_address_is_read() {
    let addresses = |offer: &SipSession| {
        let audio = offer.audio().unwrap();
        (audio.rtp.to_string(), audio.rtcp.to_string())
    };
    let moved = reoffer("m=audio 30000", "m=audio 30500");
    assert_eq!(
        addresses(&moved),
        ("192.0.2.20:30500".into(), "192.0.2.20:30501".into())
    );
    let moved = reoffer(
        "a=ptime:20",
        "c=IN IP6 2001:db8::20\r\na=rtcp:777 IN IP4 192.0.2.21",
    );
    assert_eq!(
        addresses(&moved),
        ("[2001:db8::20]:30000".into(), "192.0.2.21:777".into())
    );
}

#[test]
fn changed_payload_types_are_followed() {
    let renumbered = fixtures::SIP_ANSWER.replace("RTP/AVP 8 101", "RTP/AVP 0 8 99");
    let offer = sip(&renumbered.replace(":101 ", ":99 "));
    let answer = answered(&offer);
    assert_eq!(to_sip(&answer.negotiated), [(8, 8), (110, 99), (126, 99)]);
    assert_eq!(
        pairs(&answer.negotiated.audio().sip_to_web()),
        [(8, 8), (99, 126)]
    );
    assert_eq!(
        lines(&answer.sdp, "m="),
        ["m=audio 40000 RTP/AVP 8 99"],
        "the codec in use, though another stands first"
    );
}

#[test]
fn the_browsers_payload_type_survives_two_reinvites() {
    // An incoming call whose browser answered under a number of its own.
    let (_, offered) = web_offer(
        &sip(fixtures::SIP_OFFER),
        &policy(&["opus"]),
        &Ours::new().web(Setup::Actpass),
    )
    .unwrap();
    let firefox = web(&fixtures::firefox());
    let mut negotiated = negotiate(&offered, &firefox.described()).unwrap();
    assert_eq!(
        pairs(&negotiated.audio().sip_to_web()),
        [(96, 109), (97, 101), (101, 101)]
    );
    for number in [105, 106] {
        let offer = sip(&fixtures::SIP_OFFER
            .replace("0 96 101", &format!("0 {number} 101"))
            .replace(":96 ", &format!(":{number} ")));
        negotiated = reanswer(&mut sip_local(), &offer, &negotiated)
            .unwrap()
            .negotiated;
        assert_eq!(
            pairs(&negotiated.audio().sip_to_web()),
            [(97, 101), (101, 101), (number, 109)]
        );
        assert_eq!(
            to_sip(&negotiated),
            [(101, 97), (109, number), (111, number), (126, 97)],
            "both numbers that the browser may send"
        );
    }
}

#[test]
fn events_that_are_gone_from_the_offer_are_gone_from_the_answer() {
    let answer = answered(&reoffer("RTP/AVP 8 101", "RTP/AVP 8"));
    assert_eq!(lines(&answer.sdp, "m="), ["m=audio 40000 RTP/AVP 8"]);
    assert_eq!(to_sip(&answer.negotiated), [(8, 8)]);
}

#[test]
fn events_come_back_with_a_later_offer() {
    let without = answered(&reoffer("RTP/AVP 8 101", "RTP/AVP 8")).negotiated;
    let negotiated = reanswer(&mut sip_local(), &sip(fixtures::SIP_ANSWER), &without)
        .unwrap()
        .negotiated;
    assert_eq!(to_sip(&negotiated), [(8, 8), (110, 101), (126, 101)]);
    assert_eq!(
        without.audio().web_codecs().len(),
        2,
        "the browser was told of them and may go on sending"
    );
}

#[test]
fn a_second_answer_keeps_what_we_asked_for() {
    let early = outgoing(&fixtures::chromium(), fixtures::SIP_ANSWER);
    let last = sip(&fixtures::SIP_ANSWER
        .replace("8 101", "8 99")
        .replace(":101 ", ":99 "));
    let negotiated = early.answered_by_sip(&last.described().unwrap()).unwrap();
    assert_eq!(to_sip(&negotiated), [(8, 8), (110, 99), (126, 99)]);
    assert_eq!(
        pairs(&negotiated.audio().sip_to_web()),
        [(8, 8), (99, 126), (126, 126)]
    );
    let other = sip(&fixtures::SIP_ANSWER.replace("8 101", "0 101"));
    assert!(early.answered_by_sip(&other.described().unwrap()).is_err());
}

#[test]
fn a_new_offer_of_the_browser_keeps_the_codec() {
    let negotiated = outgoing(&fixtures::chromium(), fixtures::SIP_ANSWER);
    let again = |from: &str, to: &str| {
        let offer = web(&fixtures::chromium().replace(from, to));
        negotiated.reoffered_by_web(&offer.described())
    };
    assert_eq!(again("ufrag:Xy1z", "ufrag:New1").unwrap(), negotiated);
    let fewer = again("8 13 110 126", "8 13 110").unwrap();
    assert_eq!(
        (fewer.audio().web_codecs().len(), to_sip(&fewer)),
        (2, vec![(8, 8), (110, 101)])
    );
    let none = again("8 13 110 126", "8 13").unwrap();
    assert_eq!(
        (none.audio().web_codecs().len(), to_sip(&none)),
        (1, vec![(8, 8)])
    );
    assert_eq!(again("9 0 8 13", "9 0 13").unwrap_err().status(), 488);
}

#[test]
fn an_offer_without_the_codec_in_use_changes_nothing() {
    let negotiated = outgoing(&fixtures::chromium(), fixtures::SIP_ANSWER);
    let mut local = sip_local();
    let offer = reoffer("RTP/AVP 8 101", "RTP/AVP 0 101");
    let error = reanswer(&mut local, &offer, &negotiated).unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (
            488,
            "no common audio codec: PCMA/8000 here, PCMU/8000 there"
        )
    );
    let rejected = reoffer("m=audio 30000", "m=audio 0");
    assert_eq!(
        reanswer(&mut local, &rejected, &negotiated)
            .unwrap_err()
            .to_string(),
        "the audio is rejected"
    );
    assert_eq!(local.version, 1);
}

#[test]
fn an_added_medium_is_mirrored_and_rejected() {
    let offer = sip(&format!(
        "{}m=image 5000 udptl t38\r\nm=audio 5002 RTP/AVP 8\r\n",
        fixtures::SIP_ANSWER
    ));
    let answer = answered(&offer);
    let expected = [
        "m=audio 40000 RTP/AVP 8 101",
        "m=image 0 udptl t38",
        "m=audio 0 RTP/AVP 8",
    ];
    assert_eq!(lines(&answer.sdp, "m="), expected);
}

#[test]
fn hold_of_the_browser_is_an_offer_to_the_sip_side() {
    let negotiated = outgoing(&fixtures::chromium(), fixtures::SIP_ANSWER);
    let peer = sip(fixtures::SIP_ANSWER);
    let held = web(&fixtures::chromium().replacen("a=sendrecv", "a=sendonly", 1));
    let direction = held.audio().direction;
    assert_eq!(direction, Direction::SendOnly);
    let mut local = sip_local();
    local.media[0].direction = direction;
    let sdp = sip_reoffer(&peer, &negotiated, None, &local).unwrap();
    assert_eq!(lines(&sdp, "a=send"), ["a=sendonly"]);
    // Our own number for events, as in the first offer.
    assert_eq!(lines(&sdp, "m="), ["m=audio 40000 RTP/AVP 8 126"]);
    let ours = Ours::new();
    let answer = web_answer(
        &held,
        &negotiated,
        &WebLocal {
            version: 2,
            ..ours.web(Setup::Active)
        },
    );
    assert_eq!(lines(&answer, "a=recvonly").len(), 1);
    assert!(
        lines(&answer, "a=msid:").is_empty(),
        "nothing is sent to it"
    );
}

#[test]
fn hold_of_the_sip_side_can_be_offered_to_the_browser() {
    let negotiated = outgoing(&fixtures::chromium_audio(), fixtures::SIP_ANSWER);
    let mut ours = Ours::new();
    let held = reoffer("a=sendrecv", "a=sendonly");
    ours.streams[0].direction = held.audio().unwrap().direction;
    let local = WebLocal {
        version: 2,
        ..ours.web(Setup::Actpass)
    };
    let sdp = web_answer(&web(&fixtures::chromium_audio()), &negotiated, &local);
    assert_eq!(lines(&sdp, "a=send"), ["a=sendonly"]);
    assert_eq!(lines(&sdp, "a=setup"), ["a=setup:actpass"]);
}

#[test]
fn directions_combine_as_rfc_3264_says() {
    use Direction::{Inactive, RecvOnly, SendOnly, SendRecv};
    for (wish, offer, answer) in [
        (SendRecv, SendRecv, SendRecv),
        (SendRecv, SendOnly, RecvOnly),
        (SendRecv, RecvOnly, SendOnly),
        (SendOnly, SendRecv, SendOnly),
        (SendOnly, SendOnly, Inactive),
        (RecvOnly, SendOnly, RecvOnly),
        (Inactive, SendRecv, Inactive),
        (SendRecv, Inactive, Inactive),
    ] {
        assert_eq!(wish.answer_to(offer), answer, "{wish:?} to {offer:?}");
    }
}
