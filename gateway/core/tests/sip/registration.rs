//! Registration against a scripted registrar that challenges with digest.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use gateway_core::sip::digest::{Algorithm, Answer, Challenge};
use gateway_core::sip::message::{Message, Request, response_to};
use gateway_core::sip::{ConnectionId, Credentials, Event, Invite, Register};

use crate::calls::nothing_left;
use crate::link::{Node, World, invite, stack};

pub(crate) fn register() -> Register {
    Register {
        aor: "sip:alice@example.com".into(),
        registrar: "sip:192.0.2.2".into(),
        credentials: Credentials {
            user: "alice".into(),
            password: "secret".into(),
        },
        contact_user: "s-123".into(),
        expires: Duration::from_secs(600),
        instance: None,
        proxies: Default::default(),
    }
}

/// What the registrar does beside checking the password.
#[derive(Clone)]
struct Rules {
    algorithm: Algorithm,
    qop_auth: bool,
    password: &'static str,
    min_expires: u64,
    granted: Option<u64>,
    /// Every nonce is good for that many requests, then it is stale.
    uses: u32,
}

const RULES: Rules = Rules {
    algorithm: Algorithm::Md5,
    qop_auth: true,
    password: "secret",
    min_expires: 0,
    granted: None,
    uses: u32::MAX,
};

/// Requests that the registrar accepted: Expires and Contact.
type Accepted = Rc<RefCell<Vec<(u64, String)>>>;

fn registrar(rules: Rules) -> (Node, Accepted) {
    let accepted = Accepted::default();
    let (seen, mut serial, mut used) = (accepted.clone(), 0, 0);
    let script = move |request: &Request| {
        let nonce = |serial: u32| format!("nonce-{serial}");
        let given = request.headers.get("Authorization").and_then(Answer::parse);
        let right = given
            .as_ref()
            .is_some_and(|given| given.fits(rules.password, &request.method));
        let fresh = given
            .as_ref()
            .is_some_and(|given| given.nonce == nonce(serial));
        if let Some((count, _)) = given
            .as_ref()
            .filter(|_| fresh)
            .and_then(|given| given.qop.as_ref())
        {
            assert_eq!(*count, used + 1, "the nonce count rises by one");
        }
        if !right || !fresh || used >= rules.uses {
            if right {
                serial += 1;
                used = 0;
            }
            let mut response = response_to(request, 401, "");
            let challenge = Challenge {
                realm: "example.com".into(),
                nonce: nonce(serial),
                opaque: None,
                algorithm: rules.algorithm,
                qop_auth: rules.qop_auth,
                stale: right,
            };
            response.headers.push(
                "WWW-Authenticate",
                "Digest realm=\"example.com\", nonce=\"x\", algorithm=NEW-1",
            );
            response
                .headers
                .push("WWW-Authenticate", challenge.to_string());
            return vec![Message::Response(response)];
        }
        used += 1;
        let asked: u64 = request
            .headers
            .get("Expires")
            .expect("Expires")
            .parse()
            .expect("a number");
        if asked > 0 && asked < rules.min_expires {
            let mut response = response_to(request, 423, "");
            response
                .headers
                .push("Min-Expires", rules.min_expires.to_string());
            return vec![Message::Response(response)];
        }
        let contact = request.headers.get("Contact").expect("Contact").to_owned();
        seen.borrow_mut().push((asked, contact.clone()));
        let mut response = response_to(request, 200, "");
        response
            .headers
            .push("Contact", "<sip:other@192.0.2.9>;expires=5");
        if asked > 0 {
            response.headers.push(
                "Contact",
                format!("{contact};expires={}", rules.granted.unwrap_or(asked)),
            );
        }
        vec![Message::Response(response)]
    };
    (Node::Script(Box::new(script)), accepted)
}

#[test]
fn a_binding_is_made_refreshed_in_time_and_removed() {
    for (algorithm, qop_auth) in [
        (Algorithm::Md5, true),
        (Algorithm::Md5, false),
        (Algorithm::Sha256, true),
        (Algorithm::Sha256Sess, true),
    ] {
        let (node, accepted) = registrar(Rules {
            algorithm,
            qop_auth,
            granted: Some(100),
            ..RULES
        });
        let mut world = World::new(vec![stack(0), node]);
        let now = world.now;
        let handle = world.stack(0).register(now, register());
        world.run(Duration::from_secs(230));
        let expires = Duration::from_secs(100);
        let registered: Vec<u64> = world.events[0]
            .iter()
            .filter(|(_, event)| {
                *event
                    == Event::Registered {
                        registration: handle,
                        expires,
                        gruu: None,
                    }
            })
            .map(|(at, _)| *at)
            .collect();
        assert_eq!(registered.len(), 3, "{:?}", world.events);
        for pair in registered.windows(2) {
            assert!(
                (78_000..90_000).contains(&(pair[1] - pair[0])),
                "before the binding ends: {registered:?}"
            );
        }
        let now = world.now;
        world.stack(0).unregister(now, handle);
        world.settle();
        assert_eq!(
            world.events[0].last().unwrap().1,
            Event::Unregistered {
                registration: handle
            }
        );
        let contact = "<sip:s-123@192.0.2.1:5060>".to_owned();
        let all = [600, 600, 600, 0].map(|expires| (expires, contact.clone()));
        assert_eq!(*accepted.borrow(), all);
        // The nonce is reused: one challenge for four requests.
        assert_eq!(world.times(1, "401 REGISTER").len(), 1);
        nothing_left(&mut world);
    }
}

