//! Video beside the audio: codecs, feedback, bandwidth, and what becomes of m-lines that are not taken.

use super::*;
use flow::PayloadSpec;

/// Chromium's video with all that it offers of it: feedback, retransmission, FEC, two H.264 profiles, VP9 and AV1.
fn chromium_offer() -> String {
    let mut video = String::from(
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 104 108 98 100 45 118 120\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sendrecv\r\n\
         a=rtcp-mux\r\na=rtcp-rsize\r\nb=AS:2500\r\n",
    );
    let codecs = [
        (96, "VP8", ""),
        (
            102,
            "H264",
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f",
        ),
        (
            104,
            "H264",
            "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f",
        ),
        (
            108,
            "H264",
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        ),
        (98, "VP9", "profile-id=0"),
        (100, "VP9", "profile-id=2"),
        (45, "AV1", "level-idx=5;profile=0;tier=0"),
    ];
    for (number, name, fmtp) in codecs {
        video += &format!("a=rtpmap:{number} {name}/90000\r\n");
        for feedback in ["goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"] {
            video += &format!("a=rtcp-fb:{number} {feedback}\r\n");
        }
        if !fmtp.is_empty() {
            video += &format!("a=fmtp:{number} {fmtp}\r\n");
        }
    }
    video += "a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n\
        a=rtpmap:118 red/90000\r\na=rtpmap:120 ulpfec/90000\r\na=ssrc-group:FID 426462929 383102558\r\n\
        a=ssrc:426462929 cname:17MQ\r\na=ssrc:383102558 cname:17MQ\r\n";
    let data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\na=sctp-port:5000\r\n";
    let audio = fixtures::chromium_audio().replace("BUNDLE 0", "BUNDLE 0 1 2");
    format!("{audio}{video}{data}")
}

/// A telephone with a screen that takes this of what it is offered.
fn telephone(formats: &str, attributes: &str) -> String {
    format!(
        "{}m=video 30002 RTP/AVP {formats}\r\n{attributes}",
        fixtures::SIP_ANSWER
    )
}

fn h264(number: u8, fmtp: &str) -> Codec {
    Codec {
        payload_type: number,
        name: "H264".into(),
        clock_hz: 90_000,
        channels: 1,
        fmtp: Some(fmtp.into()),
        rtcp_fb: Vec::new(),
    }
}

#[test]
fn retransmission_and_fec_are_never_offered() {
    let (sdp, _) = sip_offer(
        &web(&chromium_offer()),
        &CodecPolicy::default(),
        &sip_local(),
    )
    .unwrap();
    assert_eq!(
        lines(&sdp, "m="),
        [
            "m=audio 40000 RTP/AVP 0 8 9 111 126 110",
            "m=video 40002 RTP/AVP 96 102 104 108 98 100 45",
        ]
    );
    assert_eq!(lines(&sdp, "b="), ["b=AS:2500"]);
    let feedback = [
        "a=rtcp-fb:* goog-remb",
        "a=rtcp-fb:* ccm fir",
        "a=rtcp-fb:* nack",
        "a=rtcp-fb:* nack pli",
    ];
    assert_eq!(
        lines(&sdp, "a=rtcp-fb"),
        feedback,
        "transport-cc is not ours to serve"
    );
    let ssrcs = web(&chromium_offer()).video().unwrap().ssrcs.clone();
    assert_eq!(
        ssrcs,
        [426_462_929],
        "that of the retransmission is not used"
    );
}

