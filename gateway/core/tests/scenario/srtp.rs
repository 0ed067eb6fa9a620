//! SRTP on the SIP side, with keys in the descriptions: rtc-srtp as the phone.

use super::*;
use flow::Suite;
use gateway_core::gateway::Latching;
use gateway_core::sdp::SrtpUse;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

/// Key and salt of the phone in base64, and as they are.
const PHONE: (&str, &[u8; 30]) = (
    "MDEyMzQ1Njc4OWFiY2RlZnNhbHQtb2YtMTQtb2N0",
    b"0123456789abcdefsalt-of-14-oct",
);
const OTHER: (&str, &[u8; 30]) = (
    "ZmVkY2JhOTg3NjU0MzIxMHNhbHQtb2YtMTQtb2N0",
    b"fedcba9876543210salt-of-14-oct",
);

/// One direction of the phone's SRTP.
fn context(key: &[u8]) -> Context {
    let provider = rtc_srtp::crypto::default_provider().unwrap();
    let profile = ProtectionProfile::Aes128CmHmacSha1_80;
    let (key, salt) = key.split_at(16);
    Context::new(key, salt, profile, None, None, provider.crypto()).unwrap()
}

/// The value of our `a=crypto` line with this suite.
fn our_line(sdp: &str, suite: &str) -> (String, Vec<u8>) {
    let line = sdp
        .lines()
        .find(|line| line.starts_with("a=crypto:") && line.contains(suite))
        .unwrap_or_else(|| panic!("a line with {suite} in {sdp}"));
    let (head, key) = line.split_once(" inline:").unwrap();
    let tag = head["a=crypto:".len()..].split(' ').next().unwrap();
    (tag.to_owned(), base64(key))
}

/// Enough of RFC 4648 for keys whose length is a multiple of three.
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let number = four.iter().fold(0_u32, |sum, byte| {
            sum << 6 | DIGITS.find(char::from(*byte)).unwrap() as u32
        });
        out.extend_from_slice(&number.to_be_bytes()[1..]);
    }
    out
}

fn secured(profile: &str, tag: &str, key: &str) -> String {
    let plain = sip_sdp("0 101", "sendrecv", PEER_RTP).replace("RTP/AVP", profile);
    format!("{plain}a=crypto:{tag} AES_CM_128_HMAC_SHA1_80 inline:{key}\r\n")
}

fn invited(world: &mut World) -> (sip::CallHandle, String) {
    world.peer_event("INVITE at the callee", |event| match event {
        sip::Event::Incoming { call, sdp, .. } => Some((*call, sdp.clone().unwrap())),
        _ => None,
    })
}

/// 20 packets each way under these keys; all have to arrive.
fn talk_secured(world: &mut World, first: u16, phone: &mut Context, ours: &mut Context) {
    let (page, peer) = (world.page.heard.len(), world.peer_heard.len());
    for index in first..first + 20 {
        let timestamp = u32::from(index) * 160;
        let now = world.now;
        world.page.speak(now, index.into(), timestamp, &[0x55; 160]);
        let plain = rtp(0, index, timestamp, 0xabcd, &[0xd5; 160]);
        let packet = phone.encrypt_rtp(&plain).unwrap().to_vec();
        world.peer_speaks(PEER_RTP, packet);
        world.advance(Duration::from_millis(20));
    }
    world.advance(SECOND);
    assert_eq!(
        world.page.heard.len(),
        page + 20,
        "the page hears the phone"
    );
    assert!(
        world.page.heard[page..]
            .iter()
            .all(|heard| heard.2 == [0xd5; 160])
    );
    assert_eq!(
        world.peer_heard.len(),
        peer + 20,
        "the phone hears the page"
    );
    for packet in &world.peer_heard[peer..] {
        let plain = ours.decrypt_rtp(packet).unwrap();
        assert_eq!(plain[12..], [0x55; 160]);
    }
}

/// An outgoing call to a phone that takes SRTP: its context, ours as the phone sees it.
fn call_secured(
    world: &mut World,
    session: &SessionId,
) -> (CallId, sip::CallHandle, Context, Context) {
    let call = place(world, session, "echo").unwrap();
    let (callee, offer) = invited(world);
    let (tag, ours) = our_line(&offer, "AES_CM_128_HMAC_SHA1_80");
    let answer = secured("RTP/AVP", &tag, PHONE.0);
    world.peer.accept(world.now, callee, answer);
    world.settle();
    accept_answer(world);
    await_connected(world);
    (call, callee, context(PHONE.1), context(&ours))
}

