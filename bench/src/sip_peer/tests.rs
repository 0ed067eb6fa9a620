//! The core against a scripted client, without sockets; and two whole peers over loopback.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use gateway_core::Random;
use gateway_core::sip::digest::{Algorithm, Challenge};
use gateway_core::sip::message::{Message, Method, NameAddr, Request, Response, parse};
use gateway_core::sip::{Credentials, Transport};

use super::core::{Core, Hop, MediaEnd, Output};
use super::{CallRequest, Config, Ending, SipPeer};
use crate::media::{MediaStats, Plan, Source};

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n\
    m=video 5000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n\
    m=audio 4000 RTP/AVP 111 8 101\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n";

/// Where media would go.
#[derive(Clone, Default)]
struct Plans(Rc<RefCell<Vec<Plan>>>);

impl MediaEnd for Plans {
    fn local(&self) -> SocketAddr {
        "192.0.2.1:6000".parse().unwrap()
    }

    fn start(&self, plan: Plan) {
        self.0.borrow_mut().push(plan);
    }

    fn stats(&self) -> MediaStats {
        MediaStats::default()
    }
}

/// A peer at 192.0.2.1:5060 and clients that send by hand.
struct Bed {
    core: Core,
    plans: Plans,
    now: Instant,
    branch: u32,
}

impl Bed {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let local: SocketAddr = "192.0.2.1:5060".parse().unwrap();
        let mut config = Config::new(local);
        config.domain = "example.test".into();
        change(&mut config);
        let plans = Plans::default();
        let media = plans.clone();
        let mut seed = 1u8;
        let random = Random::new(move |bytes| {
            for byte in bytes {
                seed = seed.wrapping_mul(29).wrapping_add(17);
                *byte = seed;
            }
        });
        let open = Box::new(move || Ok(Box::new(media.clone()) as Box<dyn MediaEnd>));
        Self {
            core: Core::new(config, local, random, open),
            plans,
            now: Instant::now(),
            branch: 0,
        }
    }

    /// A request from a client; `extra` are more header lines.
    fn request(&mut self, method: &str, uri: &str, client: u8, extra: &str, body: &str) -> String {
        self.branch += 1;
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.{client}:5070;branch=z9hG4bK{};rport\r\n\
             From: <sip:alice@example.test>;tag=from\r\nTo: <{uri}>\r\nCall-ID: call-{client}\r\nCSeq: {} {method}\r\n\
             Contact: <sip:alice@192.0.2.{client}:5070>\r\n{extra}\
             Content-Length: {}\r\n\r\n{body}",
            self.branch,
            self.branch,
            body.len()
        )
    }

    /// Delivers, and returns what is sent, with where it goes.
    fn deliver(&mut self, client: u8, text: &str) -> Vec<(SocketAddr, Message)> {
        let hop = Hop {
            transport: Transport::Udp,
            remote: SocketAddr::new([192, 0, 2, client].into(), 5070),
        };
        self.core.handle_message(self.now, hop, text.as_bytes());
        self.drain()
    }

    fn drain(&mut self) -> Vec<(SocketAddr, Message)> {
        std::iter::from_fn(|| self.core.poll_output())
            .filter_map(|output| match output {
                Output::Send(hop, bytes) => Some((hop.remote, parse(&bytes).unwrap())),
                Output::Event(_) => None,
            })
            .collect()
    }

    fn pass(&mut self, time: Duration) -> Vec<(SocketAddr, Message)> {
        let until = self.now + time;
        let mut sent = Vec::new();
        while let Some(at) = self.core.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.core.handle_timeout(self.now);
            sent.extend(self.drain());
        }
        self.now = until;
        sent
    }

    /// Registers with digest, by the challenge of this algorithm; the last status.
    fn register(&mut self, user: &str, password: &str, client: u8, algorithm: Algorithm) -> u16 {
        let uri = "sip:example.test";
        let as_user = |text: String| {
            text.replace(
                &format!("To: <{uri}>"),
                &format!("To: <sip:{user}@example.test>"),
            )
        };
        let first = as_user(self.request("REGISTER", uri, client, "", ""));
        let challenged = response(&self.deliver(client, &first)[0].1);
        assert_eq!(challenged.status, 401);
        let challenge = challenged
            .headers
            .get_all("WWW-Authenticate")
            .filter_map(Challenge::parse)
            .find(|challenge| challenge.algorithm == algorithm)
            .unwrap();
        let credentials = Credentials {
            user: user.into(),
            password: password.into(),
        };
        let answer = challenge.answer(&credentials, &Method::Register, uri, 1, "cnonce");
        let extra = format!("Authorization: {answer}\r\n");
        let second = as_user(self.request("REGISTER", uri, client, &extra, ""));
        response(&self.deliver(client, &second)[0].1).status
    }

    fn ack(&mut self, client: u8, answered: &Response, body: &str) -> Vec<(SocketAddr, Message)> {
        let to = answered.headers.get("To").unwrap();
        let uri = NameAddr::parse(
            answered
                .headers
                .get("Contact")
                .unwrap_or("<sip:echo@192.0.2.1:5060>"),
        )
        .unwrap()
        .uri;
        let ack = self.request("ACK", &uri, client, "", body);
        let ack = ack.replace(&format!("To: <{uri}>"), &format!("To: {to}"));
        self.deliver(client, &ack)
    }
}

