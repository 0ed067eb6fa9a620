//! What real WebRTC endpoints make of our descriptions. Chromium, Firefox and aiortc by their
//! offers, str0m in person.

use std::time::Instant;

use str0m::change::{SdpAnswer, SdpOffer};
use str0m::media::{Direction as Way, MediaKind, Mid};
use str0m::{Candidate, Rtc, RtcConfig};

use super::*;

fn str0m() -> Rtc {
    let now = Instant::now();
    let mut rtc = RtcConfig::new()
        .set_rtp_mode(true)
        .clear_codecs()
        .enable_opus(true, false)
        .enable_pcmu(true, false)
        .build(now);
    rtc.add_local_candidate(Candidate::host("203.0.113.1:5000".parse().unwrap(), "udp").unwrap());
    rtc
}

fn remote_payload_types(rtc: &Rtc, mid: Mid) -> Vec<u8> {
    rtc.media(mid)
        .unwrap()
        .remote_pts()
        .iter()
        .map(|pt| **pt)
        .collect()
}

const SIP_PCMU: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0\r\n";

#[test]
fn str0m_offers_and_takes_our_answers() {
    let mut rtc = str0m();
    let ours = Ours::new();
    let mut api = rtc.sdp_api();
    let audio = api.add_media(MediaKind::Audio, Way::SendRecv, None, None, None);
    let (offer, pending) = api.apply().unwrap();
    let offer = web(&offer.to_sdp_string());
    assert_eq!(offer.audio().mid, audio.to_string());
    let (sdp, offered) = sip_offer(&offer, &CodecPolicy::default(), &sip_local()).unwrap();
    assert_eq!(lines(&sdp, "m=").len(), 1);
    let answer = sip(SIP_PCMU);
    let negotiated = negotiate(&offered, &answer.described().unwrap()).unwrap();
    let answer = web_answer(
        &offer,
        &negotiated,
        &ours.web(offer.setup.answer(Setup::Active)),
    );
    rtc.sdp_api()
        .accept_answer(pending, SdpAnswer::from_sdp_string(&answer).unwrap())
        .unwrap();
    assert_eq!(remote_payload_types(&rtc, audio), [0]);

    // Hold and an ICE restart in one new offer.
    let mut api = rtc.sdp_api();
    api.set_direction(audio, Way::SendOnly);
    api.ice_restart(true);
    let (offer, pending) = api.apply().unwrap();
    let restarted = web(&offer.to_sdp_string());
    assert_eq!(restarted.audio().direction, Direction::SendOnly);
    let mut ours = Ours::new();
    ours.ice.ufrag = "next".into();
    let local = WebLocal {
        version: 2,
        ..ours.web(Setup::Active)
    };
    let answer = web_answer(&restarted, &negotiated, &local);
    rtc.sdp_api()
        .accept_answer(pending, SdpAnswer::from_sdp_string(&answer).unwrap())
        .unwrap();
    assert_eq!(rtc.media(audio).unwrap().direction(), Way::SendOnly);
}

#[test]
fn str0m_with_video_and_data_takes_our_answer() {
    let now = Instant::now();
    let mut rtc = RtcConfig::new().build(now);
    rtc.add_local_candidate(Candidate::host("203.0.113.1:5000".parse().unwrap(), "udp").unwrap());
    let mut api = rtc.sdp_api();
    let video = api.add_media(MediaKind::Video, Way::SendRecv, None, None, None);
    let audio = api.add_media(MediaKind::Audio, Way::SendRecv, None, None, None);
    api.add_channel("chat".into());
    let (offer, pending) = api.apply().unwrap();
    let offer = web(&offer.to_sdp_string());
    assert_eq!(offer.media.len(), 3);
    let (_, offered) = sip_offer(&offer, &CodecPolicy::default(), &sip_local()).unwrap();
    let negotiated = negotiate(&offered, &offer.described()).unwrap();
    let ours = Ours::new();
    let answer = web_answer(&offer, &negotiated, &ours.web(Setup::Active));
    assert_eq!(
        lines(&answer, "a=group"),
        [format!("a=group:BUNDLE {video} {audio}")]
    );
    assert_eq!(
        lines(&answer, "m=application"),
        ["m=application 0 UDP/DTLS/SCTP webrtc-datachannel"]
    );
    rtc.sdp_api()
        .accept_answer(pending, SdpAnswer::from_sdp_string(&answer).unwrap())
        .unwrap();
    assert_eq!(
        remote_payload_types(&rtc, audio),
        [negotiated.audio().codec.payload_type]
    );
    let spoken = negotiated.video().unwrap().codec.payload_type;
    assert_eq!(remote_payload_types(&rtc, video), [spoken]);
}

