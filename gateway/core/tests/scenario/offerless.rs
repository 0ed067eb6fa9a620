//! The page calls without an offer: the SIP side makes it, in its 200 or in a reliable 18x, and the page answers.

use super::*;
use gateway_core::api::CallState;

const OTHER_RTP: &str = "10.0.0.2:7100";

fn sign_in(world: &mut World, takes_offers: bool) -> SessionId {
    let body = CreateSession {
        takes_offers,
        ..CreateSession::default()
    };
    match world.request(Request::CreateSession(body, None)) {
        Ok(Reply::SessionCreated(created)) => created.id,
        _ => panic!("a guest signs in"),
    }
}

/// The INVITE without an offer is at the callee.
pub(super) fn calling(world: &mut World) -> (SessionId, CallId, sip::CallHandle) {
    let session = sign_in(world, true);
    let body = CreateCall {
        to: "echo".into(),
        ..CreateCall::default()
    };
    let Ok(Reply::Call(view)) = world.request(Request::CreateCall(session.clone(), body)) else {
        panic!("a call view");
    };
    assert_eq!(view.state, CallState::Calling);
    let callee = callee(world);
    (session, view.id, callee)
}

pub(super) fn offered(world: &mut World) -> (bool, String) {
    world.event("call.offer", |event| match event {
        Event::Offer { early, offer, .. } => Some((*early, offer.clone())),
        _ => None,
    })
}

/// The page's answer to what it was offered.
pub(super) fn answer(world: &mut World, session: &SessionId, call: &CallId, offer: &str) {
    let answer = world.page.answer(offer);
    let request = Request::Answer(session.clone(), call.clone(), Answer { answer });
    world.request(request).map(|_| ()).unwrap();
    let now = world.now;
    world.page.handle_timeout(now);
    world.advance(Duration::from_millis(20));
}

fn answered(world: &mut World) {
    world.event("call.answered", |event| {
        matches!(event, Event::Answered { .. }).then_some(())
    });
}

fn accept(world: &mut World, callee: sip::CallHandle, codecs: &str) {
    let offer = sip_sdp(codecs, "sendrecv", PEER_RTP);
    world.peer.accept(world.now, callee, offer);
    world.settle();
}

fn progress(world: &mut World, callee: sip::CallHandle, codecs: &str) {
    let offer = sip_sdp(codecs, "sendrecv", PEER_RTP);
    world.peer.provisional(world.now, callee, 183, Some(offer));
    world.settle();
}

/// The call is over, and the last messages have arrived.
fn over(world: &mut World) {
    idle(world);
    world.advance(SECOND);
}

/// What the gateway sent under that method, in order.
fn sent(world: &World, method: &str) -> Vec<String> {
    let start = format!("{method} ");
    let log = world.sip_log.iter();
    log.filter(|text| text.starts_with(&start))
        .cloned()
        .collect()
}

/// A message whose description rejects every medium.
fn refuses(text: &str) -> bool {
    let mut media = text
        .lines()
        .filter(|line| line.starts_with("m="))
        .peekable();
    media.peek().is_some() && media.all(|line| line.split(' ').nth(1) == Some("0"))
}

/// A packet of the callee for the audio, which has the first of the ports.
fn callee_speaks(world: &mut World, from: &str, index: u16) {
    let audio = world.open_ports[0].rtp;
    let packet = rtp(0, index, u32::from(index) * 160, 0xabcd, &[0xd5; 160]);
    world.inject(audio, from, packet);
}

/// Voice both ways.
fn voice(world: &mut World, first: u16) {
    let before = (world.page.heard.len(), world.peer_heard.len());
    for index in first..first + 50 {
        let (now, timestamp) = (world.now, u32::from(index) * 160);
        let number = u64::from(index);
        world.page.speak(now, number, timestamp, &[0x55; 160]);
        callee_speaks(world, PEER_RTP, index);
        world.advance(Duration::from_millis(20));
    }
    world.advance(SECOND);
    let after = (world.page.heard.len(), world.peer_heard.len());
    assert_eq!(after, (before.0 + 50, before.1 + 50));
}

