//! A SIP side that runs ICE and DTLS-SRTP itself: str0m as the phone, ice-lite or a full agent.

use super::*;
use crate::page::Page;
use gateway_core::sdp::SrtpUse;
use str0m::media::Direction;

const PHONE: &str = "10.0.0.9:7100";
const OTHER: &str = "10.0.0.8:7200";

/// A world whose trunk has this use of SRTP, with a phone.
fn world(seed: u64, usage: SrtpUse, lite: bool) -> World {
    let mut world = World::configured(seed, |config| config.trunks[0].srtp.usage = usage);
    let phone = Page::with_ice(world.now, PHONE.parse().unwrap(), lite);
    world.phones.push(phone);
    world
}

fn invited(world: &mut World) -> (sip::CallHandle, String) {
    world.peer_event("INVITE at the callee", |event| match event {
        sip::Event::Incoming { call, sdp, .. } => Some((*call, sdp.clone().unwrap())),
        _ => None,
    })
}

/// The page calls the phone, which answers.
fn connect(world: &mut World) -> (SessionId, CallId, sip::CallHandle, String) {
    let session = world.guest();
    let call = place(world, &session, "echo").unwrap();
    let (callee, offer) = invited(world);
    let answer = world.phones[0].answer(&offer);
    world.peer.accept(world.now, callee, answer);
    world.settle();
    accept_answer(world);
    await_connected(world);
    phone_is_connected(world, 0);
    (session, call, callee, offer)
}

fn phone_is_connected(world: &mut World, phone: usize) {
    world.until(10 * SECOND, "the phone is connected", |world| {
        world.phones[phone].connected
    });
}

/// 20 packets each way, all of which have to arrive.
fn talk_with(world: &mut World, phone: usize, first: u16) {
    let heard = |world: &World| (world.page.heard.len(), world.phones[phone].heard.len());
    let before = heard(world);
    for index in first..first + 20 {
        let (now, timestamp) = (world.now, u32::from(index) * 160);
        world.page.speak(now, index.into(), timestamp, &[0x55; 160]);
        world.phones[phone].speak(now, index.into(), timestamp, &[0xd5; 160]);
        world.advance(Duration::from_millis(20));
    }
    world.advance(SECOND);
    assert_eq!(
        heard(world),
        (before.0 + 20, before.1 + 20),
        "both hear all"
    );
    let last = |heard: &[(u64, u32, Vec<u8>)]| heard.last().unwrap().2[0];
    assert_eq!(last(&world.page.heard), 0xd5);
    assert_eq!(last(&world.phones[phone].heard), 0x55);
}

fn why_ended(world: &mut World) -> String {
    world.event("call.ended", |event| match event {
        Event::Ended { reason, .. } => Some(reason.clone()),
        _ => None,
    })
}

#[test]
fn an_ice_lite_phone_with_dtls_hears_and_is_heard() {
    let mut world = world(701, SrtpUse::Dtls, true);
    let (session, call, _, offer) = connect(&mut world);
    let audio = offer.lines().find(|line| line.starts_with("m=")).unwrap();
    assert!(audio.contains(" UDP/TLS/RTP/SAVPF "), "{offer}");
    for line in [
        "a=ice-ufrag:",
        "a=fingerprint:sha-256 ",
        "a=setup:actpass",
        "a=rtcp-mux",
    ] {
        assert!(offer.contains(line), "{line} in {offer}");
    }
    assert!(
        !offer.contains("a=ice-lite"),
        "a lite phone needs a full agent"
    );
    talk_with(&mut world, 0, 1);
    // Consent and RTCP reports of both legs go on.
    world.advance(90 * SECOND);
    talk_with(&mut world, 0, 21);
    let Ok(Reply::Call(view)) = world.request(Request::Call(session.clone(), call.clone())) else {
        panic!("a view");
    };
    assert_eq!(view.suite, view.sip_suite, "DTLS on both sides");
    assert!(
        view.statistics.sip_rtt_ms.is_some(),
        "SRTCP of the SIP side"
    );
    world
        .request(Request::HangUp(session, call))
        .map(|_| ())
        .unwrap();
    idle(&mut world);
}