#[test]
fn str0m_answers_our_offer() {
    let mut rtc = str0m();
    let ours = Ours::new();
    let offer = sip(fixtures::SIP_OFFER);
    let (sdp, offered) =
        web_offer(&offer, &CodecPolicy::default(), &ours.web(Setup::Actpass)).unwrap();
    let answer = rtc
        .sdp_api()
        .accept_offer(SdpOffer::from_sdp_string(&sdp).unwrap())
        .unwrap();
    let answer = web(&answer.to_sdp_string());
    assert_eq!(answer.bundle, ["0"]);
    assert_ne!(answer.setup, Setup::Actpass);
    let negotiated = negotiate(&offered, &answer.described()).unwrap();
    assert_eq!(
        negotiated.audio().codec.name,
        "PCMU",
        "it has no PCMA, which stands first"
    );
    assert_eq!(
        lines(&sip_answer(&offer, &negotiated, &sip_local()), "m=")[0],
        "m=audio 40000 RTP/AVP 0"
    );
}

#[test]
fn chromium_is_read() {
    let session = web(&fixtures::chromium());
    assert_eq!(
        (session.ice.ufrag.as_str(), session.ice.lite),
        ("Xy1z", false)
    );
    assert_eq!(
        (session.setup, session.bundle.as_slice()),
        (Setup::Actpass, &["0".to_string(), "1".into()][..])
    );
    assert_eq!(session.fingerprints.len(), 1);
    assert_eq!(
        session.fingerprints[0].to_string(),
        fixtures::FINGERPRINT.trim_start_matches("a=fingerprint:")
    );
    let audio = session.audio();
    assert_eq!(
        (audio.mid.as_str(), audio.kind, audio.direction),
        ("0", Kind::Audio, Direction::SendRecv)
    );
    assert_eq!(audio.ssrcs, [1_122_334_455]);
    assert_eq!(audio.candidates.len(), 2);
    assert!(audio.candidates[1].starts_with("candidate:2 1 udp 2122194687 4f3c.local"));
    assert_eq!(audio.codecs.len(), 8);
    let opus = &audio.codecs[0];
    assert_eq!(
        (opus.fmtp.as_deref(), opus.rtcp_fb.as_slice()),
        (
            Some("minptime=10;useinbandfec=1"),
            &["transport-cc".to_string()][..]
        )
    );
    assert_eq!(session.media[1].kind, Kind::Video);
    assert!(
        !format!("{session:?}").contains("abcdefghij"),
        "no password in logs"
    );
}

#[test]
fn firefox_and_aiortc_are_read() {
    let firefox = web(&fixtures::firefox());
    assert_eq!(
        (firefox.fingerprints.len(), firefox.audio().ssrcs.as_slice()),
        (1, &[4_004_004_004][..])
    );
    let negotiated = outgoing(&fixtures::firefox(), fixtures::SIP_ANSWER);
    assert_eq!(to_sip(&negotiated), [(8, 8), (101, 101)]);
    let aiortc = web(&fixtures::aiortc());
    assert_eq!(aiortc.fingerprints.len(), 1, "SHA-1 is not believed");
    assert_eq!(
        to_sip(&outgoing(&fixtures::aiortc(), fixtures::SIP_ANSWER)),
        [(8, 8)]
    );
}

#[test]
fn a_bundled_medium_may_leave_its_transport_to_the_first() {
    // RFC 9143 section 7.3.2: a later offer has it in the tagged m-line only, and bundle-only ones
    // have port 0.
    let offer = fixtures::chromium();
    let (head, rest) = offer.split_at(offer.find("m=audio").unwrap());
    let (audio, video) = rest.split_at(rest.find("m=video").unwrap());
    let audio: String = audio
        .split_inclusive("\r\n")
        .filter(|line| {
            !["a=ice", "a=fing", "a=setup"]
                .iter()
                .any(|name| line.starts_with(name))
        })
        .collect();
    let audio = audio
        .replace("m=audio 50312", "m=audio 0")
        .replace("a=mid:0", "a=mid:0\r\na=bundle-only");
    let swapped = format!("{head}{video}{audio}").replace("BUNDLE 0 1", "BUNDLE 1 0");
    let session = web(&swapped);
    assert_eq!(
        (session.ice.ufrag.as_str(), session.setup),
        ("Xy1z", Setup::Actpass)
    );
    let negotiated = outgoing(&swapped, fixtures::SIP_ANSWER);
    let answer = web_answer(&session, &negotiated, &Ours::new().web(Setup::Active));
    assert_eq!(
        lines(&answer, "m="),
        [
            "m=video 0 UDP/TLS/RTP/SAVPF 96",
            "m=audio 3478 UDP/TLS/RTP/SAVPF 8 126"
        ]
    );
    assert_eq!(lines(&answer, "a=mid"), ["a=mid:1", "a=mid:0"]);
}

#[test]
fn the_role_is_ours_only_where_the_peer_leaves_it() {
    assert_eq!(Setup::Actpass.answer(Setup::Active), Setup::Active);
    assert_eq!(Setup::Active.answer(Setup::Active), Setup::Passive);
    assert_eq!(Setup::Passive.answer(Setup::Passive), Setup::Active);
}