fn response(message: &Message) -> Response {
    match message {
        Message::Response(response) => response.clone(),
        Message::Request(request) => panic!("a response was expected, not {}", request.method),
    }
}

fn request(message: &Message) -> Request {
    match message {
        Message::Request(request) => request.clone(),
        Message::Response(response) => panic!("a request was expected, not {}", response.status),
    }
}

fn statuses(sent: &[(SocketAddr, Message)]) -> Vec<u16> {
    sent.iter()
        .map(|(_, message)| response(message).status)
        .collect()
}

#[test]
fn a_user_registers_with_either_algorithm_and_not_with_a_wrong_password() {
    let mut bed = Bed::new(|_| {});
    for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
        assert_eq!(bed.register("alice", "secret", 9, algorithm), 200);
    }
    assert_eq!(bed.register("bob", "wrong", 8, Algorithm::Sha256), 403);
    assert_eq!(bed.register("nobody", "secret", 8, Algorithm::Sha256), 403);
    let contact = bed.core.registrar.binding("alice", bed.now).unwrap();
    assert_eq!(contact.uri, "sip:alice@192.0.2.9:5070");
    assert!(bed.core.registrar.binding("bob", bed.now).is_none());
    assert_eq!(bed.core.counters.wrong_passwords, 2);
    bed.now += Duration::from_secs(601);
    assert!(bed.core.registrar.binding("alice", bed.now).is_none());
}

#[test]
fn an_answer_is_good_once_and_only_for_its_own_user() {
    let mut bed = Bed::new(|_| {});
    let uri = "sip:example.test";
    let first = bed
        .request("REGISTER", uri, 9, "", "")
        .replace(&format!("To: <{uri}>"), "To: <sip:alice@example.test>");
    let challenged = response(&bed.deliver(9, &first)[0].1);
    let challenge = Challenge::parse(challenged.headers.get("WWW-Authenticate").unwrap()).unwrap();
    let credentials = Credentials {
        user: "alice".into(),
        password: "secret".into(),
    };
    let answer = challenge.answer(&credentials, &Method::Register, uri, 1, "c");
    let extra = format!("Authorization: {answer}\r\n");
    let mut send = |user: &str| {
        let text = bed.request("REGISTER", uri, 9, &extra, "");
        let text = text.replace(
            &format!("To: <{uri}>"),
            &format!("To: <sip:{user}@example.test>"),
        );
        let twice = [bed.deliver(9, &text), bed.deliver(9, &text)];
        assert_eq!(twice[0], twice[1], "a retransmission gets the same answer");
        response(&twice[0][0].1)
    };
    assert_eq!(send("alice").status, 200);
    let again = send("alice");
    assert_eq!(again.status, 401);
    assert!(
        again
            .headers
            .get("WWW-Authenticate")
            .unwrap()
            .contains("stale=true")
    );
    assert_eq!(send("bob").status, 403);
}

