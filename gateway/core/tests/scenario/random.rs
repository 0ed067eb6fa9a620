//! Random sequences of what pages, the SIP side, the network and the daemon do, from a seed. Whatever the order: nothing panics, every
//! request is answered once, flows are those of bridged calls, nothing is told of a call after its end (the world checks
//! these at every step), and when all is over nothing is left.

use super::*;
use gateway_core::Random;
use gateway_core::api::{Candidates, Dtmf, Mute};
use gateway_core::gateway::Input;
use std::sync::atomic::Ordering;
use world::{MEDIA, seeded};

/// Seeds of one run.
const SEEDS: std::ops::Range<u64> = 0..80;
/// Actions of one seed.
const ACTIONS: usize = 120;

/// A page's description with credentials of its own.
fn web_sdp(ufrag: u32, setup: &str) -> String {
    let fingerprint = vec!["5C"; 32].join(":");
    // A peer that is ice-lite itself makes us the full agent, with timers.
    let lite = if ufrag.is_multiple_of(4) {
        "a=ice-lite\r\n"
    } else {
        ""
    };
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{lite}a=group:BUNDLE 0\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 0 8\r\nc=IN IP4 0.0.0.0\r\n\
         a=ice-ufrag:u{ufrag:08x}\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         a=setup:{setup}\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    )
}

/// Who acts, and what they know.
struct Actors {
    random: Random,
    sessions: Vec<SessionId>,
    calls: Vec<(SessionId, CallId)>,
    /// Requests whose reply was not read yet.
    asked: Vec<(SessionId, u64)>,
    signing_in: Vec<u64>,
    /// Calls as the SIP side knows them.
    handles: Vec<sip::CallHandle>,
    /// The request of the one call in which str0m is the page, then that call.
    real: Option<u64>,
    real_call: Option<CallId>,
    /// What was told of calls in the answers: fragments for forged checks.
    ufrags: Vec<String>,
    clock: u16,
}

