//! The torture tests of RFC 4475, each with its outcome at a user agent: messages of our own with the peculiarities that the
//! sections name.
//!
//! A registrar's outcome is not ours: REGISTER that can be read gets 405 here.

use std::time::Duration;

use gateway_core::sip::Event;

use crate::link::{Node, World, addr, stack};

/// What the stack makes of a message.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Outcome {
    /// This final response.
    Refused(u16),
    /// A call for the user: 100 and an event.
    Call,
    /// An instant message for the user: an event.
    Message,
    /// Nothing at all.
    Dropped,
}

use Outcome::{Call, Dropped, Message, Refused};

const VIA: &str = "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw";
const FROM: &str = "From: <sip:caller@192.0.2.1>;tag=341518";
const TO: &str = "To: <sip:user@192.0.2.2>";
const CALL_ID: &str = "Call-ID: torture.1@192.0.2.1";
const CONTACT: &str = "Contact: <sip:caller@192.0.2.1>";
const URI: &str = "sip:user@192.0.2.2";

/// A message with usual headers, but for those that `headers` has itself or takes out by `-Name`.
fn message(start: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let method = start.split(' ').next().unwrap_or_default();
    let cseq = format!("CSeq: 1 {method}");
    let usual = [VIA, "Max-Forwards: 70", FROM, TO, CALL_ID, &cseq, CONTACT];
    let name = |line: &str| {
        let name = line.split(':').next().unwrap_or_default();
        name.trim_start_matches('-').trim().to_ascii_lowercase()
    };
    let kept = usual
        .iter()
        .filter(|line| !headers.iter().any(|header| name(header) == name(line)));
    let own = headers.iter().filter(|header| !header.starts_with('-'));
    let lines: Vec<&str> = kept.chain(own).copied().collect();
    format!("{start}\r\n{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes()
}

fn request(method: &str, headers: &[&str], body: &str) -> Vec<u8> {
    message(&format!("{method} {URI} SIP/2.0"), headers, body)
}

type Row = (&'static str, Vec<u8>, Outcome);

/// RFC 4475 section 3.1.1: valid messages, lines and names.
fn valid() -> Vec<Row> {
    vec![
        // A To tag of no dialog of ours: the call is not there.
        (
            "3.1.1.1",
            message(
                "INVITE sip:user@192.0.2.2;unknownparam SIP/2.0",
                &[
                    "-Via",
                    "-To",
                    "-From",
                    "-CSeq",
                    "-Contact",
                    "-Max-Forwards",
                    "-Call-ID",
                    "TO :\r\n sip:user@192.0.2.2 ;   tag    = 1918181833n",
                    "from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8",
                    "MaX-fOrWaRdS: 0068",
                    "Call-ID: wsinv.ndaksdj@192.0.2.1",
                    "cseq: 0009\r\n  INVITE",
                    "Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.1;branch=390skdjuw",
                    "s :",
                    "NewFangledHeader:   newfangled value\r\n continued newfangled value",
                    "UnknownHeaderWithUnusualValue: ;;,,;;,;",
                    "Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>",
                    "v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n\x20\
                     SIP  /    2.0   / UDP  192.168.255.111   ; \
                     branch=\r\n z9hG4bK30239",
                    "m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =\r\n      newvalue ;\r\n  secondparam ; q = 0.33",
                ],
                "",
            ),
            Refused(481),
        ),
        (
            "3.1.1.2",
            message(
                "!interesting-Method0123456789_*+`.%indeed'~ \
                 sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@192.0.2.2 SIP/2.0",
                &[],
                "",
            ),
            Refused(501),
        ),
        (
            "3.1.1.2, of a method that we know",
            message(
                "INVITE \
                 sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@192.0.2.2 SIP/2.0",
                &[],
                "",
            ),
            Call,
        ),
        (
            "3.1.1.3",
            message(
                "INVITE sip:sips%3Auser%40example.com@192.0.2.2 SIP/2.0",
                &["To: sip:%75se%72@example.com"],
                "",
            ),
            Call,
        ),
    ]
}

/// RFC 4475 section 3.1.1: valid messages, values and lengths.
fn valid_values() -> Vec<Row> {
    let long = "x".repeat(200);
    let many = (0..34)
        .map(|hop| format!("Via: SIP/2.0/TCP sip{hop}.example.com;branch=z9hG4bK{hop}"))
        .collect::<Vec<_>>()
        .join("\r\n");
    let first = String::from_utf8(request("REGISTER", &["Content-Length: 0"], "")).expect("text");
    let second = String::from_utf8(request("INVITE", &[], "")).expect("text");
    vec![
        (
            "3.1.1.4",
            request(
                "REGISTER",
                &["From: <sip:null-%00-null@example.com>;tag=1"],
                "",
            ),
            Refused(405),
        ),
        ("3.1.1.5", request("RE%47IST%45R", &[], ""), Refused(501)),
        (
            "3.1.1.6",
            request(
                "OPTIONS",
                &["From: caller<sip:caller@example.com>;tag=323"],
                "",
            ),
            Refused(200),
        ),
        (
            "3.1.1.7",
            request(
                "INVITE",
                &[
                    &format!("To: \"{long}\" <sip:user@192.0.2.2;unknown={long}>;p={long}"),
                    &format!("F: sip:{long}@{long}.example.net;tag=12982982982982"),
                    "-From",
                    &format!("{VIA}\r\n{many}"),
                    "-Via",
                    &format!("Unknown-{long}: {long}; {long}"),
                ],
                "",
            ),
            Call,
        ),
        (
            "3.1.1.8",
            format!("{first}{second}").into_bytes(),
            Refused(405),
        ),
        (
            "3.1.1.9",
            message(
                "OPTIONS sip:user;par=u%40example.net@192.0.2.2 SIP/2.0",
                &[],
                "",
            ),
            Refused(200),
        ),
    ]
}

/// RFC 4475 section 3.1.1: valid messages, Via, bodies and responses.
fn valid_bodies() -> Vec<Row> {
    vec![
        (
            "3.1.1.10",
            request(
                "OPTIONS",
                &[
                    "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw",
                    "Via: SIP/2.0/SCTP t2.example.com;branch=z9hG4bKklasjdhf",
                    "Via: SIP/2.0/TLS t3.example.com;branch=z9hG4bK2980unddj",
                    "Via: SIP/2.0/UNKNOWN t4.example.com;branch=z9hG4bKasd0f3en",
                ],
                "",
            ),
            Refused(200),
        ),
        (
            "3.1.1.11",
            request(
                "MESSAGE",
                &["Content-Type: multipart/mixed;boundary=7a9cbec02ceef655"],
                "--7a9cbec02ceef655\r\nContent-Type: text/plain\r\n\r\nHello\r\n--7a9cbec02ceef655\r\n\
                 Content-Type: application/octet-stream\r\n\r\n\u{1}\u{0}\r\n--7a9cbec02ceef655--",
            ),
            Message,
        ),
        (
            "3.1.1.12",
            message(
                "SIP/2.0 200 = 2**3 * 5**2 \u{43d}\u{43e}",
                &["CSeq: 1 INVITE"],
                "",
            ),
            Dropped,
        ),
        (
            "3.1.1.13",
            message("SIP/2.0 100 ", &["CSeq: 1 INVITE"], ""),
            Dropped,
        ),
    ]
}

/// RFC 4475 section 3.1.2: invalid messages, values and start lines.
fn invalid() -> Vec<Row> {
    let invite = |headers: &[&str]| request("INVITE", headers, "");
    let start = |start: &str| message(start, &[], "");
    vec![
        (
            "3.1.2.1",
            invite(&["Via: SIP/2.0/UDP 192.0.2.1;;,;,,", "Contact: \"Joe\" <> ;;"]),
            Refused(400),
        ),
        (
            "3.1.2.2",
            request(
                "INVITE",
                &["Content-Length: 9999", "Content-Type: application/sdp"],
                "v=0\r\n",
            ),
            Refused(400),
        ),
        ("3.1.2.3", invite(&["Content-Length: -999"]), Refused(400)),
        (
            "3.1.2.4",
            request("REGISTER", &["CSeq: 36893488147419103232 REGISTER"], ""),
            Refused(400),
        ),
        (
            "3.1.2.4, hops",
            request("OPTIONS", &["Max-Forwards: 300"], ""),
            Refused(400),
        ),
        (
            "3.1.2.5",
            message(
                "SIP/2.0 503 No",
                &["CSeq: 9292394834772304023312 OPTIONS"],
                "",
            ),
            Dropped,
        ),
        (
            "3.1.2.6",
            invite(&["To: \"Mr. J. User <sip:j.user@example.com>"]),
            Refused(400),
        ),
        (
            "3.1.2.7",
            start("INVITE <sip:user@192.0.2.2> SIP/2.0"),
            Refused(400),
        ),
        (
            "3.1.2.8",
            start("INVITE sip:user@192.0.2.2; lr SIP/2.0"),
            Refused(400),
        ),
        (
            "3.1.2.9",
            start("INVITE  sip:user@192.0.2.2  SIP/2.0"),
            Refused(400),
        ),
        (
            "3.1.2.10",
            start("OPTIONS sip:user@192.0.2.2 SIP/2.0  "),
            Refused(400),
        ),
        // The headers of the Request-URI may be passed over.
    ]
}

/// RFC 4475 section 3.1.2: invalid messages, URIs, names and methods.
fn invalid_names() -> Vec<Row> {
    let invite = |headers: &[&str]| request("INVITE", headers, "");
    let start = |start: &str| message(start, &[], "");
    vec![
        (
            "3.1.2.11",
            start("INVITE sip:user@192.0.2.2?Route=%3Csip:example.com%3E SIP/2.0"),
            Call,
        ),
        // A date that nobody looks at may be wrong.
        (
            "3.1.2.12",
            invite(&["Date: Fri, 01 Jan 2010 16:00:00 EST"]),
            Call,
        ),
        (
            "3.1.2.13",
            request(
                "REGISTER",
                &["Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E"],
                "",
            ),
            Refused(405),
        ),
        // Blanks inside the brackets, and a comma in a name: read as they are meant.
        (
            "3.1.2.14",
            request(
                "OPTIONS",
                &["To: \"Watson, Thomas\" < sip:t.watson@example.org >"],
                "",
            ),
            Refused(200),
        ),
        (
            "3.1.2.15",
            request(
                "OPTIONS",
                &["From: Bell, Alexander <sip:a.g.bell@example.com>;tag=43"],
                "",
            ),
            Refused(200),
        ),
        (
            "3.1.2.16",
            start("OPTIONS sip:user@192.0.2.2 SIP/7.0"),
            Refused(505),
        ),
        (
            "3.1.2.17",
            request("OPTIONS", &["CSeq: 8 INVITE"], ""),
            Refused(400),
        ),
        (
            "3.1.2.18",
            request("NEWMETHOD", &["CSeq: 8 INVITE"], ""),
            Refused(400),
        ),
        (
            "3.1.2.19",
            message(
                "SIP/2.0 4294967301 better not break the receiver",
                &["CSeq: 1 INVITE"],
                "",
            ),
            Dropped,
        ),
    ]
}

/// RFC 4475 sections 3.2 and 3.3: transactions and the application layer.
fn semantics() -> Vec<Row> {
    let options = |headers: &[&str]| request("OPTIONS", headers, "");
    vec![
        (
            "3.2.1",
            options(&["Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK"]),
            Refused(200),
        ),
        (
            "3.3.1",
            request("INVITE", &["-Call-ID", "-From", "-To"], ""),
            Refused(400),
        ),
        (
            "3.3.2",
            message(
                "OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0",
                &[],
                "",
            ),
            Refused(416),
        ),
        (
            "3.3.3",
            message("OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0", &[], ""),
            Refused(416),
        ),
        (
            "3.3.4",
            options(&[
                "To: isbn:2983792873",
                "From: <http://www.example.com>;tag=3234233",
            ]),
            Refused(200),
        ),
        (
            "3.3.5",
            options(&[
                "Require: nothingSupportsThis, nothingSupportsThisEither",
                "Proxy-Require: noProxiesSupportThis",
            ]),
            Refused(420),
        ),
        (
            "3.3.6",
            request(
                "INVITE",
                &["Content-Type: application/unknownformat"],
                "<audio><pcmu port=\"443\"/></audio>",
            ),
            Refused(415),
        ),
        (
            "3.3.7",
            request(
                "REGISTER",
                &["Authorization: NoOneKnowsThisScheme opaque-data=here"],
                "",
            ),
            Refused(405),
        ),
    ]
}

/// RFC 4475 section 3.3: headers that stand too often, responses, hops.
fn repeated() -> Vec<Row> {
    let options = |headers: &[&str]| request("OPTIONS", headers, "");
    vec![
        (
            "3.3.8",
            request(
                "INVITE",
                &[
                    "CSeq: 5 INVITE",
                    "CSeq: 59 INVITE",
                    "Call-ID: a",
                    "Call-ID: b",
                ],
                "",
            ),
            Refused(400),
        ),
        (
            "3.3.9",
            options(&["Content-Length: 13", "Content-Length: 5"]),
            Refused(400),
        ),
        (
            "3.3.10",
            message(
                "SIP/2.0 200 OK",
                &[
                    "Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKu",
                    "CSeq: 1 INVITE",
                ],
                "",
            ),
            Dropped,
        ),
        // The last hop is the user agent itself.
        ("3.3.11", options(&["Max-Forwards: 0"]), Refused(200)),
        (
            "3.3.12",
            request("REGISTER", &["Contact: sip:a@example.com;unknownparam"], ""),
            Refused(405),
        ),
        (
            "3.3.13",
            request(
                "REGISTER",
                &["Contact: <sip:a@example.com;unknownparam>"],
                "",
            ),
            Refused(405),
        ),
    ]
}

/// RFC 4475 sections 3.3 and 3.4: bodies, and RFC 2543.
fn older() -> Vec<Row> {
    vec![
        (
            "3.3.14",
            request(
                "REGISTER",
                &["Contact: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>"],
                "",
            ),
            Refused(405),
        ),
        (
            "3.3.15",
            request("INVITE", &["Accept: text/nobodyKnowsThis"], ""),
            Refused(406),
        ),
        (
            "3.4.1",
            request(
                "INVITE",
                &[
                    "Via: SIP/2.0/UDP 192.0.2.1",
                    "-Max-Forwards",
                    "From: <sip:+13035551111@192.0.2.1;user=phone>",
                    "Record-Route: <sip:user@192.0.2.1;maddr=192.0.2.1>",
                ],
                "",
            ),
            Call,
        ),
    ]
}

fn outcome(world: &World) -> Outcome {
    let event = world.events[1].iter().find_map(|(_, event)| match event {
        Event::Incoming { .. } => Some(Call),
        Event::Message { .. } => Some(Message),
        _ => None,
    });
    let status = world.log.iter().find_map(|sent| {
        // The answer repeats what was broken, so it is not parsed.
        let status: u16 = sent.text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()?;
        (status >= 200).then_some(Refused(status))
    });
    event.or(status).unwrap_or(Dropped)
}

#[test]
fn every_torture_message_gets_its_outcome() {
    let rows = [
        valid(),
        valid_values(),
        valid_bodies(),
        invalid(),
        invalid_names(),
        semantics(),
        repeated(),
        older(),
    ];
    for (section, bytes, wanted) in rows.concat() {
        let silent = Node::Script(Box::new(|_| Vec::new()));
        let mut world = World::new(vec![silent, stack(1)]);
        world.inject(addr(0), 1, &bytes);
        world.run(Duration::from_millis(1));
        assert_eq!(
            outcome(&world),
            wanted,
            "RFC 4475 section {section}: {}",
            String::from_utf8_lossy(&bytes)
        );
        let text = world.log.last().map(|sent| sent.text.clone());
        match (wanted, text.unwrap_or_default()) {
            (Refused(415), text) => assert!(text.contains("Accept: application/sdp")),
            (Refused(420), text) => {
                assert!(
                    text.contains("Unsupported: nothingSupportsThis, nothingSupportsThisEither")
                );
            }
            (Refused(405), text) => assert!(text.contains("Allow: INVITE")),
            _ => {}
        }
    }
}
