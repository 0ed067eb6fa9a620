//! What PBXs do to a page's calls: no offer, reliable early media, UPDATE, data, messages, transfers.

use super::world::{PEER_RTP, World};
use super::{
    SECOND, accept_answer, await_connected, callee, connect, ended, idle, incoming, place,
    register, sip_sdp, talk,
};
use gateway_core::api::{
    Answer, CallId, Content, Event, OutgoingMessage, Problem, Reject, Reply, Request, SessionId,
    Transfer,
};
use gateway_core::sip;

fn alice(world: &mut World) -> SessionId {
    match register(world, "alice") {
        Ok(Reply::SessionCreated(created)) => created.id,
        _ => panic!("registered"),
    }
}

/// A call of the SIP side without an offer, and the offer that it gets in the 200.
fn asked(world: &mut World, session: &SessionId) -> (CallId, sip::CallHandle, String) {
    let user = world.contact_user.clone().expect("REGISTER came");
    let invite = sip::Invite {
        to: format!("sip:{user}@10.0.0.1:5060"),
        from: "sip:bob@example.org".into(),
        sdp: None,
        ..sip::Invite::default()
    };
    let call = world.peer.invite(world.now, invite).expect("a good URI");
    world.settle();
    let (id, offer) = incoming(world);
    let answer = world.page.answer(&offer);
    let request = Request::Answer(session.clone(), id.clone(), Answer { answer });
    assert!(world.request(request).is_ok());
    let sdp = world.peer_event("the offer", |event| match event {
        sip::Event::Offered { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    (id, call, sdp)
}

#[test]
fn a_call_without_an_offer_gets_what_the_page_chose_and_the_ack_answers() {
    let mut world = World::new(40);
    let session = alice(&mut world);
    let (id, call, offer) = asked(&mut world, &session);
    assert!(offer.contains("m=audio"), "{offer}");
    assert!(offer.contains("RTP/AVP 0"), "G.711: {offer}");
    // Answered once is answered.
    let again = Request::Reject(session.clone(), id, Reject { status: None });
    let problem = world.request(again).map(|_| ()).unwrap_err();
    assert_eq!(problem.status, 409);
    let answer = sip_sdp("0 101", "sendrecv", PEER_RTP);
    world.peer.answer_offer(world.now, call, 0, Ok(answer));
    world.settle();
    await_connected(&mut world);
    talk(&mut world, 1, 50);
    world.advance(SECOND);
    assert_eq!((world.peer_heard.len(), world.page.heard.len()), (50, 50));
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn a_call_without_an_offer_whose_ack_answers_nothing_ends() {
    let mut world = World::new(41);
    let session = alice(&mut world);
    let (_, call, _) = asked(&mut world, &session);
    world.peer.answer_offer(world.now, call, 0, Err(488));
    world.settle();
    let (_, status) = ended(&mut world);
    assert_ne!(status, None);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn a_page_that_hangs_up_before_the_ack_ends_the_call_on_both_sides() {
    let mut world = World::new(42);
    let session = alice(&mut world);
    let (id, call, _) = asked(&mut world, &session);
    assert!(world.request(Request::HangUp(session.clone(), id)).is_ok());
    let answer = sip_sdp("0", "sendrecv", PEER_RTP);
    world.peer.answer_offer(world.now, call, 0, Ok(answer));
    world.peer_event("BYE", |event| {
        matches!(event, sip::Event::Ended { by_peer: true, .. }).then_some(())
    });
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn reliable_early_media_is_changed_by_update_and_kept_through_the_answer() {
    let mut world = World::new(43);
    let session = world.guest();
    place(&mut world, &session, "echo").unwrap();
    let theirs = callee(&mut world);
    let early = sip_sdp("0 101", "sendrecv", PEER_RTP);
    let now = world.now;
    world.peer.provisional(now, theirs, 183, Some(early));
    world.settle();
    accept_answer(&mut world);
    await_connected(&mut world);
    talk(&mut world, 1, 10);
    // The announcement server hands over to another one, which does not listen.
    let other = "10.0.0.3:7300";
    let now = world.now;
    let changed = sip_sdp("0 101", "sendonly", other);
    world.peer.update(now, theirs, changed);
    world.peer_event("the answer to UPDATE", |event| {
        matches!(event, sip::Event::ReinviteAnswered { sdp: Some(sdp), .. } if sdp.contains("a=recvonly"))
            .then_some(())
    });
    let held = world.event("call.held", |event| match event {
        Event::Held { held, .. } => Some(*held),
        _ => None,
    });
    assert!(held);
    let now = world.now;
    let kept = sip_sdp("0 101", "sendrecv", PEER_RTP);
    world.peer.accept(now, theirs, kept);
    world.event("call.answered", |event| {
        matches!(event, Event::Answered { .. }).then_some(())
    });
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn data_goes_both_ways_inside_an_answered_call_only() {
    let mut world = World::new(45);
    let session = world.guest();
    let call = place(&mut world, &session, "echo").unwrap();
    let form = Content {
        content_type: "application/x-www-form-urlencoded".into(),
        body: "k=v&umlaut=%C3%A4".into(),
    };
    let send = |world: &mut World| -> Result<(), Problem> {
        let request = Request::Info(session.clone(), call.clone(), form.clone());
        world.request(request).map(|_| ())
    };
    assert_eq!(send(&mut world).unwrap_err().status, 409);
    let theirs = callee(&mut world);
    let now = world.now;
    let answer = sip_sdp("0 101", "sendrecv", PEER_RTP);
    world.peer.accept(now, theirs, answer);
    world.settle();
    accept_answer(&mut world);
    await_connected(&mut world);
    send(&mut world).unwrap();
    let got = world.peer_event("INFO", |event| match event {
        sip::Event::Info { content, .. } => Some(content.clone()),
        _ => None,
    });
    assert_eq!(got.content_type, form.content_type);
    assert_eq!(got.body, form.body.as_bytes());
    let status = world.event("call.info_sent", |event| match event {
        Event::InfoSent { status, .. } => Some(*status),
        _ => None,
    });
    assert_eq!(status, 200);
    let now = world.now;
    world.peer.info(now, theirs, got).unwrap();
    let back = world.event("call.info", |event| match event {
        Event::Info { content, .. } => Some(content.clone()),
        _ => None,
    });
    assert_eq!(back, form);
    assert!(world.request(Request::EndSession(session.clone())).is_ok());
    idle(&mut world);
}

#[test]
fn the_page_transfers_its_call_blind_and_is_told_how_it_goes() {
    let mut world = World::new(46);
    let (session, call, theirs) = connect(&mut world);
    let blind = Transfer {
        to: Some("carol".into()),
        call: None,
    };
    let request = Request::Transfer(session.clone(), call.clone(), blind);
    assert!(world.request(request).is_ok());
    let (to, by) = world.peer_event("REFER", |event| match event {
        sip::Event::Refer {
            to, referred_by, ..
        } => Some((to.clone(), referred_by.clone())),
        _ => None,
    });
    assert!(to.starts_with("sip:carol@"), "{to}");
    assert!(by.is_some());
    let now = world.now;
    world.peer.answer_refer(now, theirs, Ok(()));
    world.peer.refer_progress(now, theirs, 486, "Busy Here");
    let told = world.event("the end of the transfer", |event| match event {
        Event::Transfer {
            status, over: true, ..
        } => Some(*status),
        _ => None,
    });
    assert_eq!(told, 486);
    for bad in [
        Transfer {
            to: None,
            call: None,
        },
        Transfer {
            to: None,
            call: Some(call.clone()),
        },
    ] {
        let request = Request::Transfer(session.clone(), call.clone(), bad);
        let problem = world.request(request).map(|_| ()).unwrap_err();
        assert_eq!(problem.status, 422);
    }
    // Whom a page calls only the page decides, where nothing else is configured.
    let now = world.now;
    let refer = sip::Refer {
        to: Some("sip:premium@example.org".into()),
        ..sip::Refer::default()
    };
    world.peer.refer(now, theirs, refer).unwrap();
    let status = world.peer_event("the refusal", |event| match event {
        sip::Event::Transfer { status, .. } => Some(*status),
        _ => None,
    });
    assert_eq!(status, 603);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn the_page_is_told_what_the_server_says_of_the_caller() {
    let mut world = World::new(48);
    let session = alice(&mut world);
    let user = world.contact_user.clone().expect("REGISTER came");
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let invite = sip::Invite {
        to: format!("sip:{user}@10.0.0.1:5060"),
        from: "sip:anonymous@anonymous.invalid".into(),
        sdp: Some(sip_sdp("0 8", "sendrecv", PEER_RTP)),
        headers: vec![
            header(
                "P-Asserted-Identity",
                "\"Bob, B.\" <sip:bob@example.org>, <tel:+1555>",
            ),
            header("Diversion", "<sip:boss@example.org>;reason=no-answer"),
            header("History-Info", "<sip:a@example.org>;index=1"),
            header("history-info", "<sip:b@example.org>;index=1.1"),
        ],
        ..sip::Invite::default()
    };
    world.peer.invite(world.now, invite).expect("a good URI");
    world.settle();
    let origin = world.event("call.incoming", |event| match event {
        Event::Incoming { origin, .. } => Some(origin.clone()),
        _ => None,
    });
    assert_eq!(
        origin.asserted_identity,
        ["\"Bob, B.\" <sip:bob@example.org>", "<tel:+1555>"]
    );
    assert_eq!(
        origin.diversion,
        ["<sip:boss@example.org>;reason=no-answer"]
    );
    assert_eq!(origin.history_info.len(), 2);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn messages_reach_the_page_and_come_back_from_it() {
    let mut world = World::new(47);
    let session = alice(&mut world);
    let content = Content {
        content_type: "text/plain".into(),
        body: "hello".into(),
    };
    let to = OutgoingMessage {
        to: "bob".into(),
        content: content.clone(),
    };
    let id = world.ask(Request::Message(session.clone(), to));
    let request = world.peer_event("MESSAGE", |event| match event {
        sip::Event::Message {
            request, content, ..
        } => {
            assert_eq!(content.body, b"hello");
            Some(*request)
        }
        _ => None,
    });
    let now = world.now;
    world.peer.answer_request(now, request, 202);
    world.settle();
    world.advance(SECOND);
    match world.reply(id) {
        Some(Ok(Reply::MessageAnswered(answered))) => assert_eq!(answered.status, 202),
        _ => panic!("the answer to the message"),
    }
    let user = world.contact_user.clone().expect("REGISTER came");
    for (user, status) in [(user.as_str(), 200), ("nobody", 404)] {
        let message = sip::InstantMessage {
            to: format!("sip:{user}@10.0.0.1:5060"),
            from: "sip:bob@example.org".into(),
            content: content.clone().into(),
            ..sip::InstantMessage::default()
        };
        let now = world.now;
        world.peer.message(now, message).unwrap();
        let answered = world.peer_event("the answer", |event| match event {
            sip::Event::MessageAnswered { status, .. } => Some(*status),
            _ => None,
        });
        assert_eq!(answered, status);
    }
    let got = world.event("session.message", |event| match event {
        Event::Message {
            from,
            call: None,
            content,
            ..
        } => Some((from.clone(), content.clone())),
        _ => None,
    });
    assert_eq!(got, ("sip:bob@example.org".into(), content));
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn a_phone_with_rtp_and_rtcp_on_one_port_gets_its_reports_there() {
    let mut world = World::new(49);
    let session = alice(&mut world);
    let user = world.contact_user.clone().expect("REGISTER came");
    let offer = format!("{}a=rtcp-mux\r\n", sip_sdp("0", "sendrecv", PEER_RTP));
    let invite = sip::Invite {
        to: format!("sip:{user}@10.0.0.1:5060"),
        from: "sip:bob@example.org".into(),
        sdp: Some(offer),
        ..sip::Invite::default()
    };
    world.peer.invite(world.now, invite).expect("a good URI");
    world.settle();
    let (id, offer) = incoming(&mut world);
    let answer = world.page.answer(&offer);
    let answer = Request::Answer(session.clone(), id, Answer { answer });
    assert!(world.request(answer).is_ok());
    await_connected(&mut world);
    talk(&mut world, 1, 50);
    world.advance(10 * SECOND);
    let reports = world.peer_heard.iter().filter(|packet| packet[1] == 200);
    assert!(reports.count() > 0, "no sender report on the port of RTP");
    assert_eq!(world.peer_rtcp.len(), 0);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}
