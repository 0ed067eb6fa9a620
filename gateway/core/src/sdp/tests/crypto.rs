//! `a=crypto`: what of it is read, refused, chosen and written.

use super::*;
use crate::Random;
use flow::Suite;

const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

fn random() -> Random {
    let mut next = 0_u8;
    Random::new(move |bytes| {
        for byte in bytes {
            next = next.wrapping_mul(37).wrapping_add(11);
            *byte = next;
        }
    })
}

fn policy(usage: SrtpUse) -> SrtpPolicy {
    SrtpPolicy {
        usage,
        suites: Suite::ALL.to_vec(),
    }
}

/// The answer of the SIP side over a profile, with these values of `a=crypto`.
fn with(profile: &str, values: &[&str]) -> SipSession {
    let mut text = fixtures::SIP_ANSWER.replace("RTP/AVP", profile);
    for value in values {
        text.push_str(&format!("a=crypto:{value}\r\n"));
    }
    sip(&text)
}

fn offered(profile: &str, values: &[&str], usage: SrtpUse) -> Result<Option<Suite>, String> {
    let (mut session, policy) = (with(profile, values), policy(usage));
    session.settle(&policy, &policy.keys(&mut random()), true);
    suite_of(&session)
}

fn suite_of(session: &SipSession) -> Result<Option<Suite>, String> {
    let audio = session.audio().map_err(|error| error.to_string())?;
    Ok(audio.srtp.as_ref().map(Srtp::suite))
}

#[test]
fn lines_of_phones_are_read() {
    let line = |rest: &str| format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{rest}");
    for rest in [
        "",
        "|2^31",
        "|1048576",
        " WSH=64",
        " WSH=128 -x=1",
        "|2^20 -unknown",
    ] {
        let suite = offered("RTP/SAVP", &[&line(rest)], SrtpUse::Accept);
        assert_eq!(suite, Ok(Some(Suite::AesCm128HmacSha1_80)), "{rest}");
    }
    // A GCM key ends in padding, which some leave out.
    for key in [
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw==",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw",
    ] {
        let line = format!("2 AEAD_AES_128_GCM inline:{key}");
        let suite = offered("RTP/SAVPF", &[&line], SrtpUse::Accept);
        assert_eq!(suite, Ok(Some(Suite::AeadAes128Gcm)));
    }
}

#[test]
fn lines_that_would_weaken_or_change_the_packets_are_refused_with_a_reason() {
    for (rest, reason) in [
        ("|2^31|1:4", "a=crypto with an MKI"),
        ("|1:4", "a=crypto with an MKI"),
        (";inline:x", "a=crypto with several keys"),
        (" UNENCRYPTED_SRTP", "a=crypto without full protection"),
        (" UNENCRYPTED_SRTCP", "a=crypto without full protection"),
        (" UNAUTHENTICATED_SRTP", "a=crypto without full protection"),
        (" KDR=1", "a=crypto with a KDR"),
        (" WSH=63", "a=crypto with a WSH that is not 64 to 128"),
        (" WSH=1000", "a=crypto with a WSH that is not 64 to 128"),
        (" FEC_ORDER=FEC_SRTP", "a=crypto with an unknown parameter"),
        ("|2^", "a=crypto is broken"),
        ("|", "a=crypto is broken"),
        ("AAAA", "a=crypto with a key of a wrong length"),
        ("!", "a=crypto is broken"),
    ] {
        let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{rest}");
        let refused = offered("RTP/SAVP", &[&line], SrtpUse::Accept);
        assert_eq!(
            refused,
            Err(format!("audio over RTP/SAVP: {reason}")),
            "{rest}"
        );
    }
    for (line, reason) in [
        (
            "1 F8_128_HMAC_SHA1_80 inline:x",
            "a=crypto with an unknown suite",
        ),
        (
            "1 AES_CM_128_HMAC_SHA1_80 uri:x",
            "a=crypto without an inline key",
        ),
        ("x AES_CM_128_HMAC_SHA1_80 inline:x", "a=crypto is broken"),
        (
            "1234567890 AES_CM_128_HMAC_SHA1_80 inline:x",
            "a=crypto is broken",
        ),
        ("1 AES_CM_128_HMAC_SHA1_80", "a=crypto is broken"),
        ("", "no a=crypto of a suite in use"),
    ] {
        let refused = offered("RTP/SAVP", &[line], SrtpUse::Accept);
        let known = refused.unwrap_err();
        assert!(known.contains(reason) || line.is_empty(), "{line}: {known}");
    }
}

#[test]
fn what_an_offer_gets_depends_on_the_policy() {
    use SrtpUse::{Accept, Off, Offer, Require};
    let line = format!("1 AES_CM_128_HMAC_SHA1_32 inline:{KEY}");
    let srtp = Ok(Some(Suite::AesCm128HmacSha1_32));
    let refused = |text: &str| Err(text.to_string());
    for (profile, lines, usage, expected) in [
        ("RTP/AVP", &[][..], Off, Ok(None)),
        ("RTP/AVP", &[], Accept, Ok(None)),
        ("RTP/AVP", &[], Offer, Ok(None)),
        (
            "RTP/AVP",
            &[],
            Require,
            refused("plain audio, where SRTP is required"),
        ),
        ("RTP/AVP", &[line.as_str()], Off, Ok(None)),
        ("RTP/AVP", &[line.as_str()], Accept, srtp.clone()),
        ("RTP/AVPF", &[line.as_str()], Require, srtp.clone()),
        ("RTP/SAVP", &[line.as_str()], Accept, srtp.clone()),
        ("RTP/SAVP", &[line.as_str()], Require, srtp.clone()),
        (
            "RTP/SAVP",
            &[line.as_str()],
            Off,
            refused("audio over RTP/SAVP: SRTP is off here"),
        ),
        (
            "RTP/SAVP",
            &[],
            Accept,
            refused("audio over RTP/SAVP: no a=crypto of a suite in use"),
        ),
    ] {
        assert_eq!(
            offered(profile, lines, usage),
            expected,
            "{profile} {lines:?} {usage:?}"
        );
    }
}

