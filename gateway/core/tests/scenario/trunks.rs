//! Which trunk a call takes, and what it does with numbers, codecs, SRTP, headers and limits.

use super::world::{PEER_RTP, World, trunk};
use super::{SECOND, idle, place, register, sip_sdp};
use gateway_core::api::{
    Answer, Callee, CreateCall, Event, Header, Problem, Reply, Request, SessionId,
};
use gateway_core::gateway::Config;
use gateway_core::sdp::SrtpUse;
use gateway_core::sip;
use gateway_core::trunk::{HeaderPolicy, Network, Numbers, Rewrite, Trunk};

/// A world with one trunk beside the default one.
fn world_with(seed: u64, agreed: impl FnOnce(&mut Trunk)) -> World {
    let mut provider = trunk("provider");
    agreed(&mut provider);
    World::configured(seed, |config: &mut Config| {
        config.trunks.insert(0, provider)
    })
}

fn rules(rules: &[&str]) -> Vec<Rewrite> {
    rules
        .iter()
        .map(|rule| Rewrite::parse(rule).unwrap())
        .collect()
}

/// The INVITE as the SIP side got it: handle, From, To, headers, offer.
#[derive(Debug)]
struct Invited {
    call: sip::CallHandle,
    from: String,
    to: String,
    headers: Vec<(String, String)>,
    offer: String,
}

fn invited(world: &mut World) -> Invited {
    world.peer_event("INVITE at the callee", |event| match event {
        sip::Event::Incoming {
            call,
            from_uri,
            to_uri,
            headers,
            sdp,
            ..
        } => Some(Invited {
            call: *call,
            from: from_uri.clone(),
            to: to_uri.clone(),
            headers: headers.clone(),
            offer: sdp.clone().unwrap_or_default(),
        }),
        _ => None,
    })
}

fn alice(world: &mut World) -> SessionId {
    match register(world, "alice") {
        Ok(Reply::SessionCreated(created)) => created.id,
        _ => panic!("registered"),
    }
}

fn call_with(
    world: &mut World,
    session: &SessionId,
    headers: &[(&str, &str)],
) -> Result<(), Problem> {
    let header = |(name, value): &(&str, &str)| Header {
        name: (*name).into(),
        value: (*value).into(),
    };
    let body = CreateCall {
        to: "0049301".into(),
        offer: Some(world.page.offer(false)),
        headers: headers.iter().map(header).collect(),
        ..CreateCall::default()
    };
    world
        .request(Request::CreateCall(session.clone(), body))
        .map(|_| ())
}