#[test]
fn a_phone_that_is_a_full_agent_calls_a_page() {
    for (seed, usage) in [
        (702, SrtpUse::Accept),
        (703, SrtpUse::Require),
        (704, SrtpUse::Dtls),
    ] {
        let mut world = world(seed, usage, false);
        let Ok(Reply::SessionCreated(created)) = register(&mut world, "alice") else {
            panic!("registered");
        };
        let offer = world.phones[0].offer(false);
        let invite = sip::Invite {
            to: format!("sip:{}@10.0.0.1:5060", world.contact_user.clone().unwrap()),
            from: "sip:bob@example.org".into(),
            sdp: Some(offer),
            ..sip::Invite::default()
        };
        world.peer.invite(world.now, invite).unwrap();
        let (id, offer) = incoming(&mut world);
        let answer = world.page.answer(&offer);
        let request = Request::Answer(created.id, id, Answer { answer });
        world.request(request).map(|_| ()).unwrap();
        let answer = world.peer_event("200 at the caller", |event| match event {
            sip::Event::Answered { sdp, .. } => sdp.clone(),
            _ => None,
        });
        world.phones[0].accept_answer(&answer);
        let now = world.now;
        world.phones[0].handle_timeout(now);
        await_connected(&mut world);
        phone_is_connected(&mut world, 0);
        talk_with(&mut world, 0, 1);
    }
}

#[test]
fn a_phone_with_dtls_offers_in_its_answer_to_a_call_without_an_offer() {
    for (seed, lite) in [(705, false), (706, true)] {
        let mut world = world(seed, SrtpUse::Accept, lite);
        let (session, call, callee) = offerless::calling(&mut world);
        let offer = world.phones[0].offer(false);
        world.peer.accept(world.now, callee, offer);
        world.settle();
        let (_, offer) = offerless::offered(&mut world);
        offerless::answer(&mut world, &session, &call, &offer);
        let answer = world.peer_event("ACK", |event| match event {
            sip::Event::Confirmed { sdp, .. } => sdp.clone(),
            _ => None,
        });
        world.phones[0].accept_answer(&answer);
        let now = world.now;
        world.phones[0].handle_timeout(now);
        await_connected(&mut world);
        phone_is_connected(&mut world, 0);
        talk_with(&mut world, 0, 1);
    }
}

#[test]
fn loss_and_reordering_do_not_keep_a_dtls_phone_away() {
    for seed in 710..716 {
        let mut world = world(seed, SrtpUse::Dtls, seed % 2 == 0);
        world.loss_percent = 5;
        world.jitter = Duration::from_millis(20);
        connect(&mut world);
    }
}

#[test]
fn a_phone_with_another_certificate_than_it_announced_gets_nothing() {
    let mut world = world(720, SrtpUse::Dtls, true);
    let session = world.guest();
    place(&mut world, &session, "echo").unwrap();
    let (callee, offer) = invited(&mut world);
    let answer = world.phones[0].answer(&offer);
    let (head, rest) = answer.split_once("a=fingerprint:sha-256 ").unwrap();
    let forged = format!("{head}a=fingerprint:sha-256 00:00{}", &rest[5..]);
    world.peer.accept(world.now, callee, forged);
    world.settle();
    accept_answer(&mut world);
    assert!(why_ended(&mut world).starts_with("SIP leg: the DTLS certificate does not match"));
    assert_eq!(world.phones[0].heard.len(), 0);
    idle(&mut world);
}

#[test]
fn an_answer_without_dtls_is_not_taken_for_one_with_it() {
    for (seed, usage) in [(721, SrtpUse::Dtls), (722, SrtpUse::Accept)] {
        let mut world = world(seed, usage, true);
        let session = world.guest();
        place(&mut world, &session, "echo").unwrap();
        let (callee, offer) = invited(&mut world);
        let answer = if usage == SrtpUse::Dtls {
            sip_sdp("0", "sendrecv", PEER_RTP)
        } else {
            // An answer in the manner of DTLS to an offer without.
            let mut other = Page::new(world.now, OTHER.parse().unwrap());
            assert!(offer.contains("RTP/AVP"));
            other.offer(false)
        };
        world.peer.accept(world.now, callee, answer);
        world.settle();
        let (by, status) = ended(&mut world);
        assert_eq!((by.as_str(), status), ("gateway", Some(488)));
        idle(&mut world);
    }
}

#[test]
fn a_silent_dtls_phone_ends_the_call_by_consent() {
    let mut world = world(730, SrtpUse::Dtls, true);
    connect(&mut world);
    talk_with(&mut world, 0, 1);
    world.phones.clear();
    let begin = world.now;
    assert_eq!(
        why_ended(&mut world),
        "the SIP side is gone: ICE consent lost"
    );
    assert!(world.now - begin < 40 * SECOND);
    idle(&mut world);
}

