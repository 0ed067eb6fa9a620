//! Pages that are SIP user agents: one whose connection breaks comes back to its calls by registering as the same user and instance.

use super::*;
use gateway_core::api::{Header, PhoneRegister, PhoneRegistered};

fn connects(world: &mut World) -> SessionId {
    match world.request(Request::CreatePhone(None)) {
        Ok(Reply::SessionCreated(created)) => created.id,
        _ => panic!("a page connects"),
    }
}

/// The registrar takes whatever answers its challenge, but no mallory.
fn registers(
    world: &mut World,
    session: &SessionId,
    user: &str,
    instance: &str,
) -> PhoneRegistered {
    let digest = format!(
        "Digest username=\"{user}\", realm=\"example.org\", nonce=\"n1\", uri=\"sip:example.org\", response=\"0\""
    );
    registers_with(
        world,
        session,
        (user, instance),
        vec![("Authorization".to_owned(), digest).into()],
    )
}

fn registers_with(
    world: &mut World,
    session: &SessionId,
    (user, instance): (&str, &str),
    authorization: Vec<Header>,
) -> PhoneRegistered {
    let body = PhoneRegister {
        aor: format!("sip:{user}@example.org"),
        registrar: "sip:example.org".into(),
        display_name: None,
        expires_s: 600,
        cseq: 1,
        authorization,
        instance: Some(instance.into()),
    };
    match world.request(Request::Register(session.clone(), body)) {
        Ok(Reply::Registered(registered)) => registered,
        _ => panic!("an answer to REGISTER"),
    }
}

/// A page that is registered as alice, in a call with media.
fn in_call(world: &mut World) -> (SessionId, CallId, sip::CallHandle) {
    let session = connects(world);
    let registered = registers(world, &session, "alice", "one");
    assert_eq!((registered.status, registered.before), (200, None));
    let call = place(world, &session, "echo").unwrap();
    let callee = callee(world);
    let answer = sip_sdp("0 101", "sendrecv", PEER_RTP);
    world.peer.accept(world.now, callee, answer);
    world.settle();
    accept_answer(world);
    await_connected(world);
    (session, call, callee)
}

fn loses(world: &mut World, session: &SessionId) {
    let lost = world.request(Request::LostPhone(session.clone()));
    assert!(matches!(lost, Ok(Reply::Done)));
}

fn takes(world: &mut World, session: &SessionId, before: &SessionId) -> Result<(), u16> {
    let request = Request::TakeOver(session.clone(), before.clone());
    let taken = world.request(request).map(|_| ());
    taken.map_err(|problem| problem.status)
}

#[test]
fn a_page_whose_connection_broke_comes_back_to_its_call() {
    let mut world = World::new(740);
    let (before, call, callee) = in_call(&mut world);
    talk(&mut world, 1, 20);
    loses(&mut world, &before);
    world.advance(20 * SECOND);
    let session = connects(&mut world);
    let registered = registers(&mut world, &session, "alice", "one");
    assert_eq!(registered.before.as_ref(), Some(&before));
    assert_eq!(takes(&mut world, &session, &before), Ok(()));
    world.advance(20 * SECOND);
    let heard = world.page.heard.len();
    talk(&mut world, 21, 20);
    world.advance(SECOND);
    assert_eq!(world.page.heard.len(), heard + 20);
    let own = Request::Call(before, call.clone());
    assert_eq!(world.request(own).map(|_| ()).unwrap_err().status, 404);
    // Both directions of the signalling go on.
    let hold = sip_sdp("0 101", "sendonly", PEER_RTP);
    world.peer.reinvite(world.now, callee, hold);
    world.settle();
    world.event("held", |event| {
        matches!(event, Event::Held { held: true, .. }).then_some(())
    });
    let hang_up = Request::HangUp(session, call);
    world.request(hang_up).map(|_| ()).unwrap();
    idle(&mut world);
}

#[test]
fn nobody_else_gets_the_calls() {
    let mut world = World::new(741);
    let (before, call, _) = in_call(&mut world);
    loses(&mut world, &before);
    // A guest, who has proved nothing; it says so of itself or not.
    let guest = connects(&mut world);
    assert_eq!(takes(&mut world, &guest, &before), Err(403));
    // Another user agent of the same user.
    let other = registers(&mut world, &guest, "alice", "two");
    assert_eq!(other.before, None);
    assert_eq!(takes(&mut world, &guest, &before), Err(403));
    // Another user with the same instance.
    let mallory = connects(&mut world);
    assert_eq!(
        registers(&mut world, &mallory, "mallory", "one").before,
        None
    );
    assert_eq!(takes(&mut world, &mallory, &before), Err(403));
    // A page of API v1, and a session with itself.
    let page = world.guest();
    assert_eq!(takes(&mut world, &page, &before), Err(403));
    assert_eq!(takes(&mut world, &before, &before), Err(403));
    let own = Request::Call(before, call);
    assert!(world.request(own).is_ok(), "the call waits");
}

#[test]
fn a_registration_that_is_refused_is_no_proof() {
    let mut world = World::new(742);
    let (before, _, _) = in_call(&mut world);
    loses(&mut world, &before);
    // Challenged and without an answer; and refused.
    let session = connects(&mut world);
    let registered = registers_with(&mut world, &session, ("alice", "one"), Vec::new());
    assert_eq!((registered.status, registered.before), (401, None));
    assert_eq!(takes(&mut world, &session, &before), Err(403));
    let mallory = connects(&mut world);
    let registered = registers(&mut world, &mallory, "mallory", "one");
    assert_eq!((registered.status, registered.before), (403, None));
    assert_eq!(takes(&mut world, &mallory, &before), Err(403));
}

#[test]
fn who_does_not_come_back_within_half_a_minute_loses_the_call() {
    let mut world = World::new(743);
    let (before, _, callee) = in_call(&mut world);
    loses(&mut world, &before);
    world.advance(29 * SECOND);
    assert_eq!(world.flow_count(), 2);
    world.advance(2 * SECOND);
    assert_eq!(world.flow_count(), 0);
    world.peer_event("BYE", |event| {
        matches!(event, sip::Event::Ended { call, .. } if *call == callee).then_some(())
    });
    let session = connects(&mut world);
    assert_eq!(registers(&mut world, &session, "alice", "one").before, None);
}

#[test]
fn a_page_that_never_registered_loses_its_calls_with_its_connection() {
    let mut world = World::new(744);
    let session = connects(&mut world);
    place(&mut world, &session, "echo").unwrap();
    callee(&mut world);
    loses(&mut world, &session);
    idle(&mut world);
}

#[test]
fn a_page_that_is_away_is_not_rung() {
    let mut world = World::new(745);
    let (before, _, _) = in_call(&mut world);
    loses(&mut world, &before);
    let invite = sip::Invite {
        to: format!("sip:{}@10.0.0.1:5060", world.contact_user.clone().unwrap()),
        from: "sip:bob@example.org".into(),
        sdp: Some(sip_sdp("0", "sendrecv", PEER_RTP)),
        ..sip::Invite::default()
    };
    let wanted = world.peer.invite(world.now, invite).unwrap();
    let status = world.peer_event("a refusal", |event| match event {
        sip::Event::Rejected { call, status, .. } if *call == wanted => Some(*status),
        _ => None,
    });
    assert_eq!(status, 480);
}