fn page_hangs_up(world: &mut World, session: SessionId, call: CallId) {
    let request = Request::HangUp(session, call);
    world.request(request).map(|_| ()).unwrap();
    over(world);
}

#[test]
fn the_callees_offer_reaches_the_page_and_its_answer_goes_in_the_ack() {
    let mut world = World::new(700);
    let (session, call, callee) = calling(&mut world);
    let invite = sent(&world, "INVITE").remove(0);
    assert!(!invite.contains("Content-Type"), "{invite}");
    world.peer.provisional(world.now, callee, 180, None);
    world.event("call.ringing", |event| {
        matches!(event, Event::Ringing { status: 180, .. }).then_some(())
    });
    accept(&mut world, callee, "0 101");
    let (early, offer) = offered(&mut world);
    assert!(!early && offer.contains("a=setup:actpass"), "{offer}");
    world.advance(2 * SECOND);
    assert_eq!(sent(&world, "ACK").len(), 0, "it waits for the page");
    answer(&mut world, &session, &call, &offer);
    let confirmed = world.peer_event("ACK", |event| match event {
        sip::Event::Confirmed { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    let confirmed = confirmed.expect("the ACK has the answer");
    assert!(confirmed.contains("m=audio 20000 RTP/AVP 0"), "{confirmed}");
    answered(&mut world);
    await_connected(&mut world);
    voice(&mut world, 1);
    assert_eq!(world.missed, 0);
    // What the callee changes afterwards needs no page, and what the page changes goes there.
    world
        .peer
        .reinvite(world.now, callee, sip_sdp("0 101", "sendonly", PEER_RTP));
    world.settle();
    world.event("held", |event| {
        matches!(event, Event::Held { held: true, .. }).then_some(())
    });
    page_hangs_up(&mut world, session, call);
    assert_eq!(
        (sent(&world, "ACK").len(), sent(&world, "BYE").len()),
        (1, 1)
    );
}

#[test]
fn an_offer_in_a_reliable_response_is_answered_in_prack_and_early_media_flows() {
    let mut world = World::new(701);
    let (session, call, callee) = calling(&mut world);
    progress(&mut world, callee, "0 101");
    let (early, offer) = offered(&mut world);
    assert!(early);
    assert_eq!(sent(&world, "PRACK").len(), 0, "it waits for the page");
    answer(&mut world, &session, &call, &offer);
    let in_prack = world.peer_event("PRACK", |event| match event {
        sip::Event::EarlyAnswer { sdp, .. } => Some(sdp.clone()),
        _ => None,
    });
    assert!(in_prack.contains("m=audio 20000 RTP/AVP 0"), "{in_prack}");
    await_connected(&mut world);
    voice(&mut world, 1);
    // An early change by UPDATE, once the first exchange is over.
    world
        .peer
        .update(world.now, callee, sip_sdp("0 101", "sendonly", PEER_RTP));
    world.settle();
    world.event("held", |event| {
        matches!(event, Event::Held { held: true, .. }).then_some(())
    });
    world
        .peer
        .update(world.now, callee, sip_sdp("0 101", "sendrecv", PEER_RTP));
    world.settle();
    accept(&mut world, callee, "0 101");
    answered(&mut world);
    world.advance(Duration::from_millis(20));
    let ack = sent(&world, "ACK").remove(0);
    assert!(!ack.contains("m=audio"), "{ack}");
    voice(&mut world, 51);
    world.peer.hang_up(world.now, callee);
    world.settle();
    assert_eq!(ended(&mut world).0, "sip");
    over(&mut world);
    let _over = (session, call);
}

#[test]
fn only_pages_that_take_offers_may_call_without_one() {
    let mut world = World::new(702);
    let session = sign_in(&mut world, false);
    let body = CreateCall {
        to: "echo".into(),
        ..CreateCall::default()
    };
    let request = Request::CreateCall(session, body);
    let problem = world.request(request).map(|_| ()).unwrap_err();
    assert_eq!((problem.status, problem.kind.as_str()), (400, "no-offer"));
    assert!(problem.detail.unwrap().contains("takes_offers"));
    assert!(world.gateway.is_idle());
}

#[test]
fn a_page_that_does_not_answer_in_time_loses_the_call_and_the_callee_is_told_in_full() {
    for early in [false, true] {
        let mut world = World::new(703);
        let (_, _, callee) = calling(&mut world);
        if early {
            progress(&mut world, callee, "0");
        } else {
            accept(&mut world, callee, "0");
        }
        offered(&mut world);
        let begin = world.now;
        assert_eq!(ended(&mut world), ("gateway".into(), Some(408)));
        let waited = world.now - begin;
        assert!((14 * SECOND..16 * SECOND).contains(&waited), "{waited:?}");
        over(&mut world);
        let (answer, end) = if early {
            ("PRACK", "CANCEL")
        } else {
            ("ACK", "BYE")
        };
        assert!(refuses(&sent(&world, answer)[0]), "{:?}", world.sip_log);
        let end = sent(&world, end).remove(0);
        assert!(end.contains("Reason: SIP;cause=408"), "{end}");
    }
}

#[test]
fn an_offer_that_cannot_be_used_ends_the_call() {
    for early in [false, true] {
        let mut world = World::new(704);
        let (_, _, callee) = calling(&mut world);
        if early {
            progress(&mut world, callee, "18");
        } else {
            accept(&mut world, callee, "18");
        }
        assert_eq!(ended(&mut world), ("gateway".into(), Some(488)));
        over(&mut world);
        let (answer, end) = if early {
            ("PRACK", "CANCEL")
        } else {
            ("ACK", "BYE")
        };
        assert!(refuses(&sent(&world, answer)[0]), "{:?}", world.sip_log);
        assert_eq!(sent(&world, end).len(), 1);
    }
}

#[test]
fn an_answer_without_an_offer_ends_the_call() {
    let mut world = World::new(705);
    let (_, _, callee) = calling(&mut world);
    world.peer.accept(world.now, callee, String::new());
    world.settle();
    assert_eq!(ended(&mut world).0, "gateway");
    over(&mut world);
    assert_eq!(
        (sent(&world, "ACK").len(), sent(&world, "BYE").len()),
        (1, 1)
    );
}

#[test]
fn a_page_that_hangs_up_while_it_is_asked_leaves_nothing_open() {
    for early in [false, true] {
        let mut world = World::new(706);
        let (session, call, callee) = calling(&mut world);
        if early {
            progress(&mut world, callee, "0");
        } else {
            accept(&mut world, callee, "0");
        }
        offered(&mut world);
        page_hangs_up(&mut world, session, call);
        let answer = sent(&world, if early { "PRACK" } else { "ACK" });
        assert!(refuses(&answer[0]), "{answer:?}");
        world.peer_event("the end", |event| {
            matches!(
                event,
                sip::Event::Ended { .. } | sip::Event::Cancelled { .. }
            )
            .then_some(())
        });
    }
}

#[test]
fn a_cancel_that_crosses_the_answer_is_followed_by_a_refusing_ack_and_bye() {
    let mut world = World::new(707);
    let (session, call, callee) = calling(&mut world);
    world.peer.provisional(world.now, callee, 180, None);
    world.advance(SECOND);
    // Both leave at the same moment.
    world.ask(Request::HangUp(session, call));
    accept(&mut world, callee, "0");
    over(&mut world);
    assert_eq!(sent(&world, "CANCEL").len(), 1);
    let ack = sent(&world, "ACK");
    assert!(refuses(&ack[0]), "{ack:?}");
    assert_eq!(sent(&world, "BYE").len(), 1);
}

#[test]
fn who_is_called_without_an_offer_may_refuse_never_answer_or_leave() {
    for how in ["busy", "silent", "gone"] {
        let mut world = World::new(708);
        let (_, _, callee) = calling(&mut world);
        world.peer.provisional(world.now, callee, 180, None);
        world.settle();
        let status = match how {
            "busy" => {
                world.peer.reject(world.now, callee, 486, "Busy Here");
                ("sip".into(), Some(486))
            }
            "silent" => {
                world.advance(61 * SECOND);
                ("gateway".into(), Some(408))
            }
            _ => {
                // After its offer, before the page's answer.
                progress(&mut world, callee, "0");
                offered(&mut world);
                world.peer.reject(world.now, callee, 480, "Gone");
                ("sip".into(), Some(480))
            }
        };
        assert_eq!(ended(&mut world), status, "{how}");
        over(&mut world);
    }
}

#[test]
fn a_bad_answer_of_the_page_can_be_made_good_and_requests_that_do_not_fit_change_nothing() {
    let mut world = World::new(709);
    let (session, call, callee) = calling(&mut world);
    let says = |answer: &str| {
        let answer = answer.to_owned();
        Request::Answer(session.clone(), call.clone(), Answer { answer })
    };
    let status =
        |world: &mut World, request| world.request(request).map(|_| ()).unwrap_err().status;
    // Nothing was offered yet.
    assert_eq!(status(&mut world, says("v=0")), 409);
    accept(&mut world, callee, "0 101");
    let (_, offer) = offered(&mut world);
    assert_eq!(status(&mut world, says("v=0")), 400);
    let good = world.page.answer(&offer);
    let foreign = good.replace("PCMU/8000", "L16/8000");
    assert_eq!(status(&mut world, says(&foreign)), 422);
    let offer_again = Offer {
        offer: "v=0".into(),
    };
    let request = Request::Offer(session.clone(), call.clone(), offer_again);
    assert_eq!(status(&mut world, request), 409);
    world.request(says(&good)).map(|_| ()).unwrap();
    let now = world.now;
    world.page.handle_timeout(now);
    answered(&mut world);
    await_connected(&mut world);
    voice(&mut world, 1);
    page_hangs_up(&mut world, session, call);
}

#[test]
fn a_callee_that_offers_video_gets_what_the_page_takes() {
    let mut world = World::new(710);
    let (session, call, callee) = calling(&mut world);
    let ports = world.open_ports.len();
    let offer = video::with_video("sendrecv", 7002, video::ALL_FEEDBACK);
    world.peer.accept(world.now, callee, offer);
    world.settle();
    let (_, offer) = offered(&mut world);
    assert!(offer.contains("m=video"), "{offer}");
    answer(&mut world, &session, &call, &offer);
    answered(&mut world);
    await_connected(&mut world);
    assert_eq!((world.flow_count(), world.open_ports.len()), (3, ports));
    page_hangs_up(&mut world, session, call);
}

/// A response to the newest INVITE, of the fork with that tag.
fn fork_says(world: &mut World, status: u16, tag: &str, rseq: Option<u32>, sdp: &str) {
    let invite = sent(world, "INVITE").pop().unwrap();
    let header = |name: &str| {
        let start = format!("{name}: ");
        let line = invite.lines().find(|line| line.starts_with(&start));
        line.unwrap_or_else(|| panic!("{name}: {invite}"))
            .to_owned()
    };
    let head = ["Via", "From", "Call-ID", "CSeq"].map(header).join("\r\n");
    let reliable = rseq.map_or(String::new(), |rseq| {
        format!("Require: 100rel\r\nRSeq: {rseq}\r\n")
    });
    let body = match sdp {
        "" => "Content-Length: 0\r\n\r\n".to_owned(),
        sdp => format!(
            "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            sdp.len()
        ),
    };
    let to = header("To");
    world.peer_says(&format!(
        "SIP/2.0 {status} It Is\r\n{head}\r\n{to};tag={tag}\r\nContact: <sip:{tag}@10.0.0.2:5060>\r\n{reliable}{body}"
    ));
    world.advance(Duration::from_millis(20));
}

/// What went to the fork with that tag.
fn to_fork(world: &World, method: &str, tag: &str) -> Vec<String> {
    let start = format!("{method} sip:{tag}@");
    let log = world.sip_log.iter();
    log.filter(|text| text.starts_with(&start))
        .cloned()
        .collect()
}

#[test]
fn of_forks_that_offer_the_first_wins_and_the_others_get_a_refusing_ack_and_bye() {
    let mut world = World::new(711);
    let (session, call, _) = calling(&mut world);
    fork_says(
        &mut world,
        200,
        "a",
        None,
        &sip_sdp("0", "sendrecv", PEER_RTP),
    );
    fork_says(
        &mut world,
        200,
        "b",
        None,
        &sip_sdp("0", "sendrecv", OTHER_RTP),
    );
    assert_eq!(to_fork(&world, "ACK", "a").len(), 0);
    let acks = to_fork(&world, "ACK", "b");
    assert!(refuses(&acks[0]), "{acks:?}");
    assert_eq!(to_fork(&world, "BYE", "b").len(), 1);
    let (_, offer) = offered(&mut world);
    answer(&mut world, &session, &call, &offer);
    let acks = to_fork(&world, "ACK", "a");
    assert!(acks[0].contains("m=audio 20000"), "{acks:?}");
    answered(&mut world);
    await_connected(&mut world);
    voice(&mut world, 1);
    page_hangs_up(&mut world, session, call);
}

/// Two phones offer early; the page answers the first one's offer.
fn two_early(world: &mut World, second: &str, asked_first: bool) -> (SessionId, CallId) {
    let (session, call, _) = calling(world);
    fork_says(
        world,
        183,
        "a",
        Some(1),
        &sip_sdp("0", "sendrecv", PEER_RTP),
    );
    if asked_first {
        fork_says(
            world,
            183,
            "b",
            Some(1),
            &sip_sdp(second, "sendrecv", OTHER_RTP),
        );
        assert_eq!(sent(world, "PRACK").len(), 0);
    }
    let (early, offer) = offered(world);
    assert!(early);
    answer(world, &session, &call, &offer);
    await_connected(world);
    if !asked_first {
        fork_says(
            world,
            183,
            "b",
            Some(1),
            &sip_sdp(second, "sendrecv", OTHER_RTP),
        );
    }
    let pracks = to_fork(world, "PRACK", "a");
    assert!(pracks[0].contains("m=audio 20000"), "{pracks:?}");
    (session, call)
}

#[test]
fn of_phones_that_offer_early_the_one_that_picks_up_is_heard() {
    for (winner, from, asked_first) in [
        ("a", PEER_RTP, true),
        ("b", OTHER_RTP, true),
        ("b", OTHER_RTP, false),
    ] {
        let mut world = World::new(712);
        let (session, call) = two_early(&mut world, "0", asked_first);
        let pracks = to_fork(&world, "PRACK", "b");
        assert!(pracks[0].contains("m=audio 20000"), "{pracks:?}");
        fork_says(&mut world, 200, winner, None, "");
        answered(&mut world);
        let ack = to_fork(&world, "ACK", winner).remove(0);
        assert!(!ack.contains("m=audio"), "{ack}");
        let heard = world.page.heard.len();
        for index in 1..20 {
            callee_speaks(&mut world, from, index);
            world.advance(Duration::from_millis(20));
        }
        assert!(world.page.heard.len() > heard + 15, "{winner}");
        page_hangs_up(&mut world, session, call);
        assert_eq!(to_fork(&world, "BYE", winner).len(), 1);
    }
}

#[test]
fn a_phone_whose_early_offer_does_not_fit_is_refused_alone_and_ends_the_call_if_it_picks_up() {
    for winner in ["a", "b"] {
        let mut world = World::new(713);
        let (session, call) = two_early(&mut world, "18", true);
        let pracks = to_fork(&world, "PRACK", "b");
        assert!(refuses(&pracks[0]), "{pracks:?}");
        fork_says(&mut world, 200, winner, None, "");
        if winner == "a" {
            answered(&mut world);
            voice(&mut world, 1);
            page_hangs_up(&mut world, session, call);
        } else {
            assert_eq!(ended(&mut world), ("gateway".into(), Some(488)));
            over(&mut world);
        }
        assert_eq!(to_fork(&world, "ACK", winner).len(), 1);
        assert_eq!(to_fork(&world, "BYE", winner).len(), 1);
    }
}

#[test]
fn a_phone_that_picks_up_first_gets_the_answer_that_the_page_gave_to_another() {
    // Before the page's word to the early offer of the first one, or after.
    for asked_first in [true, false] {
        let mut world = World::new(714);
        let (session, call, _) = calling(&mut world);
        fork_says(
            &mut world,
            183,
            "a",
            Some(1),
            &sip_sdp("0", "sendrecv", PEER_RTP),
        );
        let (_, offer) = offered(&mut world);
        let final_offer = sip_sdp("0", "sendrecv", OTHER_RTP);
        if asked_first {
            fork_says(&mut world, 200, "b", None, &final_offer);
        }
        answer(&mut world, &session, &call, &offer);
        if !asked_first {
            fork_says(&mut world, 200, "b", None, &final_offer);
        }
        answered(&mut world);
        let acks = to_fork(&world, "ACK", "b");
        assert!(acks[0].contains("m=audio 20000"), "{acks:?}");
        let pracks = to_fork(&world, "PRACK", "a").len();
        assert_eq!(pracks, usize::from(!asked_first));
        await_connected(&mut world);
        page_hangs_up(&mut world, session, call);
    }
}

#[test]
fn while_its_offer_is_open_an_update_of_the_callee_is_refused_for_now() {
    let mut world = World::new(715);
    let (session, call, callee) = calling(&mut world);
    progress(&mut world, callee, "0");
    let (_, offer) = offered(&mut world);
    let invite = sent(&world, "INVITE").remove(0);
    let tag = |name: &str| {
        let start = format!("{name}: ");
        let line = invite.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap().to_owned()
    };
    let ringing = world.ringing.clone().unwrap();
    let to_tag = ringing.split("from-tag=").nth(1).unwrap().to_owned();
    let contact = tag("Contact").trim_matches(['<', '>']).to_owned();
    let sdp = sip_sdp("0", "sendonly", PEER_RTP);
    world.peer_says(&format!(
        "UPDATE {contact} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bKglare\r\nFrom: {};tag={to_tag}\r\nTo: {}\r\n\
         Call-ID: {}\r\nCSeq: 77 UPDATE\r\nContact: <sip:echo@10.0.0.2:5060>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        tag("To"),
        tag("From"),
        tag("Call-ID"),
        sdp.len(),
    ));
    world.advance(Duration::from_millis(50));
    let refused = world.sip_log.iter().find(|text| text.contains("77 UPDATE"));
    let refused = refused.expect("an answer to the UPDATE");
    assert!(
        refused.starts_with("SIP/2.0 500") && refused.contains("Retry-After: "),
        "{refused}"
    );
    answer(&mut world, &session, &call, &offer);
    await_connected(&mut world);
    accept(&mut world, callee, "0");
    answered(&mut world);
    voice(&mut world, 1);
    page_hangs_up(&mut world, session, call);
}

#[test]
fn the_call_begins_in_spite_of_loss_and_reordering() {
    for seed in 0..8 {
        let mut world = World::new(720 + seed);
        world.loss_percent = 15;
        world.jitter = Duration::from_millis(40);
        let (session, call, callee) = calling(&mut world);
        if seed % 2 == 0 {
            progress(&mut world, callee, "0");
        } else {
            accept(&mut world, callee, "0");
        }
        let (_, offer) = offered(&mut world);
        answer(&mut world, &session, &call, &offer);
        await_connected(&mut world);
        page_hangs_up(&mut world, session, call);
    }
}

#[test]
fn a_sip_page_calls_without_an_offer_and_without_prack_the_callee_is_asked_for_none_early() {
    for only_final in [true, false] {
        let mut world = World::new(730);
        let Ok(Reply::SessionCreated(created)) = world.request(Request::CreatePhone(None)) else {
            panic!("a page connects");
        };
        let mut body = CreateCall {
            to: "echo".into(),
            ..CreateCall::default()
        };
        body.phone.only_final = only_final;
        let request = Request::CreateCall(created.id.clone(), body);
        let Ok(Reply::Call(view)) = world.request(request) else {
            panic!("a call view");
        };
        let callee = callee(&mut world);
        let invite = sent(&world, "INVITE").remove(0);
        assert_eq!(invite.contains("100rel"), !only_final, "{invite}");
        progress(&mut world, callee, "0");
        world.advance(SECOND);
        accept(&mut world, callee, "0");
        let (early, offer) = offered(&mut world);
        assert_eq!(early, !only_final);
        answer(&mut world, &created.id, &view.id, &offer);
        answered(&mut world);
        await_connected(&mut world);
        page_hangs_up(&mut world, created.id, view.id);
    }
}