#[test]
fn calls_go_to_the_contact_and_their_cancel_and_ack_take_the_same_way() {
    let mut bed = Bed::new(|_| {});
    assert_eq!(bed.register("bob", "secret", 8, Algorithm::Md5), 200);
    let invite = bed.request(
        "INVITE",
        "sip:bob@example.test",
        9,
        "Max-Forwards: 7\r\n",
        OFFER,
    );
    let sent = bed.deliver(9, &invite);
    let (to, onward) = (sent[0].0, request(&sent[0].1));
    assert_eq!(to, "192.0.2.8:5070".parse().unwrap());
    assert_eq!(onward.uri, "sip:alice@192.0.2.8:5070");
    assert_eq!(onward.headers.get("Max-Forwards"), Some("6"));
    assert_eq!(onward.headers.get_all("Via").count(), 2);
    let cancel = invite
        .replace("INVITE sip", "CANCEL sip")
        .replace(" INVITE\r\n", " CANCEL\r\n");
    let cancelled = request(&bed.deliver(9, &cancel)[0].1);
    assert_eq!(cancelled.headers.get("Via"), onward.headers.get("Via"));
    let busy = gateway_core::sip::message::response_to(&onward, 486, "");
    let text = String::from_utf8(busy.to_bytes()).unwrap();
    let back = bed.deliver(8, &text);
    assert_eq!(back[0].0, "192.0.2.9:5070".parse().unwrap());
    assert_eq!(response(&back[0].1).headers.get_all("Via").count(), 1);
}

#[test]
fn who_cannot_be_reached_is_told_so() {
    let mut bed = Bed::new(|_| {});
    let mut status = |uri: &str, extra: &str| {
        let text = bed.request("INVITE", uri, 9, extra, OFFER);
        statuses(&bed.deliver(9, &text)).pop()
    };
    assert_eq!(status("sip:bob@example.test", ""), Some(480));
    assert_eq!(status("sip:eve@example.test", ""), Some(404));
    assert_eq!(status("sip:eve@198.51.100.1", ""), Some(404));
    assert_eq!(
        status("sip:bob@example.test", "Max-Forwards: 0\r\n"),
        Some(483)
    );
    assert_eq!(status("sip:echo@198.51.100.1", ""), Some(404));
}

#[test]
fn calls_of_known_users_are_challenged_where_that_is_asked_for() {
    let mut bed = Bed::new(|config| config.authenticate_calls = true);
    assert_eq!(bed.register("bob", "secret", 8, Algorithm::Md5), 200);
    let invite = bed.request("INVITE", "sip:bob@example.test", 9, "", OFFER);
    let challenged = response(&bed.deliver(9, &invite)[0].1);
    assert_eq!(challenged.status, 407);
    let challenge =
        Challenge::parse(challenged.headers.get("Proxy-Authenticate").unwrap()).unwrap();
    let credentials = Credentials {
        user: "alice".into(),
        password: "secret".into(),
    };
    let answer = challenge.answer(
        &credentials,
        &Method::Invite,
        "sip:bob@example.test",
        1,
        "c",
    );
    let extra = format!("Proxy-Authorization: {answer}\r\n");
    let invite = bed.request("INVITE", "sip:bob@example.test", 9, &extra, OFFER);
    let onward = request(&bed.deliver(9, &invite)[0].1);
    assert_eq!(onward.headers.get("Proxy-Authorization"), None);
}

#[test]
fn echo_rings_answers_until_the_ack_and_ends_with_bye() {
    let mut bed = Bed::new(|config| config.echo_codecs = vec!["PCMA".into()]);
    let invite = bed.request("INVITE", "sip:echo@example.test", 9, "", OFFER);
    assert_eq!(statuses(&bed.deliver(9, &invite)), [100, 180]);
    assert_eq!(statuses(&bed.deliver(9, &invite)), [180]);
    // 200 after 200 ms, again after 0.5, 1 and 2 s more.
    let sent = bed.pass(Duration::from_secs(4));
    assert_eq!(statuses(&sent), [200; 4]);
    let answered = response(&sent[0].1);
    let sdp = String::from_utf8(answered.body.clone()).unwrap();
    assert!(
        sdp.contains("m=video 0 RTP/AVP 96\r\nm=audio 6000 RTP/AVP 8 101\r\n"),
        "{sdp}"
    );
    let plan = bed.plans.0.borrow()[0];
    assert_eq!(
        (plan.payload_type, plan.events, plan.source),
        (8, Some(101), Source::Echo)
    );
    assert_eq!(plan.rtp, "192.0.2.9:4000".parse().unwrap());
    assert_eq!(bed.ack(9, &answered, ""), []);
    assert!(statuses(&bed.pass(Duration::from_secs(60))).is_empty());
    assert!(bed.core.reports(bed.now)[0].up);
    let to = answered.headers.get("To").unwrap();
    let bye = bed.request("BYE", "sip:echo@192.0.2.1:5060", 9, "", "");
    let bye = bye.replace("To: <sip:echo@192.0.2.1:5060>", &format!("To: {to}"));
    assert_eq!(statuses(&bed.deliver(9, &bye)), [200]);
    assert_eq!(statuses(&bed.deliver(9, &bye)), [200], "a retransmission");
    assert_eq!(bed.core.reports(bed.now)[0].ended, Some(Ending::ByPeer));
}