#[test]
fn a_wrong_password_fails_at_once() {
    let (node, accepted) = registrar(Rules {
        password: "other",
        ..RULES
    });
    let mut world = World::new(vec![stack(0), node]);
    let now = world.now;
    let registration = world.stack(0).register(now, register());
    world.settle();
    assert_eq!(world.times(0, "REGISTER"), [0, 20]);
    let reason = "Unauthorized".to_owned();
    assert_eq!(
        world.events[0],
        [(
            40,
            Event::RegistrationFailed {
                registration,
                status: 401,
                reason
            }
        )]
    );
    assert!(accepted.borrow().is_empty());
    nothing_left(&mut world);
}

#[test]
fn a_stale_nonce_is_replaced_without_complaint() {
    let (node, accepted) = registrar(Rules { uses: 1, ..RULES });
    let mut world = World::new(vec![stack(0), node]);
    let now = world.now;
    let handle = world.stack(0).register(now, register());
    world.run(Duration::from_secs(1));
    let now = world.now;
    world.stack(0).unregister(now, handle);
    world.settle();
    assert_eq!(accepted.borrow().len(), 2);
    assert_eq!(world.times(1, "401 REGISTER").len(), 2);
    nothing_left(&mut world);
}

#[test]
fn a_server_that_calls_every_nonce_stale_is_left_after_a_few_rounds() {
    let (node, accepted) = registrar(Rules { uses: 0, ..RULES });
    let mut world = World::new(vec![stack(0), node]);
    let now = world.now;
    world.stack(0).register(now, register());
    world.settle();
    assert!(world.times(0, "REGISTER").len() <= 5);
    assert!(matches!(
        world.events[0][..],
        [(_, Event::RegistrationFailed { status: 401, .. })]
    ));
    assert!(accepted.borrow().is_empty());
}

#[test]
fn too_short_a_lifetime_is_lengthened_as_the_registrar_says() {
    let (node, accepted) = registrar(Rules {
        min_expires: 1800,
        ..RULES
    });
    let mut world = World::new(vec![stack(0), node]);
    let now = world.now;
    let registration = world.stack(0).register(now, register());
    world.run(Duration::from_secs(2));
    assert_eq!(accepted.borrow()[0].0, 1800);
    let expires = Duration::from_secs(1800);
    assert_eq!(
        world.events[0].last().unwrap().1,
        Event::Registered {
            registration,
            expires,
            gruu: None,
        }
    );
}

#[test]
fn a_registrar_that_goes_away_is_tried_until_the_binding_has_run_out() {
    let (node, _) = registrar(Rules {
        granted: Some(120),
        ..RULES
    });
    let mut world = World::new(vec![stack(0), node]);
    let now = world.now;
    world.stack(0).register(now, register());
    world.run(Duration::from_secs(5));
    world.lose(|_| true);
    world.settle();
    let (at, last) = world.events[0].last().unwrap();
    assert!(matches!(
        last,
        Event::RegistrationFailed { status: 408, .. }
    ));
    assert!((110_000..180_000).contains(at), "{at}");
    nothing_left(&mut world);
}

#[test]
fn a_registrar_that_comes_back_finds_the_binding_renewed() {
    let (node, accepted) = registrar(Rules {
        granted: Some(300),
        ..RULES
    });
    let mut world = World::new(vec![stack(0), node]);
    let now = world.now;
    world.stack(0).register(now, register());
    world.run(Duration::from_secs(5));
    world.lose(|sent| (200_000..270_000).contains(&sent.ms));
    world.run(Duration::from_secs(400));
    assert_eq!(
        world.count(0, |event| matches!(event, Event::RegistrationFailed { .. })),
        0
    );
    assert!(accepted.borrow().len() >= 2);
}

#[test]
fn unregister_during_the_first_register_removes_the_binding_afterwards() {
    let (node, accepted) = registrar(RULES);
    let mut world = World::new(vec![stack(0), node]);
    let now = world.now;
    let handle = world.stack(0).register(now, register());
    world.stack(0).unregister(now, handle);
    world.settle();
    assert_eq!(
        world.events[0],
        [(
            60,
            Event::Unregistered {
                registration: handle
            }
        )]
    );
    assert_eq!(accepted.borrow().last().unwrap().0, 0);
    nothing_left(&mut world);
}

