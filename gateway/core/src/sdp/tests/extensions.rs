//! Which header extensions pass, and under which identifiers.

use flow::ExtensionMap;

use super::*;

const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const MIXED_LEVELS: &str = "urn:ietf:params:rtp-hdrext:csrc-audio-level";
const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const ORIENTATION: &str = "urn:3gpp:video-orientation";
const OFFSET: &str = "urn:ietf:params:rtp-hdrext:toffset";

/// `a=extmap` lines.
fn extmap(extensions: &[(&str, &str)]) -> String {
    let line = |(id, uri): &(&str, &str)| format!("a=extmap:{id} {uri}\r\n");
    extensions.iter().map(line).collect()
}

/// A browser's offer of audio with these extensions alone.
fn browser(extensions: &[(&str, &str)]) -> String {
    let offer = fixtures::firefox();
    offer.replace(&extmap(&[("1", LEVEL)]), &extmap(extensions))
}

/// A telephone's answer with these.
fn phone(extensions: &[(&str, &str)]) -> String {
    fixtures::SIP_ANSWER.to_owned() + &extmap(extensions)
}

fn shown_to_sip(offer: &str) -> Vec<String> {
    let (sdp, _) = sip_offer(&web(offer), &CodecPolicy::default(), &sip_local()).unwrap();
    lines(&sdp, "a=extmap")
        .into_iter()
        .map(String::from)
        .collect()
}

/// To the SIP side, to the browser.
fn maps(negotiated: &Negotiated) -> [ExtensionMap; 2] {
    [
        negotiated.extensions_to_sip(),
        negotiated.audio().extensions_to_web(),
    ]
}

fn map(pairs: &[(u8, u8)]) -> ExtensionMap {
    ExtensionMap::new(pairs.iter().copied())
}

fn answer_to(offer: &str, negotiated: &Negotiated) -> String {
    let setup = web(offer).setup.answer(Setup::Passive);
    web_answer(&web(offer), negotiated, &Ours::new().web(setup))
}

#[test]
fn what_both_sides_have_passes() {
    let offer = browser(&[("9", LEVEL), ("2/recvonly", MIXED_LEVELS)]);
    assert_eq!(
        shown_to_sip(&offer),
        [
            format!("a=extmap:9 {LEVEL}"),
            format!("a=extmap:2/recvonly {MIXED_LEVELS}")
        ]
    );
    let negotiated = outgoing(&offer, &phone(&[("9", LEVEL)]));
    assert_eq!(maps(&negotiated), [map(&[(9, 9)]), map(&[(9, 9)])]);
    let answer = answer_to(&offer, &negotiated);
    assert_eq!(lines(&answer, "a=extmap"), [format!("a=extmap:9 {LEVEL}")]);
    let negotiated = outgoing(&offer, &phone(&[]));
    assert_eq!(maps(&negotiated), [ExtensionMap::EMPTY; 2]);
    let answer = answer_to(&offer, &negotiated);
    assert_eq!(lines(&answer, "a=extmap"), Vec::<&str>::new());
}

#[test]
fn what_belongs_to_one_leg_is_never_shown() {
    let offer = browser(&[
        ("1", LEVEL),
        ("4", MID),
        ("5", TRANSPORT_CC),
        ("6", "urn:x:y"),
    ]);
    assert_eq!(shown_to_sip(&offer), [format!("a=extmap:1 {LEVEL}")]);
    let all = phone(&[("4", MID), ("5", TRANSPORT_CC), ("6", "urn:x:y")]);
    assert_eq!(maps(&outgoing(&offer, &all)), [ExtensionMap::EMPTY; 2]);
}

#[test]
fn directions_are_kept() {
    let offer = browser(&[("1/sendonly", LEVEL)]);
    assert_eq!(
        shown_to_sip(&offer),
        [format!("a=extmap:1/sendonly {LEVEL}")]
    );
    let negotiated = outgoing(&offer, &phone(&[("1/recvonly", LEVEL)]));
    assert_eq!(maps(&negotiated), [map(&[(1, 1)]), ExtensionMap::EMPTY]);
    let answer = answer_to(&offer, &negotiated);
    assert_eq!(
        lines(&answer, "a=extmap"),
        [format!("a=extmap:1/recvonly {LEVEL}")]
    );
    let offer = browser(&[("1", LEVEL)]);
    let negotiated = outgoing(&offer, &phone(&[("1/sendonly", LEVEL)]));
    assert_eq!(maps(&negotiated), [ExtensionMap::EMPTY, map(&[(1, 1)])]);
    let negotiated = outgoing(&offer, &phone(&[("1/inactive", LEVEL)]));
    assert_eq!(maps(&negotiated), [ExtensionMap::EMPTY; 2]);
}