#[test]
fn an_answer_without_ack_ends_in_a_bye() {
    let mut bed = Bed::new(|_| {});
    let invite = bed.request("INVITE", "sip:tone@example.test", 9, "", OFFER);
    bed.deliver(9, &invite);
    let sent = bed.pass(Duration::from_secs(33));
    let bye = request(&sent.last().unwrap().1);
    assert_eq!(
        (bye.method, bye.uri.as_str()),
        (Method::Bye, "sip:alice@192.0.2.9:5070")
    );
    bed.pass(Duration::from_secs(33));
    assert_eq!(bed.core.reports(bed.now)[0].ended, Some(Ending::TimedOut));
}

#[test]
fn a_call_that_is_cancelled_or_refused_is_acknowledged_and_forgotten() {
    for (service, status) in [
        ("ring", 487),
        ("busy", 486),
        ("reject", 603),
        ("silent", 487),
    ] {
        let mut bed = Bed::new(|_| {});
        let invite = bed.request(
            "INVITE",
            &format!("sip:{service}@example.test"),
            9,
            "",
            OFFER,
        );
        let mut sent = bed.deliver(9, &invite);
        if status == 487 {
            let cancel = invite
                .replace("INVITE sip", "CANCEL sip")
                .replace(" INVITE\r\n", " CANCEL\r\n");
            sent = bed.deliver(9, &cancel);
            assert_eq!(statuses(&sent), [200, 487]);
        }
        let last = response(&sent.last().unwrap().1);
        assert_eq!(last.status, status);
        assert_eq!(
            statuses(&bed.pass(Duration::from_millis(600))),
            [status],
            "sent again"
        );
        bed.ack(9, &last, "");
        assert!(bed.pass(Duration::from_secs(60)).is_empty());
        assert_eq!(bed.core.poll_timeout(), None);
    }
}

#[test]
fn an_offer_without_a_codec_of_ours_is_refused_and_one_that_is_broken_too() {
    for (offer, status) in [
        (OFFER.replace("111 8 101", "111"), 488),
        ("m=audio".into(), 400),
    ] {
        let mut bed = Bed::new(|_| {});
        let invite = bed.request("INVITE", "sip:tone@example.test", 9, "", &offer);
        assert_eq!(statuses(&bed.deliver(9, &invite)), [100, status]);
    }
}

#[test]
fn an_invite_without_description_gets_our_offer_and_the_ack_answers_it() {
    let mut bed = Bed::new(|_| {});
    let invite = bed.request("INVITE", "sip:tone@example.test", 9, "", "");
    bed.deliver(9, &invite);
    let answered = response(&bed.pass(Duration::from_millis(150))[0].1);
    assert!(String::from_utf8_lossy(&answered.body).contains("RTP/AVP 0 8 101"));
    assert!(bed.plans.0.borrow().is_empty());
    bed.ack(9, &answered, OFFER);
    assert_eq!(bed.plans.0.borrow()[0].payload_type, 8);
}

#[test]
fn a_reinvite_moves_the_media_and_hold_stops_it() {
    let mut bed = Bed::new(|_| {});
    let invite = bed.request("INVITE", "sip:tone@example.test", 9, "", OFFER);
    bed.deliver(9, &invite);
    let answered = response(&bed.pass(Duration::from_millis(150))[0].1);
    bed.ack(9, &answered, "");
    let moved = OFFER.replace("4000", "4444") + "a=sendonly\r\n";
    let to = answered.headers.get("To").unwrap();
    let again = bed.request("INVITE", "sip:tone@192.0.2.1:5060", 9, "", &moved);
    let again = again.replace("To: <sip:tone@192.0.2.1:5060>", &format!("To: {to}"));
    let sent = bed.deliver(9, &again);
    assert_eq!(statuses(&sent), [200]);
    assert!(String::from_utf8_lossy(&response(&sent[0].1).body).contains("a=recvonly"));
    let plan = *bed.plans.0.borrow().last().unwrap();
    assert_eq!((plan.rtp.port(), plan.sends), (4444, false));
    bed.ack(9, &response(&sent[0].1), "");
    assert!(bed.pass(Duration::from_secs(60)).is_empty());
}