#[test]
fn a_dtls_phone_that_never_answers_checks_ends_the_call() {
    let mut world = world(731, SrtpUse::Dtls, true);
    let session = world.guest();
    place(&mut world, &session, "echo").unwrap();
    let (callee, offer) = invited(&mut world);
    let answer = world.phones[0].answer(&offer);
    world.phones.clear();
    world.peer.accept(world.now, callee, answer);
    world.settle();
    accept_answer(&mut world);
    assert_eq!(why_ended(&mut world), "SIP leg: no connectivity in time");
    idle(&mut world);
}

/// A re-INVITE of the SIP side, and our answer.
fn reinvite(world: &mut World, callee: sip::CallHandle, offer: String) -> String {
    world.peer.reinvite(world.now, callee, offer);
    world.settle();
    world.peer_event("answer to the re-INVITE", |event| match event {
        sip::Event::ReinviteAnswered { sdp, .. } => sdp.clone(),
        _ => None,
    })
}

#[test]
fn a_dtls_phone_holds_resumes_and_restarts_ice() {
    let mut world = world(740, SrtpUse::Dtls, false);
    let (.., callee, _) = connect(&mut world);
    talk_with(&mut world, 0, 1);
    for (direction, held) in [(Direction::SendOnly, true), (Direction::SendRecv, false)] {
        let offer = world.phones[0].offer_audio(direction);
        let answer = reinvite(&mut world, callee, offer);
        world.phones[0].accept_answer(&answer);
        let told = world.event("call.held", |event| match event {
            Event::Held { held, .. } => Some(*held),
            _ => None,
        });
        assert_eq!(told, held);
    }
    talk_with(&mut world, 0, 21);
    let offer = world.phones[0].offer(true);
    let before = ufrag(&offer);
    let answer = reinvite(&mut world, callee, offer);
    assert_ne!(ufrag(&answer), before);
    world.phones[0].accept_answer(&answer);
    world.advance(5 * SECOND);
    talk_with(&mut world, 0, 41);
}

fn ufrag(sdp: &str) -> String {
    let mut lines = sdp.lines();
    let line = lines.find_map(|line| line.strip_prefix("a=ice-ufrag:"));
    line.unwrap().to_owned()
}

#[test]
fn another_party_with_a_certificate_of_its_own_takes_the_call_over() {
    let mut world = world(750, SrtpUse::Dtls, false);
    let (.., callee, _) = connect(&mut world);
    talk_with(&mut world, 0, 1);
    let mut other = Page::new(world.now, OTHER.parse().unwrap());
    let offer = other.offer(false);
    world.phones.push(other);
    let answer = reinvite(&mut world, callee, offer);
    world.phones[1].accept_answer(&answer);
    let now = world.now;
    world.phones[1].handle_timeout(now);
    phone_is_connected(&mut world, 1);
    world.advance(SECOND);
    talk_with(&mut world, 1, 21);
}

#[test]
fn a_call_does_not_leave_dtls() {
    let mut world = world(760, SrtpUse::Accept, false);
    let Ok(Reply::SessionCreated(created)) = register(&mut world, "alice") else {
        panic!("registered");
    };
    let offer = world.phones[0].offer(false);
    let invite = sip::Invite {
        to: format!("sip:{}@10.0.0.1:5060", world.contact_user.clone().unwrap()),
        from: "sip:bob@example.org".into(),
        sdp: Some(offer),
        ..sip::Invite::default()
    };
    let caller = world.peer.invite(world.now, invite).unwrap();
    let (id, offer) = incoming(&mut world);
    let answer = world.page.answer(&offer);
    let request = Request::Answer(created.id, id, Answer { answer });
    world.request(request).map(|_| ()).unwrap();
    let answer = world.peer_event("200 at the caller", |event| match event {
        sip::Event::Answered { sdp, .. } => sdp.clone(),
        _ => None,
    });
    world.phones[0].accept_answer(&answer);
    await_connected(&mut world);
    phone_is_connected(&mut world, 0);
    let plain = sip_sdp("0", "sendrecv", PEER_RTP);
    world.peer.reinvite(world.now, caller, plain);
    let status = world.peer_event("refusal", |event| match event {
        sip::Event::ReinviteFailed { status, .. } => Some(*status),
        _ => None,
    });
    assert_eq!(status, 488);
    talk_with(&mut world, 0, 1);
}