#[test]
fn identifiers_that_cannot_be() {
    for id in ["0", "15", "16", "300", "4096", "-1", "1/both", "x", ""] {
        assert_eq!(
            shown_to_sip(&browser(&[(id, LEVEL)])),
            Vec::<String>::new(),
            "{id}"
        );
    }
    // An identifier names one thing, and an extension has one.
    let twice = browser(&[("3", LEVEL), ("3", MIXED_LEVELS), ("4", LEVEL)]);
    assert_eq!(shown_to_sip(&twice), [format!("a=extmap:3 {LEVEL}")]);
    // Under another one than was offered it is none.
    let negotiated = outgoing(&browser(&[("1", LEVEL)]), &phone(&[("2", LEVEL)]));
    assert_eq!(maps(&negotiated), [ExtensionMap::EMPTY; 2]);
}

#[test]
fn a_telephones_identifiers_become_ours_at_the_browser() {
    let offer = fixtures::SIP_OFFER.replace(
        "a=sendrecv\r\n",
        &(extmap(&[("7/sendonly", LEVEL), ("3", MID)]) + "a=sendrecv\r\n"),
    );
    let (sdp, offered) = web_offer(
        &sip(&offer),
        &CodecPolicy::default(),
        &Ours::new().web(Setup::Actpass),
    )
    .unwrap();
    assert_eq!(
        lines(&sdp, "a=extmap"),
        [format!("a=extmap:1/sendonly {LEVEL}")]
    );
    let answer = browser(&[("1/recvonly", LEVEL)]);
    let negotiated = negotiate(&offered, &web(&answer).described()).unwrap();
    assert_eq!(maps(&negotiated), [ExtensionMap::EMPTY, map(&[(7, 1)])]);
    let ours = sip_answer(&sip(&offer), &negotiated, &sip_local());
    assert_eq!(
        lines(&ours, "a=extmap"),
        [format!("a=extmap:7/recvonly {LEVEL}")]
    );
}

#[test]
fn a_later_description_may_take_one_away_and_give_it_back() {
    let negotiated = outgoing(&browser(&[("1", LEVEL)]), &phone(&[("1", LEVEL)]));
    let without = sip(&phone(&[]));
    let without = negotiated
        .reoffered_by_sip(&without.described().unwrap())
        .unwrap();
    assert_eq!(maps(&without), [ExtensionMap::EMPTY; 2]);
    let answer = sip_answer(&sip(&phone(&[])), &without, &sip_local());
    assert_eq!(lines(&answer, "a=extmap"), Vec::<&str>::new());
    let with = sip(&phone(&[("1", LEVEL)]));
    let with = without.answered_by_sip(&with.described().unwrap()).unwrap();
    assert_eq!(with, negotiated);
    let renumbered = web(&browser(&[("2", LEVEL)]));
    let renumbered = negotiated
        .reoffered_by_web(&renumbered.described())
        .unwrap();
    assert_eq!(maps(&renumbered), [ExtensionMap::EMPTY; 2]);
}

#[test]
fn one_map_for_all_media_of_the_browser() {
    let offer = |video: &[(&str, &str)]| {
        let offer = fixtures::chromium();
        offer + &extmap(video)
    };
    let answer = |audio: &[(&str, &str)], video: &[(&str, &str)]| {
        let audio = phone(audio);
        audio + "m=video 30002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n" + &extmap(video)
    };
    let video = [("3", ORIENTATION), ("6", OFFSET), ("2", MID)];
    let negotiated = outgoing(&offer(&video), &answer(&[("1", LEVEL)], &video[..1]));
    assert_eq!(negotiated.extensions_to_sip(), map(&[(1, 1), (3, 3)]));
    let video = negotiated.video().unwrap();
    assert_eq!(video.extensions_to_web(), map(&[(3, 3)]));
    assert_eq!(negotiated.audio().extensions_to_web(), map(&[(1, 1)]));
}