fn world(seed: u64, usage: SrtpUse) -> World {
    World::configured(seed, |config| config.trunks[0].srtp.usage = usage)
}

#[test]
fn every_suite_that_dtls_agrees_on_carries_media() {
    for suite in gateway_core::webrtc::DTLS_SUITES {
        let mut world = World::configured(307, |config| config.web.srtp_suites = vec![suite]);
        let (session, call, _) = connect(&mut world);
        talk(&mut world, 1, 20);
        world.advance(12 * SECOND);
        assert_eq!((world.page.heard.len(), world.peer_heard.len()), (20, 20));
        let Ok(Reply::Call(view)) = world.request(Request::Call(session, call)) else {
            panic!("a view");
        };
        assert_eq!(view.suite.as_deref(), Some(suite.name()));
        assert!(view.statistics.browser_rtt_ms.is_some(), "SRTCP both ways");
    }
}

#[test]
fn a_phone_that_takes_the_offered_srtp_hears_and_is_heard() {
    let mut world = world(301, SrtpUse::Offer);
    let session = world.guest();
    let (call, _, mut phone, mut ours) = call_secured(&mut world, &session);
    talk_secured(&mut world, 1, &mut phone, &mut ours);
    world.advance(12 * SECOND);
    assert!(!world.peer_rtcp.is_empty());
    for packet in &world.peer_rtcp {
        ours.decrypt_rtcp(packet).unwrap();
    }
    let missed = world.missed;
    world.peer_speaks(PEER_RTP, rtp(0, 60, 9600, 0xabcd, &[0xd5; 160]));
    world.advance(SECOND);
    assert_eq!(world.page.heard.len(), 20, "plain RTP is not taken");
    assert!(world.missed <= missed + 1);
    let Ok(Reply::Call(view)) = world.request(Request::Call(session, call)) else {
        panic!("a view");
    };
    assert_eq!(
        view.sip_suite.as_deref(),
        Some(Suite::AesCm128HmacSha1_80.name())
    );
}

#[test]
fn a_phone_without_srtp_gets_plain_rtp_unless_srtp_is_required() {
    let mut world = world(302, SrtpUse::Offer);
    connect(&mut world);
    talk(&mut world, 1, 10);
    world.advance(SECOND);
    assert_eq!(world.peer_heard.len(), 10);
    assert_eq!(world.peer_heard[0][12..], [0x55; 160]);

    let mut world = self::world(303, SrtpUse::Require);
    let session = world.guest();
    place(&mut world, &session, "echo").unwrap();
    let (callee, offer) = invited(&mut world);
    assert!(offer.contains(" RTP/SAVP "), "{offer}");
    let plain = sip_sdp("0 101", "sendrecv", PEER_RTP);
    world.peer.accept(world.now, callee, plain);
    world.settle();
    assert_eq!(ended(&mut world), ("gateway".into(), Some(488)));
    assert!(world.peer_heard.is_empty());
    idle(&mut world);
}

#[test]
fn a_new_key_in_a_reinvite_gets_a_new_key_and_media_goes_on() {
    let mut world = world(304, SrtpUse::Offer);
    let session = world.guest();
    let (_, callee, mut phone, mut ours) = call_secured(&mut world, &session);
    talk_secured(&mut world, 1, &mut phone, &mut ours);
    let reinvite = |world: &mut World, key| {
        let offer = secured("RTP/SAVP", "5", key);
        world.peer.reinvite(world.now, callee, offer);
        world.settle();
        let answer = world.peer_event("200 to the re-INVITE", |event| match event {
            sip::Event::ReinviteAnswered { sdp, .. } => sdp.clone(),
            _ => None,
        });
        let (tag, ours) = our_line(&answer, "AES_CM_128_HMAC_SHA1_80");
        assert_eq!(tag, "5");
        ours
    };
    let before = reinvite(&mut world, PHONE.0);
    talk_secured(&mut world, 21, &mut phone, &mut ours);
    let after = reinvite(&mut world, OTHER.0);
    assert_ne!(before, after);
    talk_secured(&mut world, 41, &mut context(OTHER.1), &mut context(&after));
}

