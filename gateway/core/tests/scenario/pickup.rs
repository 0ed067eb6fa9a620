//! Somebody else picks up a call that rings: INVITE with Replaces for an early dialog (RFC 3891 section 3).

use super::moving::{OTHER_RTP, followed, party, refer, talks_to_the_other, told, world_with};
use super::world::{PEER_RTP, World};
use super::{
    SECOND, accept_answer, await_connected, callee, connect, ended, idle, incoming, place,
    register, sip_sdp, talk,
};
use gateway_core::api::{Answer, Event, Reply, Request, SessionId};
use gateway_core::sip;
use gateway_core::trunk::ReferPolicy;

/// Dave's INVITE, with an offer or without, for the place of whoever rings.
fn pick_up(world: &mut World, sdp: Option<String>) -> sip::CallHandle {
    let invite = sip::Invite {
        to: "sip:anybody@10.0.0.1:5060".into(),
        from: "sip:dave@example.org".into(),
        sdp,
        headers: vec![("Replaces".into(), world.ringing.clone().expect("it rings"))],
        ..sip::Invite::default()
    };
    let call = world.peer.invite(world.now, invite).expect("a good URI");
    world.settle();
    call
}

fn offer() -> Option<String> {
    Some(sip_sdp("0 101", "sendrecv", OTHER_RTP))
}

/// The page calls somebody, where it rings; with a description early media is heard.
fn ringing(world: &mut World, early: Option<String>) -> (SessionId, sip::CallHandle) {
    let session = world.guest();
    place(world, &session, "bob").unwrap();
    let bob = callee(world);
    let status = if early.is_some() { 183 } else { 180 };
    let now = world.now;
    world.peer.provisional(now, bob, status, early);
    world.event("call.ringing", |event| {
        matches!(event, Event::Ringing { .. }).then_some(())
    });
    (session, bob)
}

/// Whose call was taken elsewhere is told so.
fn told_elsewhere(world: &mut World, bob: sip::CallHandle) {
    let causes = world.peer_event("CANCEL", |event| match event {
        sip::Event::Cancelled { call, causes } if *call == bob => Some(causes.clone()),
        _ => None,
    });
    assert_eq!(causes, [sip::Cause::sip(200, "Call completed elsewhere")]);
}

fn answered(world: &mut World) {
    world.event("call.answered", |event| {
        matches!(event, Event::Answered { .. }).then_some(())
    });
}

/// The status that refuses an INVITE of the peer.
fn refused(world: &mut World, wanted: sip::CallHandle) -> u16 {
    world.peer_event("a refusal", |event| match event {
        sip::Event::Rejected { call, status, .. } if *call == wanted => Some(*status),
        _ => None,
    })
}

