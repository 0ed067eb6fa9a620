//! Which codec a call ends up with, and under which payload types.

use flow::PayloadKind;

use super::*;

fn codec(payload_type: u8, name: &str, clock_hz: u32) -> Codec {
    let channels = if name == "opus" { 2 } else { 1 };
    Codec {
        payload_type,
        name: name.into(),
        clock_hz,
        channels,
        fmtp: None,
        rtcp_fb: Vec::new(),
    }
}

fn offered_by(offer: &str) -> Offered {
    sip_offer(&web(offer), &CodecPolicy::default(), &sip_local())
        .unwrap()
        .1
}

fn offered_to_browser(offer: &str) -> Offered {
    web_offer(
        &sip(offer),
        &CodecPolicy::default(),
        &Ours::new().web(Setup::Actpass),
    )
    .unwrap()
    .1
}

#[test]
fn the_first_of_the_sip_answer_is_spoken() {
    let negotiated = outgoing(&fixtures::chromium(), fixtures::SIP_ANSWER);
    assert_eq!(
        (
            negotiated.audio().codec.name.as_str(),
            negotiated.audio().codec.payload_type,
            negotiated.audio().clock_hz()
        ),
        ("PCMA", 8, 8000)
    );
    // The telephone wants DTMF as 101 and may send it so, or as the 126 that it was offered.
    assert_eq!(to_sip(&negotiated), [(8, 8), (110, 101), (126, 101)]);
    assert_eq!(
        pairs(&negotiated.audio().sip_to_web()),
        [(8, 8), (101, 126), (126, 126)]
    );
    assert_eq!(negotiated.audio().web_asked.times.ptime_ms, Some(20));
}

#[test]
fn a_codec_that_was_not_offered_is_passed_over() {
    let answer = [
        codec(18, "G729", 8000),
        codec(97, "telephone-event", 8000),
        codec(0, "pcmu", 8000),
        codec(8, "PCMA", 8000),
    ];
    let negotiated = negotiate(&offered_by(&fixtures::chromium()), &audio(&answer)).unwrap();
    assert_eq!(negotiated.audio().codec.payload_type, 0);
    assert_eq!(negotiated.audio().web_codecs().len(), 2);
}

#[test]
fn events_of_the_voice_clock_come_before_others() {
    let events = [
        codec(101, "telephone-event", 8000),
        codec(100, "telephone-event", 48_000),
    ];
    let offered = offered_by(&fixtures::chromium());
    let with = |voice: Codec, events: &[Codec]| {
        let answer: Vec<Codec> = std::iter::once(voice)
            .chain(events.iter().cloned())
            .collect();
        let negotiated = negotiate(&offered, &audio(&answer)).unwrap();
        (to_sip(&negotiated), negotiated.audio().clock_hz())
    };
    assert_eq!(
        with(codec(111, "opus", 48_000), &events),
        (vec![(110, 100), (111, 111), (126, 100)], 48_000)
    );
    assert_eq!(
        with(codec(111, "opus", 48_000), &events[..1]),
        (vec![(110, 101), (111, 111), (126, 101)], 48_000)
    );
    assert_eq!(
        with(codec(9, "G722", 8000), &events),
        (vec![(9, 9), (110, 101), (126, 101)], 8000)
    );
    assert_eq!(
        with(codec(9, "G722", 8000), &[]),
        (vec![(9, 9)], 8000),
        "events that the telephone does not have"
    );
}

/// Clocks of the telephone-events that arrive and leave under a number.
fn clocks(map: &PayloadMap, arrived: u8) -> Option<(u32, u32)> {
    match map.get(arrived)?.kind {
        PayloadKind::Media => None,
        PayloadKind::TelephoneEvent {
            clock_in_hz,
            clock_out_hz,
        } => Some((clock_in_hz, clock_out_hz)),
    }
}

#[test]
fn a_telephone_with_events_at_8_khz_beside_opus() {
    let answer = [
        codec(111, "opus", 48_000),
        codec(101, "telephone-event", 8000),
    ];
    let browser = web(&fixtures::chromium());
    let (_, offered) = sip_offer(&browser, &CodecPolicy::default(), &sip_local()).unwrap();
    let negotiated = negotiate(&offered, &audio(&answer)).unwrap();
    let (to_sip, to_web) = (negotiated.web_to_sip(), negotiated.audio().sip_to_web());
    assert_eq!(clocks(&to_sip, 110), Some((48_000, 8000)));
    assert_eq!(clocks(&to_sip, 126), Some((8000, 8000)));
    assert_eq!(clocks(&to_web, 101), Some((8000, 48_000)));
    assert_eq!(
        (to_web.get(101).unwrap().out, to_web.get(111).unwrap().out),
        (110, 111)
    );
    let listed =
        |codecs: Vec<Codec>| -> Vec<String> { codecs.iter().map(ToString::to_string).collect() };
    assert_eq!(
        listed(negotiated.audio().web_codecs()),
        ["opus/48000", "telephone-event/48000"]
    );
    assert_eq!(
        listed(negotiated.audio().sip_codecs()),
        ["opus/48000", "telephone-event/8000"]
    );
    // It takes the events away for a while.
    let without = negotiated.answered_by_sip(&audio(&answer[..1])).unwrap();
    assert_eq!(pairs(&without.web_to_sip()), [(111, 111)]);
    let again = without.answered_by_sip(&audio(&answer)).unwrap();
    assert_eq!(again.web_to_sip(), to_sip);
}