#[test]
fn the_answer_to_the_browser_keeps_every_m_line_in_its_place() {
    let offer = web(&chromium_offer());
    let answer = telephone(
        "102",
        "b=TIAS:768000\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 profile-level-id=428014;packetization-mode=1\r\n\
         a=rtcp-fb:102 nack pli\r\na=recvonly\r\n",
    );
    let negotiated = outgoing(&chromium_offer(), &answer);
    let ours = Ours::new();
    let sdp = web_answer(&offer, &negotiated, &ours.web(Setup::Active));
    assert_eq!(
        lines(&sdp, "m="),
        [
            "m=audio 3478 UDP/TLS/RTP/SAVPF 8 126",
            "m=video 3478 UDP/TLS/RTP/SAVPF 102",
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        ]
    );
    assert_eq!(lines(&sdp, "a=group"), ["a=group:BUNDLE 0 1"]);
    assert_eq!(lines(&sdp, "b="), ["b=TIAS:768000"]);
    assert_eq!(
        lines(&sdp, "a=fmtp:102"),
        ["a=fmtp:102 profile-level-id=428014;packetization-mode=1"],
        "the telephone's own"
    );
    // Picture requests in both forms; no NACK and no estimate, which the telephone does not take.
    assert_eq!(
        lines(&sdp, "a=rtcp-fb"),
        ["a=rtcp-fb:102 ccm fir", "a=rtcp-fb:102 nack pli"]
    );
    assert_eq!(
        lines(&sdp, "a=candidate").len(),
        2,
        "in the first m-line only"
    );
    let video = negotiated.video().unwrap();
    assert!(video.web_takes().nack && !video.sip_takes().nack);
    let number = negotiated.web_to_sip().get(102);
    assert_eq!(
        number,
        Some(PayloadSpec::media(102, 1)),
        "the second medium"
    );
}

#[test]
fn a_profile_is_the_same_by_its_constraints_and_not_by_its_level() {
    // RFC 6184 table 5: several spellings of Constrained Baseline, whatever the level.
    let constrained = h264(96, "profile-level-id=42e01f;packetization-mode=1");
    for (other, same) in [
        ("profile-level-id=42C00D;packetization-mode=1", true),
        ("profile-level-id=4d801f;packetization-mode=1", true),
        ("packetization-mode=1; profile-level-id=58c01f", true),
        ("profile-level-id=42001f;packetization-mode=1", false),
        ("profile-level-id=4d001f;packetization-mode=1", false),
        ("profile-level-id=64001f;packetization-mode=1", false),
        ("profile-level-id=42e01f;packetization-mode=0", false),
        ("profile-level-id=42e01f", false),
        ("profile-level-id=42e0;packetization-mode=1", false),
        ("profile-level-id=zzzzzz;packetization-mode=1", false),
    ] {
        let answer = constrained.same_encoding(&h264(97, other));
        assert_eq!(answer, same, "{other}");
    }
    // Nothing said: Baseline, single NAL units.
    let silent = Codec {
        fmtp: None,
        ..h264(96, "")
    };
    assert!(silent.same_encoding(&h264(97, "profile-level-id=42001f")));
    let vp9 = |fmtp: Option<&str>| Codec {
        name: "VP9".into(),
        fmtp: fmtp.map(String::from),
        ..silent.clone()
    };
    assert!(vp9(None).same_encoding(&vp9(Some("profile-id=0"))));
    assert!(!vp9(None).same_encoding(&vp9(Some("profile-id=2"))));
}

#[test]
fn the_right_one_of_several_entries_of_a_codec_is_taken() {
    for (fmtp, number) in [
        ("profile-level-id=42e01f;packetization-mode=1", 108),
        ("profile-level-id=420014;packetization-mode=1", 102),
        ("profile-level-id=42001f", 104),
    ] {
        let answer = telephone(
            "99",
            &format!("a=rtpmap:99 H264/90000\r\na=fmtp:99 {fmtp}\r\n"),
        );
        let negotiated = outgoing(&chromium_offer(), &answer);
        let video = negotiated.video().unwrap();
        assert_eq!(video.codec.payload_type, number, "{fmtp}");
        assert_eq!(
            negotiated.web_to_sip().get(number),
            Some(PayloadSpec::media(99, 1))
        );
    }
}