#[test]
fn the_peers_order_decides_among_the_suites_in_use() {
    let lines = [
        format!("7 AES_CM_128_HMAC_SHA1_32 inline:{KEY}"),
        format!("9 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
    ];
    let lines = lines.each_ref().map(String::as_str);
    let mut session = with("RTP/SAVP", &lines);
    let policy = SrtpPolicy {
        usage: SrtpUse::Accept,
        suites: vec![Suite::AeadAes128Gcm, Suite::AesCm128HmacSha1_80],
    };
    session.settle(&policy, &policy.keys(&mut random()), true);
    let negotiated = outgoing(&fixtures::chromium(), fixtures::SIP_ANSWER);
    let answer = sip_answer(&session, &negotiated, &sip_local());
    assert_eq!(lines_of(&answer, "m="), ["m=audio 40000 RTP/SAVP 8 126"]);
    let crypto = lines_of(&answer, "a=crypto");
    let [line] = crypto[..] else {
        panic!("one line: {crypto:?}");
    };
    assert!(line.starts_with("a=crypto:9 AES_CM_128_HMAC_SHA1_80 inline:"));
    assert!(!line.contains(KEY), "our own key");
    // The other side reads what we write, and finds its own line and ours.
    let mut theirs = sip(&answer);
    let own = with("RTP/SAVP", &lines).media[0].crypto.clone();
    theirs.settle(&policy, &own, false);
    let (ours, theirs) = (&session.media[0], &theirs.media[0]);
    let (ours, theirs) = (ours.srtp.as_ref().unwrap(), theirs.srtp.as_ref().unwrap());
    assert!(ours.local.is_same(&theirs.remote) && ours.remote.is_same(&theirs.local));
    assert!(!ours.local.is_same(&ours.remote));
}

fn lines_of<'a>(sdp: &'a str, prefix: &str) -> Vec<&'a str> {
    lines(sdp, prefix)
}

#[test]
fn an_answer_has_to_take_a_line_that_was_offered() {
    let (policy, mut random) = (policy(SrtpUse::Offer), random());
    let ours = policy.keys(&mut random);
    let answered = |values: &[&str]| {
        let mut answer = with("RTP/AVP", values);
        answer.settle(&policy, &ours, false);
        suite_of(&answer)
    };
    assert_eq!(answered(&[]), Ok(None), "a peer that does not know it");
    let line = |tag: u32| format!("{tag} AES_CM_128_HMAC_SHA1_80 inline:{KEY}");
    assert_eq!(answered(&[&line(1)]), Ok(Some(Suite::AesCm128HmacSha1_80)));
    let foreign = Err("the audio's a=crypto was not offered".to_string());
    assert_eq!(answered(&[&line(2)]), foreign, "the tag of another suite");
    assert_eq!(answered(&[&line(77)]), foreign);
}

#[test]
fn offers_show_a_key_per_suite_under_the_policys_profile() {
    for (usage, profile, count) in [
        (SrtpUse::Off, "RTP/AVP", 0),
        (SrtpUse::Offer, "RTP/AVP", 6),
        (SrtpUse::Require, "RTP/SAVP", 6),
    ] {
        let policy = policy(usage);
        let local = SipLocal {
            profile: policy.profile().into(),
            crypto: policy.keys(&mut random()),
            ..sip_local()
        };
        let web = web(&fixtures::chromium_audio());
        let (offer, _) = sip_offer(&web, &CodecPolicy::default(), &local).unwrap();
        assert!(lines(&offer, "m=")[0].contains(profile), "{offer}");
        let crypto = lines(&offer, "a=crypto:");
        assert_eq!(crypto.len(), count);
        for (line, suite) in crypto.iter().zip(Suite::ALL) {
            assert!(line.contains(suite.name()), "{line}");
        }
        let shown = format!("{local:?}");
        assert!(crypto.iter().all(|line| {
            let key = line.split("inline:").nth(1).unwrap();
            !shown.contains(key)
        }));
    }
}

#[test]
fn video_that_is_not_protected_as_the_audio_is_not_taken() {
    let line = |suite: &str| format!("a=crypto:1 {suite} inline:{KEY}\r\n");
    let (long, short) = (
        line("AES_CM_128_HMAC_SHA1_80"),
        line("AES_CM_128_HMAC_SHA1_32"),
    );
    for (audio, video, taken) in [
        ("", "", true),
        (&long[..], &long[..], true),
        (&long, "", false),
        (&long, &short, false),
    ] {
        let text = format!(
            "{}{audio}m=video 30002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n{video}",
            fixtures::SIP_ANSWER
        );
        let (mut session, policy) = (sip(&text), policy(SrtpUse::Accept));
        session.settle(&policy, &policy.keys(&mut random()), true);
        assert!(session.audio().is_ok());
        assert_eq!(session.video().is_some(), taken, "{audio} {video}");
    }
}
