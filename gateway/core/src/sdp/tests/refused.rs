//! What bad or unusable descriptions get: a status and a line that says why.

use super::*;

fn web_error(sdp: &str) -> (u16, String) {
    let error = WebSession::parse(sdp).unwrap_err();
    (error.status(), error.to_string())
}

fn without(sdp: &str, prefix: &str) -> String {
    sdp.split_inclusive("\r\n")
        .filter(|line| !line.starts_with(prefix))
        .collect()
}

fn sip_error(sdp: &str) -> (u16, String) {
    let error = SipSession::parse(sdp)
        .and_then(|session| session.audio().cloned())
        .unwrap_err();
    (error.status(), error.to_string())
}

#[test]
fn a_browser_without_what_we_need_is_told() {
    let offer = fixtures::chromium_audio();
    let session_wide = fixtures::firefox();
    for (sdp, text) in [
        (
            without(&offer, "a=ice-pwd"),
            "a=ice-ufrag or a=ice-pwd is missing",
        ),
        (
            without(&offer, "a=ice-ufrag"),
            "a=ice-ufrag or a=ice-pwd is missing",
        ),
        (
            without(&offer, "a=fingerprint"),
            "no a=fingerprint with SHA-256, SHA-384 or SHA-512",
        ),
        (
            without(&session_wide, "a=fingerprint"),
            "no a=fingerprint with SHA-256, SHA-384 or SHA-512",
        ),
        (without(&offer, "a=rtcp-mux"), "a=rtcp-mux is missing"),
        (
            offer.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"),
            "the audio is RTP/AVP, not DTLS-SRTP",
        ),
        (
            offer.replace("m=audio 50312", "m=audio 0"),
            "no audio that is not rejected",
        ),
        (
            offer.replace("m=audio", "m=video"),
            "no audio that is not rejected",
        ),
        (
            without(&fixtures::chromium(), "a=group"),
            "several media without BUNDLE",
        ),
        (
            fixtures::chromium().replace("BUNDLE 0 1", "BUNDLE 0"),
            "several media without BUNDLE",
        ),
        (
            offer.replace("setup:actpass", "setup:holdconn"),
            "a=setup:holdconn is not supported",
        ),
    ] {
        assert_eq!(web_error(&sdp), (488, text.to_string()));
    }
}

/// Row S-25: browsers have no SDES any more, and RFC 8827 section 6.5 forbids it to whoever talks to one.
#[test]
fn sdes_of_a_page_is_left_out_of_the_answer_and_alone_refused() {
    const CRYPTO: &str =
        "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR\r\n";
    let beside = fixtures::chromium_audio() + CRYPTO;
    let negotiated = outgoing(&beside, fixtures::SIP_ANSWER);
    let setup = web(&beside).setup.answer(Setup::Passive);
    let answer = web_answer(&web(&beside), &negotiated, &Ours::new().web(setup));
    assert_eq!(lines(&answer, "a=crypto"), Vec::<&str>::new());
    assert_eq!(lines(&answer, "a=fingerprint").len(), 1, "{answer}");
    let refused = "SDES (a=crypto) without DTLS-SRTP is not taken from a page";
    assert_eq!(
        web_error(&without(&beside, "a=fingerprint")),
        (488, refused.to_string())
    );
}

#[test]
fn what_is_no_sdp_is_malformed() {
    for sdp in [
        "",
        "hello",
        "{\"type\":\"offer\"}",
        "v=1\r\n",
        "v=0\r\no=- 1\r\n",
        "v=0\r\nm=audio x RTP/AVP 0\r\n",
        "\u{0}\u{1}",
    ] {
        let error = WebSession::parse(sdp).unwrap_err();
        assert!(
            matches!(error, SdpError::Malformed(_)),
            "{sdp:?}: {error:?}"
        );
        assert!(
            SipSession::parse(sdp)
                .and_then(|session| session.audio().cloned())
                .is_err()
        );
    }
    let offer = fixtures::chromium_audio();
    assert_eq!(
        web_error(&offer.replace("ice-ufrag:Xy1z", "ice-ufrag:a:bcd")).0,
        400
    );
    assert_eq!(
        web_error(&offer.replace("ice-pwd:abcdefghij", "ice-pwd:")).0,
        400
    );
    assert_eq!(
        web_error(&offer.replace("setup:actpass", "setup:both")).0,
        400
    );
}

#[test]
fn sizes_are_bounded() {
    let long = format!("{}a=x:{}\r\n", fixtures::chromium(), "y".repeat(MAX_BYTES));
    assert_eq!(
        web_error(&long).1,
        "malformed session description: longer than 65535 bytes"
    );
    let lines = format!("{}{}", fixtures::chromium(), "a=x\r\n".repeat(5000));
    assert_eq!(
        web_error(&lines).1,
        "malformed session description: more than 4096 lines"
    );
    let media = format!(
        "{}{}",
        fixtures::SIP_OFFER,
        "m=audio 1 RTP/AVP 0\r\n".repeat(40)
    );
    assert_eq!(
        sip_error(&media).1,
        "malformed session description: more than 32 media"
    );
    let many = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=ssrc:1 x:y\r\n".repeat(100);
    let numbered: String = (0..500)
        .map(|ssrc| format!("a=ssrc:{ssrc} cname:a\r\n"))
        .collect();
    let session = web(&format!("{}{many}{numbered}", fixtures::chromium_audio()));
    assert_eq!(
        (
            session.audio().candidates.len(),
            session.audio().ssrcs.len()
        ),
        (64, 64)
    );
}

