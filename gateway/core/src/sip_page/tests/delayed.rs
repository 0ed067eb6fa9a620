//! INVITEs of the page without an offer: the callee's comes in the 200 or in a reliable 183.

use super::*;

/// A page whose call without an offer the gateway has.
fn asking(more: &str) -> Page {
    let mut page = Page::new();
    let line = "INVITE sip:echo@example.org";
    page.say(&request(line, 1, "INVITE", "", more));
    page.response(100);
    let ask = page.ask();
    let AskKind::Call(call) = &ask.kind else {
        panic!("a call is asked for");
    };
    assert!(call.offer.is_none());
    assert_eq!(call.phone.only_final, more.is_empty());
    page.phone.handle_reply(ask.number, view());
    page
}

fn offered(page: &mut Page, early: bool) {
    page.phone.handle_event(Event::Offer {
        call: id(),
        early,
        offer: "v=0 theirs".into(),
    });
}

/// The offer as the page has it, with our tag for its requests.
fn got(page: &mut Page, status: u16) -> (Response, String) {
    let offer = page.response(status);
    assert_eq!(offer.body, b"v=0 theirs");
    let tag = format!(";tag={}", offer.headers.to_tag().unwrap());
    (offer, tag)
}

fn says(page: &mut Page, (cseq, method): (u32, &str), tag: &str, more: &str, body: &str) {
    let line = format!("{method} sip:x@gateway.invalid");
    let more = match body {
        "" => more.to_owned(),
        _ => format!("Content-Type: application/sdp\r\n{more}"),
    };
    page.say(&with_body(&line, cseq, method, tag, &more, body));
}

/// The gateway is told the page's answer.
fn answers(page: &mut Page) -> u64 {
    let ask = page.ask();
    assert!(
        matches!(&ask.kind, AskKind::Answer(call, answer) if *call == id() && answer == "v=0 mine")
    );
    ask.number
}

fn unusable() -> Result<Reply, Problem> {
    Err(Problem::new(422, "no-common-codec", "No", "none"))
}

const RELIABLE: &str = "Supported: 100rel\r\n";

#[test]
fn the_offer_goes_in_the_200_and_the_ack_answers_it() {
    let mut page = asking("");
    offered(&mut page, false);
    let (_, tag) = got(&mut page, 200);
    says(&mut page, (1, "ACK"), &tag, "", "v=0 mine");
    let number = answers(&mut page);
    page.phone.handle_reply(number, view());
    page.phone.handle_event(Event::Answered { call: id() });
    // The same ACK again says nothing new.
    says(&mut page, (1, "ACK"), &tag, "", "v=0 mine");
    page.silent();
    says(&mut page, (2, "BYE"), &tag, "", "");
    page.response(200);
    assert!(matches!(page.ask().kind, AskKind::HangUp(_)));
}

#[test]
fn an_early_offer_goes_in_a_reliable_183_and_the_prack_answers_it() {
    let mut page = asking(RELIABLE);
    offered(&mut page, true);
    let (progress, tag) = got(&mut page, 183);
    assert_eq!(progress.headers.get("Require"), Some("100rel"));
    let number = progress.headers.get("RSeq").unwrap().to_owned();
    for wrong in [
        format!("{number} 2 INVITE"),
        "7 1 INVITE".to_owned(),
        String::new(),
    ] {
        let rack = format!("RAck: {wrong}\r\n");
        says(&mut page, (2, "PRACK"), &tag, &rack, "v=0 mine");
        page.response(481);
    }
    let rack = format!("RAck: {number} 1 INVITE\r\n");
    says(&mut page, (3, "PRACK"), &tag, &rack, "v=0 mine");
    page.response(200);
    let asked = answers(&mut page);
    page.phone.handle_reply(asked, view());
    says(&mut page, (4, "PRACK"), &tag, &rack, "v=0 mine");
    page.response(481);
    page.phone.handle_event(Event::Answered { call: id() });
    let ok = page.response(200);
    assert!(ok.body.is_empty() && ok.headers.get("Contact").is_some());
    says(&mut page, (1, "ACK"), &tag, "", "");
    page.silent();
}

#[test]
fn a_page_whose_answer_is_missing_or_of_no_use_loses_the_call() {
    for answer in ["", "v=0 mine"] {
        let mut page = asking("");
        offered(&mut page, false);
        let (_, tag) = got(&mut page, 200);
        says(&mut page, (1, "ACK"), &tag, "", answer);
        if !answer.is_empty() {
            let number = answers(&mut page);
            page.phone.handle_reply(number, unusable());
        }
        page.request(Method::Bye);
        assert!(matches!(page.ask().kind, AskKind::HangUp(_)));
        page.phone.handle_event(ended(None));
        page.silent();

        let mut page = asking(RELIABLE);
        offered(&mut page, true);
        let (progress, tag) = got(&mut page, 183);
        let rack = format!(
            "RAck: {} 1 INVITE\r\n",
            progress.headers.get("RSeq").unwrap()
        );
        says(&mut page, (2, "PRACK"), &tag, &rack, answer);
        page.response(200);
        if !answer.is_empty() {
            let number = answers(&mut page);
            page.phone.handle_reply(number, unusable());
        }
        page.response(488);
        assert!(matches!(page.ask().kind, AskKind::HangUp(_)));
        page.phone.handle_event(ended(None));
        page.silent();
    }
}

#[test]
fn either_side_may_end_the_call_while_the_page_is_asked() {
    let mut page = asking("");
    offered(&mut page, false);
    let (_, tag) = got(&mut page, 200);
    page.phone.handle_event(ended(Some(408)));
    page.request(Method::Bye);
    says(&mut page, (1, "ACK"), &tag, "", "v=0 mine");
    page.silent();

    let mut page = asking(RELIABLE);
    offered(&mut page, true);
    got(&mut page, 183);
    page.say(&request("CANCEL sip:echo@example.org", 1, "CANCEL", "", ""));
    page.response(200);
    page.response(487);
    assert!(matches!(page.ask().kind, AskKind::HangUp(_)));
    // What comes for a call that was taken back is not shown any more.
    offered(&mut page, false);
    page.silent();

    let mut page = asking(RELIABLE);
    offered(&mut page, true);
    got(&mut page, 183);
    page.phone.handle_event(ended(Some(486)));
    page.response(486);
    page.silent();
}

#[test]
fn a_body_that_is_no_description_is_no_wish_for_an_offer() {
    let mut page = Page::new();
    let more = "Content-Type: text/plain\r\n";
    let line = "INVITE sip:echo@example.org";
    page.say(&with_body(line, 1, "INVITE", "", more, "hello"));
    page.response(415);
    page.silent();
}
