//! The other party gives its place to another one: REFER by policy, INVITE with Replaces, and why calls end.

use super::world::{PEER_RTP, World};
use super::{SECOND, callee, connect, ended, idle, incoming, place, register, rtp, sip_sdp, talk};
use gateway_core::api::{Answer, CallId, Event, Referred, Reply, Request, SessionId};
use gateway_core::sip;
use gateway_core::trunk::ReferPolicy;

/// Where the party is that the call goes to.
pub(crate) const OTHER_RTP: &str = "10.0.0.2:7400";

pub(crate) fn world_with(seed: u64, policy: ReferPolicy) -> World {
    World::configured(seed, |config| config.trunks[0].refer = policy)
}

pub(crate) fn refer(world: &mut World, call: sip::CallHandle, replaces: Option<sip::CallHandle>) {
    let refer = sip::Refer {
        to: Some("sip:carol@example.org".into()),
        replaces,
        referred_by: Some("sip:echo@example.org".into()),
    };
    let now = world.now;
    world
        .peer
        .refer(now, call, refer)
        .expect("an answered call");
    world.settle();
}

/// The INVITE that follows: handle and headers.
pub(crate) fn followed(world: &mut World) -> (sip::CallHandle, Vec<(String, String)>) {
    world.peer_event("INVITE for carol", |event| match event {
        sip::Event::Incoming {
            call,
            to_uri,
            headers,
            ..
        } if to_uri.contains("carol") => Some((*call, headers.clone())),
        _ => None,
    })
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(header, _)| header == name);
    found.map(|(_, value)| value.as_str())
}

/// How the transfer goes, as the one who asked for it is told: the last word.
pub(crate) fn told(world: &mut World) -> u16 {
    world.peer_event("the end of the transfer", |event| match event {
        sip::Event::Transfer {
            status, over: true, ..
        } => Some(*status),
        _ => None,
    })
}

pub(crate) fn party(world: &mut World) -> String {
    world.event("call.party", |event| match event {
        Event::Party { peer, .. } => Some(peer.clone()),
        _ => None,
    })
}

/// The page is heard by the new party, and hears it.
pub(crate) fn talks_to_the_other(world: &mut World, first: u16) {
    world.peer_rtcp.clear();
    let heard = world.page.heard.len();
    for index in first..first + 20 {
        let (now, timestamp) = (world.now, u32::from(index) * 160);
        world
            .page
            .speak(now, u64::from(index), timestamp, &[0x55; 160]);
        let packet = rtp(0, index, timestamp, 0x0707_0707, &[0xd5; 160]);
        world.peer_speaks(OTHER_RTP, packet);
        world.advance(SECOND / 50);
    }
    world.advance(SECOND);
    let there = world.peer_rtcp.iter().filter(|packet| packet.len() == 172);
    assert_eq!(there.count(), 20, "what the new party hears");
    assert_eq!(world.page.heard.len() - heard, 20, "what the page hears");
}