#[test]
fn a_call_takes_the_trunk_of_its_destination_with_its_numbers_codecs_and_srtp() {
    let mut world = world_with(801, |trunk| {
        trunk.destinations = vec![Callee("00*".into())];
        trunk.domain = Some("provider.test".into());
        trunk.codecs.audio = vec!["PCMA".into()];
        trunk.srtp.usage = SrtpUse::Require;
        trunk.numbers.callee = rules(&["00* -> +*"]);
        trunk.numbers.caller = rules(&["alice -> +49302"]);
    });
    let session = alice(&mut world);
    place(&mut world, &session, "0049301").unwrap();
    let there = invited(&mut world);
    assert_eq!(there.to, "sip:+49301@provider.test");
    assert_eq!(there.from, "sip:+49302@provider.test");
    let offer = &there.offer;
    assert!(
        offer.contains("RTP/SAVP 8\r\n") && !offer.contains("PCMU"),
        "{offer}"
    );
    // All others go the usual way.
    place(&mut world, &session, "echo").unwrap();
    let usual = invited(&mut world);
    assert_eq!(
        (usual.to.as_str(), usual.from.as_str()),
        ("sip:echo@example.org", "sip:alice@example.org")
    );
    assert!(usual.offer.contains("RTP/AVP 0 8"), "{}", usual.offer);
    world.peer.reject(world.now, there.call, 486, "");
    world.peer.reject(world.now, usual.call, 486, "");
    world.advance(SECOND);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn a_page_sends_the_headers_that_its_trunk_lets_it_send() {
    let mut world = world_with(802, |trunk| {
        trunk.destinations = vec![Callee("00*".into())];
        trunk.headers = HeaderPolicy {
            to_sip: vec!["X-*".into(), "Contact".into()],
            to_page: Vec::new(),
        };
    });
    let session = world.guest();
    let status = |problem: Result<(), Problem>| problem.unwrap_err().status;
    assert_eq!(
        status(call_with(&mut world, &session, &[("Priority", "urgent")])),
        403
    );
    // What the stack writes itself nobody else writes, whatever the operator allows.
    assert_eq!(
        status(call_with(&mut world, &session, &[("Contact", "<sip:x@y>")])),
        400
    );
    assert_eq!(
        status(call_with(&mut world, &session, &[("X-A", "1\r\nX-B: 2")])),
        400
    );
    call_with(
        &mut world,
        &session,
        &[("X-Ticket", "4711"), ("x-queue", "sales")],
    )
    .unwrap();
    let there = invited(&mut world);
    let header = |name: &str| {
        let mut headers = there.headers.iter();
        headers
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(
        (header("X-Ticket"), header("x-queue")),
        (Some("4711"), Some("sales"))
    );
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn a_trunk_has_limits_of_its_own() {
    let mut world = world_with(803, |trunk| {
        trunk.destinations = vec![Callee("00*".into())];
        trunk.calls = Some(1);
    });
    let session = world.guest();
    call_with(&mut world, &session, &[]).unwrap();
    let over = call_with(&mut world, &session, &[]).unwrap_err();
    assert_eq!((over.status, over.kind.as_str()), (503, "trunk-limit"));
    place(&mut world, &session, "echo").expect("another trunk");
    let views = world.gateway.trunks();
    let counts: Vec<_> = views
        .iter()
        .map(|view| (view.name.as_str(), view.calls))
        .collect();
    assert_eq!(counts, [("provider", 1), ("default", 1)]);
    // The place is free again when the call is over.
    let there = invited(&mut world);
    world.peer.reject(world.now, there.call, 486, "");
    world.advance(SECOND);
    call_with(&mut world, &session, &[]).unwrap();
    assert!(world.request(Request::EndSession(session)).is_ok());
    assert!(world.gateway.trunks().iter().all(|view| view.calls == 0));
    idle(&mut world);
}

#[test]
fn a_trunk_s_rate_of_calls_is_bounded() {
    let mut world = world_with(804, |trunk| {
        trunk.destinations = vec![Callee("00*".into())];
        trunk.calls_per_second = Some(1);
    });
    let session = world.guest();
    call_with(&mut world, &session, &[]).unwrap();
    assert_eq!(
        call_with(&mut world, &session, &[]).unwrap_err().kind,
        "trunk-limit"
    );
    world.advance(SECOND);
    call_with(&mut world, &session, &[]).unwrap();
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

/// The SIP side calls a user by name.
fn call_user(world: &mut World, user: &str) -> sip::CallHandle {
    let invite = sip::Invite {
        to: format!("sip:{user}@10.0.0.1:5060"),
        from: "sip:+49305@provider.test".into(),
        sdp: Some(sip_sdp("0 8", "sendrecv", PEER_RTP)),
        headers: vec![
            ("X-Queue".into(), "sales".into()),
            ("Subject".into(), "x".into()),
        ],
        ..sip::Invite::default()
    };
    let call = world.peer.invite(world.now, invite).unwrap();
    world.settle();
    call
}

#[test]
fn a_trunk_calls_users_by_number_and_its_headers_reach_the_page() {
    let mut world = world_with(805, |trunk| {
        trunk.proxies = Default::default();
        trunk.sources = vec![Network::parse("10.0.0.2").unwrap()];
        trunk.headers.to_page = vec!["x-*".into()];
        trunk.codecs.audio = vec!["PCMA".into()];
        trunk.numbers = Numbers {
            incoming_callee: rules(&["+49301 -> alice"]),
            incoming_caller: rules(&["+* -> 00*"]),
            ..Numbers::default()
        };
    });
    let session = alice(&mut world);
    call_user(&mut world, "+49301");
    let (call, offer, from, headers) = world.event("call.incoming", |event| match event {
        Event::Incoming {
            call,
            offer,
            from,
            headers,
            ..
        } => Some((call.clone(), offer.clone(), from.clone(), headers.clone())),
        _ => None,
    });
    assert_eq!(from, "sip:0049305@provider.test");
    let shown = Header {
        name: "X-Queue".into(),
        value: "sales".into(),
    };
    assert_eq!(headers, [shown]);
    // PCMU, which the caller would like best, is blocked here.
    let answer = world.page.answer(&offer);
    let answer = Request::Answer(session.clone(), call, Answer { answer });
    assert!(world.request(answer).is_ok());
    let codec = world.event("call.connected", |event| match event {
        Event::Connected { codec, .. } => Some(codec.clone()),
        _ => None,
    });
    assert_eq!(codec, "PCMA/8000");
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}

#[test]
fn whoever_is_no_trunk_calls_nobody_by_name() {
    // The default trunk's server is elsewhere.
    let mut world = World::configured(806, |config| {
        config.trunks[0].proxies = [sip::OutboundProxy {
            host: "pbx.test".into(),
            port: None,
            transport: None,
        }]
        .into();
    });
    let session = world.guest();
    let call = call_user(&mut world, "alice");
    let status = world.peer_event("the refusal", |event| match event {
        sip::Event::Rejected {
            call: of, status, ..
        } if *of == call => Some(*status),
        _ => None,
    });
    assert_eq!(status, 404);
    assert!(world.request(Request::EndSession(session)).is_ok());
    idle(&mut world);
}