#[test]
fn a_ringing_call_of_the_page_is_picked_up_by_somebody_else() {
    let mut world = World::new(921);
    let (session, bob) = ringing(&mut world, None);
    pick_up(&mut world, offer());
    assert_eq!(party(&mut world), "sip:dave@example.org");
    accept_answer(&mut world);
    answered(&mut world);
    await_connected(&mut world);
    told_elsewhere(&mut world, bob);
    talks_to_the_other(&mut world, 1);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn who_picks_up_without_an_offer_gets_ours_and_answers_it() {
    let mut world = World::new(922);
    let (session, bob) = ringing(&mut world, None);
    let dave = pick_up(&mut world, None);
    let offered = world.peer_event("our offer", |event| match event {
        sip::Event::Offered { call, sdp, .. } if *call == dave => Some(sdp.clone()),
        _ => None,
    });
    assert!(offered.contains("m=audio"), "{offered}");
    let now = world.now;
    let answer = offer().expect("an answer");
    world.peer.answer_offer(now, dave, 0, Ok(answer));
    world.settle();
    accept_answer(&mut world);
    await_connected(&mut world);
    told_elsewhere(&mut world, bob);
    talks_to_the_other(&mut world, 1);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn early_media_goes_over_to_who_picks_up() {
    for own_offer in [true, false] {
        let mut world = World::new(923);
        let early = sip_sdp("0 101", "sendrecv", PEER_RTP);
        let (session, bob) = ringing(&mut world, Some(early));
        accept_answer(&mut world);
        await_connected(&mut world);
        talk(&mut world, 1, 10);
        let dave = pick_up(&mut world, offer().filter(|_| own_offer));
        if !own_offer {
            world.peer_event("our offer", |event| {
                matches!(event, sip::Event::Offered { call, .. } if *call == dave).then_some(())
            });
            let answer = offer().expect("an answer");
            let now = world.now;
            world.peer.answer_offer(now, dave, 0, Ok(answer));
            world.settle();
        }
        answered(&mut world);
        assert_eq!(party(&mut world), "sip:dave@example.org");
        told_elsewhere(&mut world, bob);
        world.advance(SECOND);
        talks_to_the_other(&mut world, 40);
        // Nobody waits for an answer any more.
        world.advance(70 * SECOND);
        assert!(world.request(Request::EndSession(session)).is_ok());
        idle(&mut world);
    }
}

#[test]
fn who_has_no_codec_of_the_page_does_not_get_the_call_and_it_rings_on() {
    for early in [false, true] {
        let mut world = World::new(924);
        let description = sip_sdp("0 101", "sendrecv", PEER_RTP);
        let (session, bob) = ringing(&mut world, early.then(|| description.clone()));
        let dave = pick_up(&mut world, Some(sip_sdp("18", "sendrecv", OTHER_RTP)));
        assert_eq!(refused(&mut world, dave), 488);
        let now = world.now;
        world.peer.accept(now, bob, description);
        world.settle();
        accept_answer(&mut world);
        await_connected(&mut world);
        talk(&mut world, 1, 20);
        world.advance(SECOND);
        assert_eq!((world.peer_heard.len(), world.page.heard.len()), (20, 20));
        assert!(world.request(Request::EndSession(session)).is_ok());
        idle(&mut world);
    }
}

#[test]
fn who_calls_the_page_is_not_taken_from_it_while_it_rings() {
    let mut world = World::new(925);
    let Ok(Reply::SessionCreated(created)) = register(&mut world, "alice") else {
        panic!("registered")
    };
    let user = world.contact_user.clone().expect("REGISTER came");
    let invite = sip::Invite {
        to: format!("sip:{user}@10.0.0.1:5060"),
        from: "sip:bob@example.org".into(),
        sdp: Some(sip_sdp("0", "sendrecv", PEER_RTP)),
        ..sip::Invite::default()
    };
    world.peer.invite(world.now, invite).expect("a good URI");
    world.settle();
    let (id, shown) = incoming(&mut world);
    world.until(SECOND, "it rings", |world| world.ringing.is_some());
    let dave = pick_up(&mut world, offer());
    assert_eq!(refused(&mut world, dave), 481);
    let answer = Answer {
        answer: world.page.answer(&shown),
    };
    let answer = Request::Answer(created.id.clone(), id, answer);
    assert!(world.request(answer).is_ok());
    await_connected(&mut world);
    assert!(world.request(Request::EndSession(created.id)).is_ok());
    idle(&mut world);
}

#[test]
fn what_rings_no_more_is_not_picked_up() {
    for (how, status) in [("refused", 481), ("taken back", 603), ("answered", 486)] {
        let mut world = World::new(926);
        let (session, bob) = ringing(&mut world, None);
        let now = world.now;
        match how {
            "refused" => {
                world.peer.reject(now, bob, 486, "");
                assert_eq!(ended(&mut world), ("sip".into(), Some(486)));
            }
            "taken back" => {
                world.ask(Request::EndSession(session.clone()));
            }
            _ => {
                let answer = sip_sdp("0 101", "sendrecv", PEER_RTP);
                world.peer.accept(now, bob, answer);
                world.settle();
                accept_answer(&mut world);
                await_connected(&mut world);
            }
        }
        // The name stays good for the answered dialog, but who picks up does not want to break in.
        let name = world.ringing.take().expect("it rang");
        world.ringing = Some(format!("{name};early-only"));
        let dave = pick_up(&mut world, offer());
        assert_eq!(refused(&mut world, dave), status, "{how}");
        if how != "taken back" {
            assert!(world.request(Request::EndSession(session)).is_ok());
        }
        idle(&mut world);
    }
}

#[test]
fn a_transfer_that_rings_is_picked_up_and_its_end_told() {
    for gone in [false, true] {
        let mut world = world_with(927, ReferPolicy::Follow);
        let (session, _, theirs) = connect(&mut world);
        refer(&mut world, theirs, None);
        let (carol, _) = followed(&mut world);
        let now = world.now;
        world.peer.provisional(now, carol, 180, None);
        world.advance(SECOND);
        if gone {
            let now = world.now;
            world.peer.hang_up(now, theirs);
            world.advance(SECOND);
        }
        pick_up(&mut world, offer());
        told_elsewhere(&mut world, carol);
        if !gone {
            assert_eq!(told(&mut world), 200);
        }
        assert_eq!(party(&mut world), "sip:dave@example.org");
        talks_to_the_other(&mut world, 1);
        assert!(world.request(Request::EndSession(session)).is_ok());
        idle(&mut world);
    }
}