#[test]
fn an_authentic_packet_moves_the_flow_and_a_forged_one_does_not() {
    let mut world = world(305, SrtpUse::Offer);
    let session = world.guest();
    let (_, _, mut phone, mut ours) = call_secured(&mut world, &session);
    talk_secured(&mut world, 1, &mut phone, &mut ours);
    let heard = world.page.heard.len();
    let moved = "10.0.0.2:7600";
    for index in 30_u16..34 {
        let plain = rtp(0, index, 4800, 0xabcd, &[0xd5; 160]);
        world.peer_speaks(moved, plain);
        world.advance(Duration::from_millis(20));
    }
    assert_eq!(world.page.heard.len(), heard, "not authentic");
    for index in 40_u16..45 {
        let plain = rtp(0, index, u32::from(index) * 160, 0xabcd, &[0xd5; 160]);
        let packet = phone.encrypt_rtp(&plain).unwrap().to_vec();
        world.peer_speaks(moved, packet);
        world.advance(Duration::from_millis(20));
    }
    assert_eq!(world.page.heard.len(), heard + 4, "the first one moves it");
}

#[test]
fn another_host_is_latched_where_the_mode_allows_it_and_only_with_the_ssrc_that_is_bound() {
    for (mode, near, far) in [
        (Latching::Signalled, false, false),
        (Latching::Subnet, true, false),
        (Latching::Symmetric, true, true),
    ] {
        for (source, allowed) in [("10.0.0.77:7000", near), ("198.51.100.1:7000", far)] {
            for ssrc in [0xabcd, 9] {
                let mut world = World::configured(306, |config| config.latching = mode);
                connect(&mut world);
                talk(&mut world, 1, 5);
                world.advance(SECOND);
                for index in 6..10 {
                    let timestamp = u32::from(index) * 160;
                    world.peer_speaks(source, rtp(0, index, timestamp, ssrc, &[0xd5; 160]));
                    world.advance(Duration::from_millis(20));
                }
                let latched = allowed && ssrc == 0xabcd;
                let heard = if latched { 5 + 3 } else { 5 };
                assert_eq!(world.page.heard.len(), heard, "{mode:?} {source} {ssrc:x}");
            }
        }
    }
}

#[test]
fn a_phone_that_offers_srtp_to_a_call_without_an_offer_gets_a_key_in_the_ack() {
    for usage in [SrtpUse::Accept, SrtpUse::Require] {
        let mut world = World::configured(308, |config| {
            config.trunks[0].srtp.usage = usage;
            config.trunks[0].codecs.video.clear();
        });
        let (session, call, callee) = offerless::calling(&mut world);
        let offer = secured("RTP/SAVP", "3", PHONE.0);
        world.peer.accept(world.now, callee, offer);
        world.settle();
        let (_, offer) = offerless::offered(&mut world);
        offerless::answer(&mut world, &session, &call, &offer);
        let answer = world.peer_event("ACK", |event| match event {
            sip::Event::Confirmed { sdp, .. } => sdp.clone(),
            _ => None,
        });
        let (tag, ours) = our_line(&answer, "AES_CM_128_HMAC_SHA1_80");
        assert_eq!(tag, "3");
        await_connected(&mut world);
        talk_secured(&mut world, 1, &mut context(PHONE.1), &mut context(&ours));
    }
}

#[test]
fn a_phone_without_srtp_is_refused_in_the_ack_where_srtp_is_required() {
    let mut world = world(309, SrtpUse::Require);
    let (_, _, callee) = offerless::calling(&mut world);
    let plain = sip_sdp("0 101", "sendrecv", PEER_RTP);
    world.peer.accept(world.now, callee, plain);
    assert_eq!(ended(&mut world), ("gateway".into(), Some(488)));
    idle(&mut world);
    world.advance(SECOND);
    let ack = world.sip_log.iter().find(|text| text.starts_with("ACK "));
    assert!(ack.unwrap().contains("m=audio 0 RTP/AVP 0"), "{ack:?}");
}