impl Actors {
    fn new(seed: u64) -> Self {
        Self {
            random: seeded(seed ^ 0x5eed),
            sessions: Vec::new(),
            calls: Vec::new(),
            asked: Vec::new(),
            signing_in: Vec::new(),
            handles: Vec::new(),
            real: None,
            real_call: None,
            ufrags: Vec::new(),
            clock: 0,
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.u32() as usize % end.max(1)
    }

    fn one<T: Clone>(&mut self, of: impl Fn(&Self) -> &Vec<T>) -> Option<T> {
        let place = self.below(of(self).len());
        of(self).get(place).cloned()
    }

    fn act(&mut self, world: &mut World) {
        match self.below(24) {
            0 => self.sign_in(world),
            1..=3 => self.call(world),
            4..=8 => self.sip_acts(world),
            9..=11 => self.page_acts(world),
            12 => self.sip_calls(world),
            13..=14 => self.ask_views(world),
            15..=16 => self.noise(world),
            17 => self.change_network(world),
            18..=19 => self.speak(world),
            20 => {
                let millis = self.below(20_000) as u64;
                world.advance(Duration::from_millis(millis));
            }
            _ => {
                let millis = self.below(300) as u64;
                world.advance(Duration::from_millis(millis));
            }
        }
        world.settle();
        self.read(world);
    }

    fn sign_in(&mut self, world: &mut World) {
        let user = match self.below(4) {
            0 => None,
            1 => Some("mallory"),
            _ => Some("alice"),
        };
        let body = CreateSession {
            user: user.map(String::from),
            password: user.map(|_| "secret".into()),
            display_name: None,
            takes_offers: self.below(3) > 0,
            ..CreateSession::default()
        };
        self.signing_in
            .push(world.ask(Request::CreateSession(body, None)));
    }

    fn call(&mut self, world: &mut World) {
        let Some(session) = self.one(|it| &it.sessions) else {
            return;
        };
        let real = self.real.is_none();
        let offer = match self.below(3) {
            _ if real => Some(world.page.offer(false)),
            // The SIP side may offer, or not.
            0 => None,
            _ => Some(web_sdp(self.random.u32(), "actpass")),
        };
        let to = "echo".into();
        let body = CreateCall {
            to,
            offer,
            ..CreateCall::default()
        };
        let request = Request::CreateCall(session.clone(), body);
        let id = world.ask(request);
        if real {
            self.real = Some(id);
        }
        self.asked.push((session, id));
    }

    /// The SIP side does something to one of its calls, whether it fits or not.
    fn sip_acts(&mut self, world: &mut World) {
        let Some(call) = self.one(|it| &it.handles) else {
            return;
        };
        let codecs = ["0 101", "8", "0 8", "18"][self.below(4)];
        let direction = ["sendrecv", "sendonly", "inactive"][self.below(3)];
        let sdp = sip_sdp(codecs, direction, PEER_RTP);
        let now = world.now;
        match self.below(9) {
            0 => world.peer.provisional(now, call, 180, None),
            1 => world.peer.provisional(now, call, 183, Some(sdp)),
            2..=4 => world
                .peer
                .accept(now, call, sip_sdp("0", "sendrecv", PEER_RTP)),
            5 => world.peer.accept(now, call, sdp),
            6 => world.peer.reinvite(now, call, sdp),
            7 => {
                world.ack_sdp = Some(sdp);
                world.peer.reinvite(now, call, String::new());
            }
            _ if self.below(2) == 0 => world.peer.reject(now, call, 486, "Busy Here"),
            _ => world.peer.hang_up(now, call),
        }
    }

    fn sip_calls(&mut self, world: &mut World) {
        if world.contact_user.is_some() {
            let call = call_page(world);
            self.handles.push(call);
        }
    }

    fn page_acts(&mut self, world: &mut World) {
        let Some((session, call)) = self.one(|it| &it.calls) else {
            return;
        };
        let own = if self.below(8) == 0 {
            self.one(|it| &it.sessions).unwrap_or(session)
        } else {
            session
        };
        let sdp = web_sdp(
            self.random.u32(),
            ["active", "passive", "actpass"][self.below(3)],
        );
        let request = match self.below(11) {
            9 => {
                let digits = "19*#AD"[..1 + self.below(5)].to_owned();
                let dtmf = Dtmf {
                    digits,
                    duration_ms: None,
                    gap_ms: None,
                };
                Request::Dtmf(own.clone(), call, dtmf)
            }
            10 => {
                let muted = self.below(2) == 0;
                Request::Mute(own.clone(), call, Mute { muted })
            }
            0..=2 => Request::Answer(own.clone(), call, Answer { answer: sdp }),
            3 => Request::Offer(own.clone(), call, Offer { offer: sdp }),
            4 => {
                let candidates = vec!["candidate:1 1 udp 1 203.0.113.9 9 typ host".into()];
                Request::Candidates(own.clone(), call, Candidates { candidates })
            }
            5 => Request::Reject(own.clone(), call, Reject { status: None }),
            6 => Request::HangUp(own.clone(), call),
            7 if self.below(3) == 0 => {
                self.sessions.retain(|known| *known != own);
                Request::EndSession(own.clone())
            }
            _ => Request::Call(own.clone(), call),
        };
        self.asked.push((own, world.ask(request)));
    }

    fn ask_views(&mut self, world: &mut World) {
        let Some(session) = self.one(|it| &it.sessions) else {
            return;
        };
        let request = match self.below(3) {
            0 => Request::AllCalls,
            1 => Request::Flows,
            _ => Request::Session(session.clone()),
        };
        self.asked.push((session, world.ask(request)));
    }

    /// Datagrams of strangers: any bytes, RTP, checks with a fragment of ours.
    fn noise(&mut self, world: &mut World) {
        let length = self.below(80);
        let mut bytes = vec![0; length];
        self.random.fill(&mut bytes);
        match (self.below(4), bytes.first_mut()) {
            (0, Some(first)) => *first = 0x80,
            (1, Some(first)) => *first = 22,
            (2, _) => {
                if let Some(ufrag) = self.one(|it| &it.ufrags) {
                    bytes = edges::unauthenticated_check(&ufrag);
                }
            }
            _ => {}
        }
        let local = match world.open_ports.last() {
            Some(pair) if self.below(2) == 0 => pair.rtp,
            _ => MEDIA.parse().unwrap(),
        };
        let remote = [
            "10.0.0.2:7600",
            "10.0.0.2:7000",
            "203.0.113.9:9",
            "198.51.100.7:50000",
        ];
        world.inject(local, remote[self.below(4)], bytes);
    }

    fn change_network(&mut self, world: &mut World) {
        match self.below(7) {
            0 => world.cut = !world.cut,
            1 => world.no_ports = !world.no_ports,
            2 => world.slow_ports = !world.slow_ports,
            3 => world.registrar_away = !world.registrar_away,
            4 => world.loss_percent = [0, 5, 30][self.below(3)],
            5 => world.jitter = Duration::from_millis(self.below(60) as u64),
            _ => world.answer_ports(),
        }
    }

    fn speak(&mut self, world: &mut World) {
        self.clock += 1;
        let (sequence, timestamp) = (self.clock, u32::from(self.clock) * 160);
        if world.page.connected {
            let now = world.now;
            world
                .page
                .speak(now, u64::from(sequence), timestamp, &[0x55; 160]);
        }
        if let Some(pair) = world.open_ports.last() {
            let local = pair.rtp;
            world.inject(
                local,
                PEER_RTP,
                rtp(0, sequence, timestamp, 7, &[0xd5; 160]),
            );
        }
    }

    /// Takes in what replies and events say.
    fn read(&mut self, world: &mut World) {
        for request in std::mem::take(&mut self.signing_in) {
            match world.reply(request) {
                Some(Ok(Reply::SessionCreated(created))) => self.sessions.push(created.id),
                Some(_) => {}
                None => self.signing_in.push(request),
            }
        }
        for (session, request) in std::mem::take(&mut self.asked) {
            match world.reply(request) {
                Some(Ok(Reply::Call(view))) => {
                    if self.real == Some(request) {
                        self.real_call = Some(view.id.clone());
                    }
                    self.calls.push((session, view.id));
                }
                Some(_) => {}
                None => self.asked.push((session, request)),
            }
        }
        for event in std::mem::take(&mut world.events) {
            match event {
                Event::Incoming { call, offer, .. } => {
                    self.ufrags.push(edges::ufrag_of(&offer));
                    let sessions = self.sessions.iter();
                    self.calls
                        .extend(sessions.map(|session| (session.clone(), call.clone())));
                }
                Event::Answer { call, answer, .. } => {
                    self.ufrags.push(edges::ufrag_of(&answer));
                    if self.real_call.as_ref() == Some(&call) {
                        world.page.accept_answer(&answer);
                        let now = world.now;
                        world.page.handle_timeout(now);
                    }
                }
                Event::Ended { call, .. } => self.calls.retain(|(_, known)| *known != call),
                _ => {}
            }
        }
        for event in std::mem::take(&mut world.peer_events) {
            if let sip::Event::Incoming { call, .. } = event {
                self.handles.push(call);
            }
        }
    }
}

/// What the runs of all seeds reached, or the test would prove little.
#[derive(Default)]
struct Reached {
    bridged: usize,
    heard: usize,
    incoming: usize,
    panics: u64,
}

/// `bugs`: panics happen anywhere now and then.
fn run(seed: u64, bugs: bool, reached: &mut Reached) {
    // Half of the gateways wait for browsers that fell silent.
    let mut world = World::configured(seed, |config| {
        config.limits.reconnect = Duration::from_secs(15 * (seed % 2));
    });
    let mut actors = Actors::new(seed);
    actors.sign_in(&mut world);
    actors.sessions.push(world.guest());
    let mut most = 0;
    for _ in 0..ACTIONS {
        if bugs && actors.below(16) == 0 {
            let draws = 1 + actors.below(8) as u32;
            world.fuse.store(draws, Ordering::Relaxed);
        }
        actors.act(&mut world);
        most = most.max(world.flow_count());
    }
    reached.bridged += usize::from(most > 0);
    reached.heard += world.peer_heard.len() + world.page.heard.len();
    reached.incoming += usize::from(world.contact_user.is_some() && actors.handles.len() > 1);

    reached.panics += world.gateway.panics();
    world.fuse.store(0, Ordering::Relaxed);
    (world.loss_percent, world.jitter) = (0, Duration::ZERO);
    (world.registrar_away, world.slow_ports) = (false, false);
    world.answer_ports();
    world.settle();
    if seed.is_multiple_of(2) {
        for session in std::mem::take(&mut actors.sessions) {
            world.ask(Request::EndSession(session));
        }
    }
    world.gateway.shut_down(world.now);
    world.gateway.handle(world.now, Input::Timeout);
    world.settle();
    world.until(120 * SECOND, "the gateway is idle", |world| {
        // A registration that broke is not taken down any more; the daemon does not wait for that.
        world.gateway.is_idle() || (bugs && world.gateway.calls().count() == 0)
    });
    nothing_is_left(&world);
    assert_eq!(world.gateway.session_count(), 0);
}

#[test]
fn random_sequences_leave_nothing_behind() {
    let mut reached = Reached::default();
    for seed in SEEDS {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(seed, false, &mut reached);
        }));
        assert!(caught.is_ok(), "seed {seed}");
    }
    assert!(
        reached.bridged >= 10,
        "{} seeds with media",
        reached.bridged
    );
    assert!(reached.heard >= 50, "{} packets", reached.heard);
    assert!(
        reached.incoming >= 10,
        "{} seeds with calls",
        reached.incoming
    );
}

/// The same with bugs: what panics ends, and nothing of it is left either.
#[test]
fn random_sequences_with_panics_leave_nothing_behind() {
    let mut reached = Reached::default();
    for seed in SEEDS {
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run(seed, true, &mut reached);
        }));
        assert!(caught.is_ok(), "seed {seed}");
    }
    assert!(reached.panics >= 100, "{} panics", reached.panics);
}