#[test]
fn a_refer_is_followed_and_the_page_talks_to_the_new_party() {
    let mut world = world_with(901, ReferPolicy::Follow);
    let (session, call, theirs) = connect(&mut world);
    talk(&mut world, 1, 10);
    refer(&mut world, theirs, None);
    let (carol, headers) = followed(&mut world);
    assert_eq!(
        header(&headers, "Referred-By"),
        Some("<sip:echo@example.org>")
    );
    assert_eq!(header(&headers, "Replaces"), None);
    let now = world.now;
    world.peer.provisional(now, carol, 180, None);
    world.settle();
    // The old party is heard until the new one picks up.
    talk(&mut world, 20, 10);
    let now = world.now;
    let answer = sip_sdp("0 101", "sendrecv", OTHER_RTP);
    world.peer.accept(now, carol, answer);
    world.settle();
    assert_eq!(told(&mut world), 200);
    assert_eq!(party(&mut world), "sip:carol@example.org");
    talks_to_the_other(&mut world, 40);
    // Who asked for it did not hang up: it is done for it.
    world.peer_event("BYE for the old party", |event| {
        matches!(event, sip::Event::Ended { call, by_peer: true, .. } if *call == theirs)
            .then_some(())
    });
    assert!(
        world
            .request(Request::HangUp(session.clone(), call))
            .is_ok()
    );
    world.peer_event("BYE for the new party", |event| {
        matches!(event, sip::Event::Ended { call, by_peer: true, .. } if *call == carol)
            .then_some(())
    });
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn who_asked_for_a_transfer_may_hang_up_before_the_new_party_answers() {
    for answers in [true, false] {
        let mut world = world_with(902, ReferPolicy::Follow);
        let (session, _, theirs) = connect(&mut world);
        refer(&mut world, theirs, None);
        let (carol, _) = followed(&mut world);
        let now = world.now;
        world.peer.hang_up(now, theirs);
        world.advance(SECOND);
        let now = world.now;
        if answers {
            let answer = sip_sdp("0 101", "sendrecv", OTHER_RTP);
            world.peer.accept(now, carol, answer);
            world.settle();
            assert_eq!(party(&mut world), "sip:carol@example.org");
            talks_to_the_other(&mut world, 1);
        } else {
            world.peer.reject(now, carol, 486, "");
            world.settle();
            assert_eq!(ended(&mut world), ("sip".into(), Some(486)));
        }
        assert!(world.request(Request::EndSession(session)).is_ok());
        idle(&mut world);
    }
}

#[test]
fn a_new_party_that_is_busy_leaves_the_call_as_it_was() {
    let mut world = world_with(903, ReferPolicy::Follow);
    let (session, call, theirs) = connect(&mut world);
    refer(&mut world, theirs, None);
    let (carol, _) = followed(&mut world);
    let now = world.now;
    world.peer.reject(now, carol, 486, "");
    world.settle();
    assert_eq!(told(&mut world), 486);
    talk(&mut world, 1, 20);
    world.advance(SECOND);
    assert_eq!((world.peer_heard.len(), world.page.heard.len()), (20, 20));
    // The page may hang up while somebody is called for it.
    refer(&mut world, theirs, None);
    let (carol, _) = followed(&mut world);
    assert!(
        world
            .request(Request::HangUp(session.clone(), call))
            .is_ok()
    );
    world.peer_event("CANCEL", |event| {
        matches!(event, sip::Event::Cancelled { call, .. } if *call == carol).then_some(())
    });
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

/// The page is asked whether it follows.
fn asked(world: &mut World) -> (String, bool) {
    world.event("call.refer", |event| match event {
        Event::Refer { to, attended, .. } => Some((to.clone(), *attended)),
        _ => None,
    })
}

#[test]
fn the_page_decides_where_the_operator_lets_it() {
    let mut world = world_with(904, ReferPolicy::Page);
    let (session, call, theirs) = connect(&mut world);
    let answer = |world: &mut World, accept| {
        let answer = Request::Referred(session.clone(), call.clone(), Referred { accept });
        world
            .request(answer)
            .map(|_| ())
            .map_err(|problem| problem.status)
    };
    assert_eq!(answer(&mut world, true), Err(409), "nobody asks");
    refer(&mut world, theirs, None);
    assert_eq!(asked(&mut world), ("sip:carol@example.org".into(), false));
    assert_eq!(answer(&mut world, false), Ok(()));
    assert_eq!(told(&mut world), 603);
    // Silence is a no.
    refer(&mut world, theirs, None);
    asked(&mut world);
    let before = world.now;
    assert_eq!(told(&mut world), 603);
    let waited = (world.now - before).as_secs();
    assert!((19..22).contains(&waited), "{waited} s");
    assert_eq!(answer(&mut world, true), Err(409), "too late");
    refer(&mut world, theirs, None);
    asked(&mut world);
    assert_eq!(answer(&mut world, true), Ok(()));
    let (carol, _) = followed(&mut world);
    let now = world.now;
    world
        .peer
        .accept(now, carol, sip_sdp("0 101", "sendrecv", OTHER_RTP));
    world.settle();
    assert_eq!(told(&mut world), 200);
    talks_to_the_other(&mut world, 1);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

/// A call to the page that takes the place of another one.
fn call_page(world: &mut World, replaces: String) -> sip::CallHandle {
    let user = world.contact_user.clone().expect("REGISTER came");
    let invite = sip::Invite {
        to: format!("sip:{user}@10.0.0.1:5060"),
        from: "sip:dave@example.org".into(),
        sdp: Some(sip_sdp("0", "sendrecv", OTHER_RTP)),
        headers: vec![("Replaces".to_owned(), replaces)],
        ..sip::Invite::default()
    };
    let call = world.peer.invite(world.now, invite).expect("a good URI");
    world.settle();
    call
}

/// Media of a call from the SIP side to the page.
fn talking(world: &mut World) -> (SessionId, CallId, sip::CallHandle, String) {
    let Ok(Reply::SessionCreated(created)) = register(world, "alice") else {
        panic!("registered")
    };
    let session = created.id;
    let user = world.contact_user.clone().expect("REGISTER came");
    let invite = sip::Invite {
        to: format!("sip:{user}@10.0.0.1:5060"),
        from: "sip:bob@example.org".into(),
        sdp: Some(sip_sdp("0", "sendrecv", PEER_RTP)),
        ..sip::Invite::default()
    };
    let call = world.peer.invite(world.now, invite).expect("a good URI");
    world.settle();
    let (id, offer) = incoming(world);
    let answer = Answer {
        answer: world.page.answer(&offer),
    };
    let answer = Request::Answer(session.clone(), id.clone(), answer);
    assert!(world.request(answer).is_ok());
    super::await_connected(world);
    // Bob's dialog, as he would name it to somebody else.
    let refer = sip::Refer {
        to: Some("sip:nobody@example.org".into()),
        replaces: Some(call),
        referred_by: None,
    };
    let now = world.now;
    world
        .peer
        .refer(now, call, refer)
        .expect("an answered call");
    world.settle();
    assert!(asked(world).1, "who is called has been talked to");
    let replaces = world.replaces.clone().expect("REFER went out");
    (session, id, call, replaces)
}

#[test]
fn an_invite_with_replaces_takes_the_place_of_the_other_party() {
    let mut world = world_with(905, ReferPolicy::Page);
    let (session, _, theirs, replaces) = talking(&mut world);
    talk(&mut world, 1, 10);
    let dave = call_page(&mut world, replaces);
    world.peer_event("the page's answer", |event| {
        matches!(event, sip::Event::Answered { call, sdp: Some(_), .. } if *call == dave)
            .then_some(())
    });
    assert_eq!(party(&mut world), "sip:dave@example.org");
    world.peer_event("BYE for the old party", |event| {
        matches!(event, sip::Event::Ended { call, by_peer: true, .. } if *call == theirs)
            .then_some(())
    });
    talks_to_the_other(&mut world, 40);
    assert!(
        world
            .events
            .iter()
            .all(|event| !matches!(event, Event::Ended { .. }))
    );
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn why_a_call_ended_is_told_in_both_directions() {
    let mut world = World::new(906);
    let (session, _, theirs) = connect(&mut world);
    let cause = sip::Cause {
        protocol: "Q.850".into(),
        code: Some(16),
        text: Some("Normal call clearing".into()),
    };
    let now = world.now;
    world.peer.hang_up_for(now, theirs, cause);
    let causes = world.event("call.ended", |event| match event {
        Event::Ended { causes, .. } => Some(causes.clone()),
        _ => None,
    });
    assert_eq!(
        (causes[0].protocol.as_str(), causes[0].code),
        ("Q.850", Some(16))
    );
    // Nobody answers: CANCEL says so.
    place(&mut world, &session, "echo").unwrap();
    let theirs = callee(&mut world);
    let now = world.now;
    world.peer.provisional(now, theirs, 180, None);
    world.advance(65 * SECOND);
    let causes = world.peer_event("CANCEL", |event| match event {
        sip::Event::Cancelled { causes, .. } => Some(causes.clone()),
        _ => None,
    });
    assert_eq!(causes, [sip::Cause::sip(408, "no answer")]);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}