#[test]
fn a_browser_with_events_at_8_khz_alone_beside_opus() {
    let answer = [
        codec(109, "opus", 48_000),
        codec(110, "telephone-event", 48_000),
    ];
    let browser = web(&fixtures::firefox());
    let (sdp, offered) = sip_offer(&browser, &policy(&["opus"]), &sip_local()).unwrap();
    assert_eq!(
        lines(&sdp, "a=rtpmap:1"),
        [
            "a=rtpmap:109 opus/48000/2",
            "a=rtpmap:101 telephone-event/8000",
            "a=rtpmap:110 telephone-event/48000"
        ]
    );
    let negotiated = negotiate(&offered, &audio(&answer)).unwrap();
    assert_eq!(clocks(&negotiated.web_to_sip(), 101), Some((8000, 48_000)));
    assert_eq!(
        pairs(&negotiated.audio().sip_to_web()),
        [(109, 109), (110, 101)]
    );
    assert_eq!(
        negotiated.web_to_sip().get(110),
        None,
        "the browser never had it"
    );
}

#[test]
fn a_telephone_that_calls_with_events_at_8_khz_beside_opus() {
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 6000 RTP/AVP 96 101\r\n\
        a=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n";
    let offered = offered_to_browser(offer);
    let browser = web(&fixtures::chromium_audio());
    let negotiated = negotiate(&offered, &browser.described()).unwrap();
    assert_eq!(
        clocks(&negotiated.audio().sip_to_web(), 101),
        Some((8000, 48_000))
    );
    assert_eq!(clocks(&negotiated.web_to_sip(), 110), Some((48_000, 8000)));
    let answer = sip_answer(&sip(offer), &negotiated, &sip_local());
    assert_eq!(lines(&answer, "m="), ["m=audio 40000 RTP/AVP 96 101"]);
    let answer = sip_answer(
        &sip(offer),
        &negotiated
            .reoffered_by_sip(&sip(offer).described().unwrap())
            .unwrap(),
        &sip_local(),
    );
    assert_eq!(lines(&answer, "m="), ["m=audio 40000 RTP/AVP 96 101"]);
}

#[test]
fn the_sip_offers_order_decides_on_incoming_calls() {
    let offered = offered_to_browser(fixtures::SIP_OFFER);
    let browser = web(&fixtures::chromium_audio());
    let negotiated = negotiate(&offered, &browser.described()).unwrap();
    assert_eq!(
        negotiated.audio().codec.name,
        "PCMA",
        "the browser would like opus best"
    );
    assert_eq!(to_sip(&negotiated), [(8, 8), (110, 101), (126, 101)]);
    assert_eq!(
        pairs(&negotiated.audio().sip_to_web()),
        [(8, 8), (97, 126), (101, 126)]
    );
    assert_eq!(
        negotiated.audio().web_asked.times,
        PacketTimes {
            ptime_ms: Some(20),
            maxptime_ms: Some(150)
        }
    );
    let only_opus = [
        codec(111, "opus", 48_000),
        codec(110, "telephone-event", 48_000),
    ];
    let negotiated = negotiate(&offered, &audio(&only_opus)).unwrap();
    assert_eq!(to_sip(&negotiated), [(110, 97), (111, 96)]);
    assert_eq!(
        pairs(&negotiated.audio().sip_to_web()),
        [(96, 111), (97, 110), (101, 110)]
    );
    assert_eq!(negotiated.audio().sip_codecs()[0].payload_type, 96);
}

#[test]
fn a_browser_that_answers_under_numbers_of_its_own_gets_those() {
    let offered = offered_to_browser(fixtures::SIP_OFFER);
    let negotiated = negotiate(&offered, &audio(&[codec(109, "opus", 48_000)])).unwrap();
    assert_eq!(pairs(&negotiated.audio().sip_to_web()), [(96, 109)]);
    assert_eq!(to_sip(&negotiated), [(109, 96), (111, 96)]);
}

#[test]
fn static_payload_types_need_no_rtpmap() {
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 6000 RTP/AVP 9 0 8 3\r\n";
    let names: Vec<String> = sip(offer)
        .audio()
        .unwrap()
        .codecs
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["G722/8000", "PCMU/8000", "PCMA/8000"]);
    let (sdp, _) = web_offer(
        &sip(offer),
        &policy(&["pcma"]),
        &Ours::new().web(Setup::Actpass),
    )
    .unwrap();
    assert_eq!(lines(&sdp, "m="), ["m=audio 3478 UDP/TLS/RTP/SAVPF 8"]);
}