#[test]
fn video_that_nobody_shares_is_rejected_and_the_audio_goes_on() {
    let no_video = telephone("0", "").replace("m=video 30002", "m=video 0");
    let h263 = telephone("34", "a=rtpmap:34 H263/90000\r\n");
    let high = telephone(
        "102",
        "a=rtpmap:102 H264/90000\r\na=fmtp:102 profile-level-id=64001f;packetization-mode=1\r\n",
    );
    let nowhere = telephone(
        "96",
        "c=IN IP4 video.example.com\r\na=rtpmap:96 VP8/90000\r\n",
    );
    let offer = chromium_offer();
    for answer in [fixtures::SIP_ANSWER, &no_video, &h263, &high, &nowhere] {
        let negotiated = outgoing(&offer, answer);
        assert!(negotiated.video().is_none(), "{answer}");
        let ours = Ours::new();
        let sdp = web_answer(&web(&offer), &negotiated, &ours.web(Setup::Active));
        assert_eq!(lines(&sdp, "m=video"), ["m=video 0 UDP/TLS/RTP/SAVPF 96"]);
        assert_eq!(lines(&sdp, "a=group"), ["a=group:BUNDLE 0"]);
    }
    let policy = policy(&["PCMA"]);
    let (sdp, _) = sip_offer(&web(&offer), &policy, &sip_local()).unwrap();
    assert_eq!(
        lines(&sdp, "m="),
        ["m=audio 40000 RTP/AVP 8 126"],
        "no video by policy"
    );
}

#[test]
fn in_a_bundle_a_number_means_one_thing() {
    // The telephone system uses 96 for both of its media: they have ports of their own.
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
        m=audio 6000 RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\n\
        m=video 6002 RTP/AVP 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 H264/90000\r\na=sendonly\r\n";
    let ours = Ours::new();
    let (sdp, offered) = web_offer(
        &sip(offer),
        &CodecPolicy::default(),
        &ours.web(Setup::Actpass),
    )
    .unwrap();
    assert_eq!(
        lines(&sdp, "m="),
        [
            "m=audio 3478 UDP/TLS/RTP/SAVPF 111",
            "m=video 3478 UDP/TLS/RTP/SAVPF 96 97",
        ]
    );
    let shown = web(&sdp);
    let negotiated = negotiate(&offered, &shown.described()).unwrap();
    let map = negotiated.web_to_sip();
    let media = |medium| Some(PayloadSpec::media(96, medium));
    assert_eq!((map.get(111), map.get(96)), (media(0), media(1)));
    let video = negotiated.video().unwrap();
    assert_eq!(pairs(&video.sip_to_web()), [(96, 96)]);
    assert_eq!(
        lines(&sip_answer(&sip(offer), &negotiated, &sip_local()), "m="),
        ["m=audio 40000 RTP/AVP 96", "m=video 40002 RTP/AVP 96"]
    );
}

#[test]
fn video_comes_back_into_the_place_where_it_was_rejected() {
    let peer = sip(&telephone("0", "").replace("m=video 30002", "m=video 0"));
    let negotiated = outgoing(&chromium_offer(), fixtures::SIP_ANSWER);
    let offer = web(&chromium_offer());
    let described = offer.described();
    let added = OfferedMedium::by_web(&described[1], &CodecPolicy::default()).unwrap();
    let sdp = sip_reoffer(&peer, &negotiated, Some(&added), &sip_local()).unwrap();
    assert_eq!(
        lines(&sdp, "m="),
        [
            "m=audio 40000 RTP/AVP 8 126",
            "m=video 40002 RTP/AVP 96 102 104 108 98 100 45",
        ]
    );
    let never_had = sip(fixtures::SIP_ANSWER);
    let appended = sip_reoffer(&never_had, &negotiated, Some(&added), &sip_local()).unwrap();
    assert_eq!(lines(&appended, "m="), lines(&sdp, "m="));
}