fn loopback() -> Config {
    Config::new("127.0.0.1:0".parse().unwrap())
}

/// The report of the only call, once it has ended.
fn ended(peer: &SipPeer) -> super::CallReport {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(report) = peer.calls().into_iter().find(|call| call.ended.is_some()) {
            return report;
        }
        assert!(Instant::now() < deadline, "the call does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_tone_comes_back_from_echo_over_both_transports() {
    let peer = SipPeer::start(loopback()).unwrap();
    for transport in [Transport::Udp, Transport::Tcp] {
        let caller = SipPeer::start(loopback()).unwrap();
        let mut request = CallRequest::new(format!("sip:echo@{}", peer.local_addr()));
        request.proxy = Some((transport, peer.local_addr()));
        request.hang_up_after = Some(Duration::from_millis(1200));
        caller.call(request).unwrap();
        let report = ended(&caller);
        assert_eq!((report.status, report.ended), (200, Some(Ending::ByUs)));
        let (media, heard) = (&report.media, &report.media.received);
        assert!(media.sent_packets >= 55 && heard.packets >= 40, "{media:?}");
        assert_eq!(
            (heard.lost, heard.duplicates, media.foreign),
            (0, 0, 0),
            "{media:?}"
        );
        assert!(
            media.audio.tone_windows + 1 >= media.audio.windows,
            "{media:?}"
        );
        assert!(media.audio.tone_windows >= 9, "{media:?}");
    }
}

#[test]
fn a_registered_user_is_called_through_the_peer_and_hears_the_tone() {
    let registrar = SipPeer::start(loopback()).unwrap();
    // Another peer's echo service plays the phone of bob: it is registered by hand.
    let phone = SipPeer::start(loopback()).unwrap();
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(registrar.local_addr()).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let send = |number: u32, extra: &str| {
        let text = format!(
            "REGISTER sip:localhost SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKr{number};rport\r\nFrom: <sip:bob@localhost>;tag=1\r\n\
             To: <sip:bob@localhost>\r\nCall-ID: reg\r\nCSeq: {number} REGISTER\r\nContact: <sip:echo@{}>\r\n\
             {extra}Content-Length: 0\r\n\r\n",
            client.local_addr().unwrap(),
            phone.local_addr()
        );
        client.send(text.as_bytes()).unwrap();
        let mut buffer = [0; 4096];
        let length = client.recv(&mut buffer).unwrap();
        response(&parse(&buffer[..length]).unwrap())
    };
    let challenged = send(1, "");
    let challenge = Challenge::parse(challenged.headers.get("WWW-Authenticate").unwrap()).unwrap();
    let credentials = Credentials {
        user: "bob".into(),
        password: "secret".into(),
    };
    let answer = challenge.answer(&credentials, &Method::Register, "sip:localhost", 1, "c");
    assert_eq!(send(2, &format!("Authorization: {answer}\r\n")).status, 200);
    assert!(registrar.is_registered("bob"));

    let caller = SipPeer::start(loopback()).unwrap();
    let mut request = CallRequest::new("sip:bob@localhost");
    request.proxy = Some((Transport::Udp, registrar.local_addr()));
    request.hang_up_after = Some(Duration::from_millis(700));
    caller.call(request).unwrap();
    let report = ended(&caller);
    assert_eq!((report.status, report.ended), (200, Some(Ending::ByUs)));
    assert!(report.media.audio.tone_windows >= 4, "{:?}", report.media);
    assert!(registrar.counters().relayed_requests >= 1);
    // The registrar's own call to its user needs no proxy.
    let call_id = registrar.call(CallRequest::new("bob")).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert!(registrar.hang_up(&call_id));
    assert_eq!(ended(&registrar).status, 200);
}

#[test]
fn a_call_to_nobody_over_tcp_fails_at_once() {
    let caller = SipPeer::start(loopback()).unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let mut request = CallRequest::new(format!("sip:echo@{address}"));
    request.proxy = Some((Transport::Tcp, address));
    caller.call(request).unwrap();
    let report = ended(&caller);
    assert_eq!((report.status, report.ended), (503, Some(Ending::Refused)));
}