#[test]
fn our_preference_orders_the_offer_to_the_sip_side() {
    let (sdp, _) = sip_offer(
        &web(&fixtures::chromium()),
        &policy(&["opus", "PCMA"]),
        &sip_local(),
    )
    .unwrap();
    assert_eq!(lines(&sdp, "m="), ["m=audio 40000 RTP/AVP 111 8 126 110"]);
    let (sdp, _) = sip_offer(
        &web(&fixtures::chromium()),
        &policy(&["OPUS"]),
        &sip_local(),
    )
    .unwrap();
    assert_eq!(
        lines(&sdp, "m="),
        ["m=audio 40000 RTP/AVP 111 126 110"],
        "many telephones have events at 8 kHz alone"
    );
}

#[test]
fn parameters_go_to_the_side_that_they_are_for() {
    let answer = fixtures::SIP_ANSWER
        .replace("RTP/AVP 8 101", "RTP/AVP 120")
        .replace(
            "a=rtpmap:8 PCMA/8000",
            "a=rtpmap:120 opus/48000/2\r\na=fmtp:120 maxplaybackrate=16000",
        );
    let negotiated = outgoing(&fixtures::firefox(), &answer);
    assert_eq!(
        negotiated.audio().web_codecs()[0].fmtp.as_deref(),
        Some("maxplaybackrate=16000")
    );
    assert_eq!(
        negotiated.audio().sip_codecs()[0].fmtp.as_deref(),
        Some("maxplaybackrate=48000;stereo=1;useinbandfec=1")
    );
    assert_eq!(
        (
            negotiated.audio().web_codecs()[0].payload_type,
            negotiated.audio().sip_codecs()[0].payload_type
        ),
        (109, 109)
    );
    assert_eq!(to_sip(&negotiated), [(109, 120)]);
    assert_eq!(
        pairs(&negotiated.audio().sip_to_web()),
        [(109, 109), (120, 109)]
    );
}

#[test]
fn opus_without_channels_is_opus() {
    let answer = fixtures::SIP_ANSWER
        .replace("RTP/AVP 8 101", "RTP/AVP 96")
        .replace("8 PCMA/8000", "96 OPUS/48000");
    assert_eq!(
        outgoing(&fixtures::chromium(), &answer).audio().codec.name,
        "opus"
    );
}

#[test]
fn an_invite_without_an_offer_is_served_from_the_policy() {
    let ours = Ours::new();
    let (sdp, _) =
        web_offer_unprompted(&policy(&["opus", "PCMU"]), &ours.web(Setup::Actpass)).unwrap();
    assert_eq!(
        lines(&sdp, "m="),
        ["m=audio 3478 UDP/TLS/RTP/SAVPF 111 0 126 110"]
    );
    // The browser's answer is then offered, one voice codec of it.
    let browser = web(&fixtures::chromium_audio().replace("setup:actpass", "setup:active"));
    let (sdp, offered) = sip_offer(&browser, &policy(&["opus"]), &sip_local()).unwrap();
    assert_eq!(lines(&sdp, "m="), ["m=audio 40000 RTP/AVP 111 126 110"]);
    assert!(negotiate(&offered, &audio(&[codec(99, "opus", 48_000)]),).is_ok());
}

#[test]
fn nothing_in_common_says_what_was_there() {
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 6000 RTP/AVP 18 97 101\r\n\
        a=rtpmap:18 G729/8000\r\na=rtpmap:97 iLBC/8000\r\na=rtpmap:101 telephone-event/8000\r\n";
    let error = web_offer(
        &sip(offer),
        &CodecPolicy::default(),
        &Ours::new().web(Setup::Actpass),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no common audio codec: PCMU, PCMA, G722, opus here, G729/8000, iLBC/8000 there"
    );
    assert_eq!(error.status(), 488);
    let error = negotiate(
        &offered_by(&fixtures::aiortc()),
        &audio(&[codec(101, "telephone-event", 8000)]),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no common audio codec: PCMU/8000, PCMA/8000, G722/8000, opus/48000 here, nothing that is known there"
    );
}

#[test]
fn payload_types_that_collide_with_rtcp_stay_on_their_side() {
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 6000 RTP/AVP 72 73\r\n\
        a=rtpmap:72 opus/48000/2\r\na=rtpmap:73 telephone-event/48000\r\n";
    let negotiated = negotiate(
        &offered_to_browser(offer),
        &web(&fixtures::chromium_audio()).described(),
    )
    .unwrap();
    assert_eq!(to_sip(&negotiated), [(110, 73), (111, 72), (126, 73)]);
    assert_eq!(
        pairs(&negotiated.audio().sip_to_web()),
        [(72, 111), (73, 110)]
    );
}