#[test]
fn reasons_are_one_bounded_line() {
    let error = WebSession::parse(&format!("v={}", "\u{7f}1".repeat(3000)))
        .unwrap_err()
        .to_string();
    assert!(
        error.chars().count() < 250 && !error.chars().any(char::is_control),
        "{error}"
    );
}

#[test]
fn a_name_for_an_address_is_refused() {
    let named = fixtures::SIP_ANSWER.replace("c=IN IP4 192.0.2.20", "c=IN IP4 media.example.com");
    let expected = "the address in c= or a=rtcp must be an IP address, not \"media.example.com\"";
    assert_eq!(sip_error(&named), (488, expected.to_string()));
    let rtcp = fixtures::SIP_ANSWER.replace("a=ptime:20", "a=rtcp:5 IN IP4 media.example.com");
    assert_eq!(sip_error(&rtcp), (488, expected.to_string()));
}

#[test]
fn addresses_that_are_not_unicast_are_refused() {
    for address in ["IP4 224.2.1.1/127", "IP6 ff02::1", "IP4 255.255.255.255"] {
        let (status, text) = sip_error(
            &fixtures::SIP_ANSWER.replace("IP4 192.0.2.20\r\nt=", &format!("{address}\r\nt=")),
        );
        assert_eq!(status, 488);
        assert!(text.ends_with("is not unicast"), "{text}");
    }
}

#[test]
fn audio_that_cannot_be_used_is_named() {
    let answer = fixtures::SIP_ANSWER;
    assert_eq!(
        sip_error(&answer.replace("audio 30000", "audio 0")).1,
        "the audio is rejected"
    );
    assert_eq!(
        sip_error(&answer.replace("m=audio", "m=image")).1,
        "no audio"
    );
    let sdes = sip_error(&answer.replace("RTP/AVP", "RTP/SAVP")).1;
    assert_eq!(sdes, "audio over RTP/SAVP is not supported here");
    assert_eq!(
        sip_error(&without(answer, "c=")),
        (
            400,
            "malformed session description: no c= line for the audio".into()
        )
    );
    assert_eq!(
        sip_error(&answer.replace("audio 30000", "audio 65535")).0,
        400
    );
    assert_eq!(
        sip_error(&answer.replace("a=ptime:20", "a=rtcp:none")).0,
        400
    );
}

#[test]
fn the_plain_audio_beside_a_secured_one_is_taken() {
    let both =
        fixtures::SIP_ANSWER.replace("m=audio 30000", "m=audio 29000 RTP/SAVP 8\r\nm=audio 30000");
    let session = sip(&both);
    assert_eq!(session.audio().unwrap().rtp.port(), 30_000);
    let answer = sip_answer(
        &session,
        &outgoing(&fixtures::chromium(), fixtures::SIP_ANSWER),
        &sip_local(),
    );
    assert_eq!(
        lines(&answer, "m="),
        ["m=audio 0 RTP/SAVP 8", "m=audio 40000 RTP/AVP 8 126"]
    );
}

#[test]
fn bad_addresses_of_media_that_we_reject_do_no_harm() {
    let offer = format!(
        "{}m=video 5000 RTP/AVP 31\r\nc=IN IP4 video.example.com\r\n",
        fixtures::SIP_ANSWER
    );
    assert_eq!(sip(&offer).media.len(), 2);
}

#[test]
fn latin_1_is_mended() {
    let mut bytes = fixtures::SIP_ANSWER.as_bytes().to_vec();
    let name = bytes
        .windows(6)
        .position(|window| window == b"s=call")
        .unwrap();
    bytes[name + 3] = 0xe9;
    let text = mend(&bytes);
    assert!(text.contains("s=c\u{e9}ll"));
    assert!(SipSession::parse(&text).is_ok());
    assert!(matches!(
        mend("s=Gr\u{fc}n".as_bytes()),
        std::borrow::Cow::Borrowed(_)
    ));
}

#[test]
fn bare_line_feeds_and_blank_lines_are_taken() {
    let lenient = format!("{}\n\n", fixtures::chromium().replace("\r\n", "\n"));
    assert_eq!(web(&lenient), web(&fixtures::chromium()));
}

#[test]
fn empty_and_missing_session_lines_are_taken() {
    for name in ["s=", "s= ", "s=a b c", "s=-\r\ni=x\r\nb=AS:64\r\nz=0 0"] {
        let sdp = fixtures::SIP_ANSWER.replace("s=call", name);
        assert!(
            SipSession::parse(&sdp).is_ok(),
            "{name:?}: {:?}",
            SipSession::parse(&sdp)
        );
    }
    for line in ["s=", "t=", "o="] {
        assert!(
            SipSession::parse(&without(fixtures::SIP_ANSWER, line)).is_ok(),
            "{line}"
        );
    }
}