#[test]
fn a_registrar_that_cannot_be_named_or_reached_is_a_failure_not_a_panic() {
    for registrar in [
        "sip:no.such.name",
        "sip:192.0.2.2;transport=tls",
        "sips:192.0.2.2",
        "nonsense",
    ] {
        let mut world = World::pair();
        let now = world.now;
        world.stack(0).register(
            now,
            Register {
                registrar: registrar.into(),
                ..register()
            },
        );
        world.settle();
        assert!(
            matches!(world.events[0][..], [(0, Event::RegistrationFailed { .. })]),
            "{registrar}"
        );
        nothing_left(&mut world);
    }
}

/// A registrar without digest that gives a Service-Route and a GRUU, and refuses outbound once.
fn generous(refuses: bool) -> Node {
    let mut refuses = refuses;
    Node::Script(Box::new(move |request: &Request| {
        let contact = request.headers.get("Contact").expect("Contact");
        if refuses && contact.contains("reg-id") {
            refuses = false;
            return vec![Message::Response(response_to(request, 439, ""))];
        }
        let mut response = response_to(request, 200, "");
        response.headers.push(
            "Contact",
            format!("{contact};expires=600;pub-gruu=\"sip:alice@example.com;gr=urn:uuid:1\""),
        );
        response.headers.push(
            "Service-Route",
            "<sip:192.0.2.3;lr>, <sip:home.example.com;lr>",
        );
        vec![Message::Response(response)]
    }))
}

fn bound(world: &mut World) -> Option<String> {
    world.until(0, |event| match event {
        Event::Registered { gruu, .. } => Some(gruu.clone()),
        _ => None,
    })
}

#[test]
fn what_the_registrar_gives_is_used_by_the_calls_of_that_user() {
    let silent = Node::Script(Box::new(|_| Vec::new()));
    let mut world = World::new(vec![stack(0), generous(false), silent]);
    let now = world.now;
    let with_instance = Register {
        instance: Some("urn:uuid:1".into()),
        ..register()
    };
    world.stack(0).register(now, with_instance);
    let gruu = bound(&mut world);
    assert_eq!(gruu.as_deref(), Some("sip:alice@example.com;gr=urn:uuid:1"));
    assert_eq!(
        world.header(0, "REGISTER", "Supported").as_deref(),
        Some("path, outbound, gruu")
    );
    assert_eq!(
        world.header(0, "REGISTER", "Contact").as_deref(),
        Some("<sip:s-123@192.0.2.1:5060>;+sip.instance=\"<urn:uuid:1>\";reg-id=1")
    );
    for (user, routes, contact) in [
        (
            "s-123",
            &["<sip:192.0.2.3;lr>", "<sip:home.example.com;lr>"][..],
            "<sip:alice@example.com;gr=urn:uuid:1>",
        ),
        ("another", &[], "<sip:another@192.0.2.1:5060>"),
    ] {
        let call = Invite {
            contact_user: Some(user.into()),
            ..invite()
        };
        let now = world.now;
        world.stack(0).invite(now, call).unwrap();
        world.run(Duration::from_millis(1));
        let sent = world.request(0, "INVITE");
        assert_eq!(sent.headers.get_all("Route").collect::<Vec<_>>(), routes);
        assert_eq!(sent.headers.get("Contact"), Some(contact));
        let to = world.log.last().unwrap().to;
        assert_eq!(to, if routes.is_empty() { 1 } else { 2 });
    }
}

#[test]
fn a_proxy_that_cannot_keep_flows_gets_a_plain_binding() {
    let mut world = World::new(vec![stack(0), generous(true)]);
    let now = world.now;
    let with_instance = Register {
        instance: Some("urn:uuid:1".into()),
        ..register()
    };
    world.stack(0).register(now, with_instance);
    bound(&mut world);
    let contact = world.header(0, "REGISTER", "Contact").unwrap();
    assert!(!contact.contains("reg-id"), "{contact}");
    assert!(contact.contains("+sip.instance"), "{contact}");
    // One that was not asked gives nothing that would be used.
    let mut world = World::new(vec![stack(0), generous(false)]);
    let now = world.now;
    world.stack(0).register(now, register());
    assert_eq!(bound(&mut world), None);
}

#[test]
fn a_binding_behind_a_connection_that_closes_is_made_anew() {
    let mut world = World::new(vec![stack(0), generous(false)]);
    let by_tcp = Register {
        registrar: "sip:192.0.2.2;transport=tcp".into(),
        ..register()
    };
    let now = world.now;
    world.stack(0).register(now, by_tcp);
    bound(&mut world);
    world.run(Duration::from_secs(1));
    let before = world.times(0, "REGISTER").len();
    let now = world.now;
    world.stack(0).handle_closed(now, ConnectionId(2));
    world.run(Duration::from_secs(3));
    assert_eq!(world.times(0, "REGISTER").len(), before + 1);
}
