//! What an agent's page does with its calls beside talking: digits, data, mute, and what happens when it is late, gone for a while, or
//! loaded again.

use super::page::Page;
use super::world::{PEER_RTP, World};
use super::*;
use gateway_core::api::{CallState, Candidates, Content, Data, Dtmf, Hold, Mute};
use gateway_core::gateway::Input;
use std::time::Instant;

fn alice(world: &mut World) -> SessionId {
    match register(world, "alice") {
        Ok(Reply::SessionCreated(created)) => created.id,
        _ => panic!("registered"),
    }
}

fn dtmf(digits: &str) -> Dtmf {
    Dtmf {
        digits: digits.into(),
        duration_ms: Some(200),
        gap_ms: Some(100),
    }
}

fn refused(world: &mut World, request: Request) -> Problem {
    world.request(request).map(|_| ()).unwrap_err()
}

/// The next digit at the SIP side, and when it came.
fn digit(world: &mut World) -> (Instant, String) {
    let body = world.peer_event("INFO", |event| match event {
        sip::Event::Info { content, .. } => {
            assert_eq!(content.content_type, "application/dtmf-relay");
            Some(String::from_utf8(content.body.clone()).unwrap())
        }
        _ => None,
    });
    (world.now, body)
}

#[test]
fn digits_go_to_the_sip_side_one_by_one_in_their_time() {
    let mut world = World::new(50);
    let session = world.guest();
    let call = place(&mut world, &session, "echo").unwrap();
    let digits = |digits: &str| Request::Dtmf(session.clone(), call.clone(), dtmf(digits));
    let early = refused(&mut world, digits("1"));
    assert_eq!((early.status, early.state), (409, Some(CallState::Calling)));
    let theirs = callee(&mut world);
    let answer = sip_sdp("0 101", "sendrecv", PEER_RTP);
    world.peer.accept(world.now, theirs, answer);
    world.settle();
    accept_answer(&mut world);
    await_connected(&mut world);
    for bad in ["", "12E", "0123456789012345678901234567890123456789"] {
        assert_eq!(refused(&mut world, digits(bad)).status, 422, "{bad}");
    }
    assert!(world.request(digits("5#")).is_ok());
    assert!(world.request(digits("d")).is_ok());
    let mut before: Option<Instant> = None;
    for wanted in ["5", "#", "D"] {
        let (at, body) = digit(&mut world);
        assert_eq!(body, format!("Signal={wanted}\r\nDuration=200\r\n"));
        if let Some(before) = before {
            let gap = (at - before).as_millis();
            assert!((280..=330).contains(&gap), "{gap} ms");
        }
        before = Some(at);
        let told = world.event("call.dtmf_sent", |event| match event {
            Event::DtmfSent { digit, status, .. } => Some((digit.clone(), *status)),
            _ => None,
        });
        assert_eq!(told, (wanted.to_owned(), 200));
    }
    // The other party holds: to whom should they go?
    let held = sip_sdp("0 101", "sendonly", PEER_RTP);
    world.peer.reinvite(world.now, theirs, held);
    world.event("call.held", |event| {
        matches!(event, Event::Held { held: true, .. }).then_some(())
    });
    let problem = refused(&mut world, digits("1"));
    assert_eq!(
        (problem.status, problem.state, problem.hold),
        (409, Some(CallState::Connected), Some(Hold::Sip))
    );
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn digits_and_data_are_answered_each_by_its_own_event() {
    let mut world = World::new(51);
    let (session, call, _) = connect(&mut world);
    let content = Content {
        content_type: "application/x-of-nobody".into(),
        body: "k=v".into(),
    };
    let request = Request::Dtmf(session.clone(), call.clone(), dtmf("1"));
    assert!(world.request(request).is_ok());
    let request = Request::Info(session.clone(), call, content);
    assert!(world.request(request).is_ok());
    let mut told = Vec::new();
    while told.len() < 2 {
        told.push(world.event("answers", |event| match event {
            Event::DtmfSent { status, .. } => Some(("digit", *status)),
            Event::InfoSent { status, .. } => Some(("data", *status)),
            _ => None,
        }));
    }
    // The peer knows no such data.
    assert_eq!(told, [("digit", 200), ("data", 415)]);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn data_of_a_call_are_headers_of_the_invite_both_ways() {
    let mut world = World::new(52);
    let session = alice(&mut world);
    let data = Data::from([("order".to_owned(), "42, urgent".to_owned())]);
    let body = CreateCall {
        to: "echo".into(),
        offer: Some(world.page.offer(false)),
        data: data.clone(),
        ..CreateCall::default()
    };
    let Ok(Reply::Call(view)) = world.request(Request::CreateCall(session.clone(), body)) else {
        panic!("a call");
    };
    assert_eq!(view.data, data);
    let headers = world.peer_event("INVITE", |event| match event {
        sip::Event::Incoming { headers, .. } => Some(headers.clone()),
        _ => None,
    });
    let carried = |(name, _): &(String, String)| name.starts_with("X-Data-");
    let headers: Vec<_> = headers.into_iter().filter(carried).collect();
    assert_eq!(
        headers,
        [("X-Data-order".to_owned(), "42%2C%20urgent".to_owned())]
    );
    let user = world.contact_user.clone().expect("REGISTER came");
    let invite = sip::Invite {
        to: format!("sip:{user}@10.0.0.1:5060"),
        from: "sip:bob@example.org".into(),
        sdp: Some(sip_sdp("0 8", "sendrecv", PEER_RTP)),
        headers,
        ..sip::Invite::default()
    };
    world.peer.invite(world.now, invite).unwrap();
    world.settle();
    let came = world.event("call.incoming", |event| match event {
        Event::Incoming { data, .. } => Some(data.clone()),
        _ => None,
    });
    assert_eq!(came, data);
    let many = CreateCall {
        to: "echo".into(),
        offer: Some(Page::new(world.now, "198.51.100.9:9".parse().unwrap()).offer(false)),
        data: (0..40)
            .map(|key| (key.to_string(), String::new()))
            .collect(),
        ..CreateCall::default()
    };
    let problem = refused(&mut world, Request::CreateCall(session.clone(), many));
    assert_eq!(problem.status, 422);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn whoever_follows_the_session_sees_that_the_microphone_is_off() {
    let mut world = World::new(53);
    let (session, call, _) = connect(&mut world);
    world.events.clear();
    for muted in [true, true, false] {
        let request = Request::Mute(session.clone(), call.clone(), Mute { muted });
        assert!(world.request(request).is_ok());
        let Ok(Reply::Call(view)) = world.request(Request::Call(session.clone(), call.clone()))
        else {
            panic!("a view");
        };
        assert_eq!(view.muted, muted);
    }
    let told = |event: &Event| match event {
        Event::Muted { muted, .. } => Some(*muted),
        _ => None,
    };
    let told: Vec<bool> = world.events.iter().filter_map(told).collect();
    assert_eq!(told, [true, false], "a change each");
}

#[test]
fn a_page_may_let_its_calls_ring_for_less_than_the_gateway_does() {
    let mut world = World::new(54);
    let sign_in = |no_answer_s| CreateSession {
        user: Some("alice".into()),
        password: Some("secret".into()),
        no_answer_s,
        ..CreateSession::default()
    };
    for wrong in [0, 4, 61] {
        let request = Request::CreateSession(sign_in(Some(wrong)), None);
        assert_eq!(refused(&mut world, request).status, 422, "{wrong}");
    }
    let request = Request::CreateSession(sign_in(Some(18)), None);
    let Ok(Reply::SessionCreated(created)) = world.request(request) else {
        panic!("registered");
    };
    let begin = world.now;
    call_page(&mut world);
    incoming(&mut world);
    let status = world.peer_event("the refusal", |event| match event {
        sip::Event::Rejected { status, .. } => Some(*status),
        _ => None,
    });
    assert_eq!(status, 480);
    let waited = (world.now - begin).as_secs();
    assert!((18..=19).contains(&waited), "{waited} s");
    assert_eq!(ended(&mut world), ("gateway".into(), Some(480)));
    // Nobody takes the page's own call.
    let begin = world.now;
    place(&mut world, &created.id, "echo").unwrap();
    callee(&mut world);
    world.peer_event("CANCEL", |event| {
        matches!(event, sip::Event::Cancelled { .. }).then_some(())
    });
    assert_eq!((world.now - begin).as_secs(), 18);
    assert_eq!(ended(&mut world), ("gateway".into(), Some(408)));
}

#[test]
fn what_would_change_a_call_that_is_over_is_told_so() {
    let mut world = World::new(55);
    let (session, call, _) = connect(&mut world);
    let again = |world: &mut World, request| {
        let problem = refused(world, request);
        (problem.status, problem.state)
    };
    let (own, id) = (session.clone(), call.clone());
    let answer = || {
        Request::Answer(
            own.clone(),
            id.clone(),
            Answer {
                answer: "v=0".into(),
            },
        )
    };
    let connected = Some(CallState::Connected);
    assert_eq!(again(&mut world, answer()), (409, connected));
    let hang_up = || Request::HangUp(own.clone(), id.clone());
    assert!(world.request(hang_up()).is_ok());
    let offer = Offer {
        offer: "v=0".into(),
    };
    let over = [
        answer(),
        Request::Offer(own.clone(), id.clone(), offer),
        Request::Reject(own.clone(), id.clone(), Reject { status: None }),
        Request::Dtmf(own.clone(), id.clone(), dtmf("1")),
        Request::Mute(own.clone(), id.clone(), Mute { muted: true }),
    ];
    for request in over {
        assert_eq!(again(&mut world, request), (409, Some(CallState::Ended)));
    }
    // What the end has done already is no conflict, and what never was is unknown.
    let candidates = Candidates {
        candidates: Vec::new(),
    };
    for request in [
        hang_up(),
        Request::Call(own.clone(), id.clone()),
        Request::Candidates(own.clone(), id.clone(), candidates),
        Request::Dtmf(own.clone(), CallId("never".into()), dtmf("1")),
    ] {
        assert_eq!(again(&mut world, request), (404, None));
    }
    idle(&mut world);
}

/// A page in a call whose gateway waits 15 s after the loss of consent.
fn patient(seed: u64) -> (World, SessionId, CallId) {
    let mut world = World::configured(seed, |config| {
        config.limits.reconnect = 15 * SECOND;
    });
    let (session, call, _) = connect(&mut world);
    talk(&mut world, 1, 20);
    (world, session, call)
}

/// Both hear `count` packets more.
fn goes_on(world: &mut World, first: u16, count: u16) {
    let before = (world.peer_heard.len(), world.page.heard.len());
    talk(world, first, count);
    world.advance(SECOND);
    let more = usize::from(count);
    assert_eq!(
        (world.peer_heard.len(), world.page.heard.len()),
        (before.0 + more, before.1 + more)
    );
}

fn restart_ice(world: &mut World, session: &SessionId, call: &CallId) {
    let offer = world.page.offer(true);
    let request = Request::Offer(session.clone(), call.clone(), Offer { offer });
    let Ok(Reply::Answered(answered)) = world.request(request) else {
        panic!("an answer");
    };
    world.page.accept_answer(&answered.answer);
    world.advance(2 * SECOND);
}

#[test]
fn a_page_that_was_cut_off_for_twenty_seconds_is_still_in_its_call() {
    let (mut world, session, call) = patient(56);
    world.cut = true;
    world.advance(20 * SECOND);
    world.cut = false;
    restart_ice(&mut world, &session, &call);
    goes_on(&mut world, 21, 50);
    assert!(world.request(Request::HangUp(session, call)).is_ok());
    idle(&mut world);
}

#[test]
fn a_page_that_lost_consent_is_sent_nothing_and_comes_back_to_its_call() {
    let (mut world, session, call) = patient(57);
    world.cut = true;
    // Consent runs out 30 s after the last check.
    world.advance(31 * SECOND);
    world.unheard.clear();
    for index in 0..100 {
        let packet = rtp(
            0,
            500 + index,
            80_000 + u32::from(index) * 160,
            0xabcd,
            &[1; 160],
        );
        world.peer_speaks(PEER_RTP, packet);
        world.advance(Duration::from_millis(50));
    }
    assert!(
        world.unheard.is_empty(),
        "media and reports stop with the consent"
    );
    world.cut = false;
    restart_ice(&mut world, &session, &call);
    goes_on(&mut world, 700, 50);
    let told = world.events.iter();
    let ends = told.filter(|event| matches!(event, Event::Ended { .. }));
    assert_eq!(ends.count(), 0);
    assert!(world.request(Request::HangUp(session, call)).is_ok());
    idle(&mut world);
}

#[test]
fn a_page_that_does_not_come_back_loses_its_call_after_the_patience() {
    let (mut world, _, _) = patient(58);
    world.cut = true;
    let begin = world.now;
    world.until(60 * SECOND, "the call ends", |world| {
        world.flow_count() == 0
    });
    let waited = (world.now - begin).as_secs();
    assert!((40..=46).contains(&waited), "{waited} s");
    assert_eq!(ended(&mut world).0, "gateway");
    idle(&mut world);
    let late = world.unheard.iter().filter(|at| **at > begin + 31 * SECOND);
    assert_eq!(late.count(), 0, "no farewell without consent");
}

#[test]
fn a_page_that_was_loaded_again_takes_its_call_over_with_another_connection() {
    let (mut world, session, call) = patient(59);
    let spoken: Vec<_> = world
        .peer_heard
        .iter()
        .map(|packet| packet[8..12].to_vec())
        .collect();
    world.page = Page::new(world.now, "198.51.100.7:51000".parse().unwrap());
    let offer = world.page.offer(false);
    let request = Request::Offer(session.clone(), call.clone(), Offer { offer });
    let Ok(Reply::Answered(answered)) = world.request(request) else {
        panic!("an answer");
    };
    world.page.accept_answer(&answered.answer);
    let now = world.now;
    world.page.handle_timeout(now);
    await_connected(&mut world);
    goes_on(&mut world, 21, 50);
    let last = world.peer_heard.last().unwrap();
    assert!(
        spoken.iter().all(|ssrc| ssrc[..] != last[8..12]),
        "an SSRC of the first connection"
    );
    // The first connection is no part of the call any more: its address has no route.
    assert!(world.request(Request::HangUp(session, call)).is_ok());
    idle(&mut world);
}

#[test]
fn a_call_without_an_offer_is_taken_by_an_offer_of_the_page() {
    let mut world = World::new(60);
    let session = alice(&mut world);
    let user = world.contact_user.clone().expect("REGISTER came");
    let invite = sip::Invite {
        to: format!("sip:{user}@10.0.0.1:5060"),
        from: "sip:bob@example.org".into(),
        sdp: None,
        ..sip::Invite::default()
    };
    let theirs = world.peer.invite(world.now, invite).expect("a good URI");
    world.settle();
    let id = world.event("call.incoming", |event| match event {
        Event::Incoming {
            call,
            without_offer,
            ..
        } => {
            assert!(*without_offer);
            Some(call.clone())
        }
        _ => None,
    });
    let wrong = Offer {
        offer: "v=0".into(),
    };
    let request = Request::Offer(session.clone(), id.clone(), wrong);
    assert_eq!(refused(&mut world, request).status, 400);
    let offer = world.page.offer(false);
    let request = || {
        Request::Offer(
            session.clone(),
            id.clone(),
            Offer {
                offer: offer.clone(),
            },
        )
    };
    assert!(matches!(world.request(request()), Ok(Reply::Done)));
    // Taken once is taken.
    assert_eq!(refused(&mut world, request()).status, 409);
    let sdp = world.peer_event("the offer", |event| match event {
        sip::Event::Offered { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    assert!(sdp.contains("RTP/AVP"), "{sdp}");
    let answer = sip_sdp("0 101", "sendrecv", PEER_RTP);
    world.peer.answer_offer(world.now, theirs, 0, Ok(answer));
    world.settle();
    accept_answer(&mut world);
    await_connected(&mut world);
    goes_on(&mut world, 1, 50);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn a_page_that_took_a_call_by_its_own_offer_and_hangs_up_before_the_ack_ends_it() {
    let mut world = World::new(61);
    let session = alice(&mut world);
    let user = world.contact_user.clone().expect("REGISTER came");
    let invite = sip::Invite {
        to: format!("sip:{user}@10.0.0.1:5060"),
        from: "sip:bob@example.org".into(),
        ..sip::Invite::default()
    };
    world.peer.invite(world.now, invite).expect("a good URI");
    world.settle();
    let (id, _) = incoming(&mut world);
    let offer = world.page.offer(false);
    let request = Request::Offer(session.clone(), id.clone(), Offer { offer });
    assert!(world.request(request).is_ok());
    assert!(world.request(Request::HangUp(session.clone(), id)).is_ok());
    world.gateway.handle(world.now, Input::Timeout);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}
