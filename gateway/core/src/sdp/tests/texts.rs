//! The descriptions that we write, word for word.

use super::*;

#[test]
fn offer_to_the_sip_side() {
    let (sdp, offered) = sip_offer(
        &web(&fixtures::chromium()),
        &CodecPolicy::default(),
        &sip_local(),
    )
    .unwrap();
    assert_eq!(offered.offerer(), Offerer::Web);
    let expected = "
v=0
o=- 77 1 IN IP4 192.0.2.10
s=-
c=IN IP4 192.0.2.10
t=0 0
m=audio 40000 RTP/AVP 0 8 9 111 126 110
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:9 G722/8000
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:126 telephone-event/8000
a=fmtp:126 0-15
a=rtpmap:110 telephone-event/48000
a=fmtp:110 0-15
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=sendrecv
m=video 40002 RTP/AVP 96
a=rtpmap:96 VP8/90000
a=rtcp-fb:* ccm fir
a=rtcp-fb:* nack pli
a=sendrecv
";
    assert_eq!(sdp, crlf(expected));
}

#[test]
fn answer_to_the_browser() {
    let negotiated = outgoing(&fixtures::chromium(), fixtures::SIP_ANSWER);
    let ours = Ours::new();
    let sdp = web_answer(
        &web(&fixtures::chromium()),
        &negotiated,
        &ours.web(Setup::Active),
    );
    let expected = "
v=0
o=- 4242 1 IN IP4 127.0.0.1
s=-
t=0 0
a=ice-lite
a=group:BUNDLE 0
a=msid-semantic: WMS *
m=audio 3478 UDP/TLS/RTP/SAVPF 8 126
c=IN IP4 198.51.100.7
a=candidate:1 1 udp 2130706431 198.51.100.7 3478 typ host
a=candidate:2 1 udp 2130706175 2001:db8::7 3478 typ host
a=end-of-candidates
a=ice-ufrag:gwfr
a=ice-pwd:gateway-password-of-24ch
a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F
a=setup:active
a=mid:0
a=sendrecv
a=msid:cw-1 audio
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:8 PCMA/8000
a=rtpmap:126 telephone-event/8000
a=fmtp:126 0-16
a=ptime:20
a=ssrc:305419896 cname:cw-1
m=video 0 UDP/TLS/RTP/SAVPF 96
a=mid:1
a=inactive
a=rtpmap:96 VP8/90000
";
    assert_eq!(sdp, crlf(expected));
}

#[test]
fn offer_to_the_browser() {
    let ours = Ours::new();
    let (sdp, offered) = web_offer(
        &sip(fixtures::SIP_OFFER),
        &CodecPolicy::default(),
        &ours.web(Setup::Actpass),
    )
    .unwrap();
    assert_eq!(offered.offerer(), Offerer::Sip);
    let expected = "
v=0
o=- 4242 1 IN IP4 127.0.0.1
s=-
t=0 0
a=ice-lite
a=group:BUNDLE 0 1
a=msid-semantic: WMS *
m=audio 3478 UDP/TLS/RTP/SAVPF 8 0 111 126 110
c=IN IP4 198.51.100.7
a=candidate:1 1 udp 2130706431 198.51.100.7 3478 typ host
a=candidate:2 1 udp 2130706175 2001:db8::7 3478 typ host
a=end-of-candidates
a=ice-ufrag:gwfr
a=ice-pwd:gateway-password-of-24ch
a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F
a=setup:actpass
a=mid:0
a=sendrecv
a=msid:cw-1 audio
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:111 opus/48000/2
a=fmtp:111 useinbandfec=1
a=rtpmap:126 telephone-event/8000
a=fmtp:126 0-16
a=rtpmap:110 telephone-event/48000
a=ptime:20
a=maxptime:150
a=ssrc:305419896 cname:cw-1
m=video 3478 UDP/TLS/RTP/SAVPF 96
c=IN IP4 198.51.100.7
a=ice-ufrag:gwfr
a=ice-pwd:gateway-password-of-24ch
a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F
a=setup:actpass
a=mid:1
a=sendrecv
a=msid:cw-1 video
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 H264/90000
a=rtcp-fb:96 ccm fir
a=rtcp-fb:96 nack pli
a=ssrc:591751049 cname:cw-1
";
    assert_eq!(sdp, crlf(expected));
}

#[test]
fn answer_to_the_sip_side() {
    let ours = Ours::new();
    let offer = sip(fixtures::SIP_OFFER);
    let (_, offered) =
        web_offer(&offer, &CodecPolicy::default(), &ours.web(Setup::Actpass)).unwrap();
    let browser = web(&fixtures::chromium_audio());
    let negotiated = negotiate(&offered, &browser.described()).unwrap();
    let expected = "
v=0
o=- 77 1 IN IP4 192.0.2.10
s=-
c=IN IP4 192.0.2.10
t=0 0
m=audio 40000 RTP/AVP 8 101
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=sendrecv
m=video 0 RTP/AVP 99
";
    assert_eq!(
        sip_answer(&offer, &negotiated, &sip_local()),
        crlf(expected)
    );
}

#[test]
fn rtcp_of_another_port_or_address_is_said() {
    let mut local = sip_local();
    local.media[0].rtcp = "192.0.2.10:5".parse().unwrap();
    let offer = |local: &SipLocal| {
        sip_offer(&web(&fixtures::aiortc()), &CodecPolicy::default(), local)
            .unwrap()
            .0
    };
    assert_eq!(lines(&offer(&local), "a=rtcp"), ["a=rtcp:5"]);
    local.media[0].rtcp = "[2001:db8::5]:5".parse().unwrap();
    assert_eq!(
        lines(&offer(&local), "a=rtcp"),
        ["a=rtcp:5 IN IP6 2001:db8::5"]
    );
    local.media[0].rtp = "[2001:db8::4]:65535".parse().unwrap();
    let sdp = offer(&local);
    assert_eq!(lines(&sdp, "c="), ["c=IN IP6 2001:db8::4"]);
    assert_eq!(lines(&sdp, "o="), ["o=- 77 1 IN IP6 2001:db8::4"]);
}

#[test]
fn a_peer_that_wants_rtp_and_rtcp_on_one_port_gets_that() {
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.30\r\ns=-\r\nc=IN IP4 192.0.2.30\r\nt=0 0\r\n\
                 m=audio 7000 RTP/AVP 0\r\na=rtcp:7009\r\na=rtcp-mux\r\n";
    let offer = SipSession::parse(offer).unwrap();
    assert_eq!(offer.media[0].rtcp, offer.media[0].rtp);
    let offered = Offered::by_sip(&offer.described().unwrap(), &CodecPolicy::default()).unwrap();
    let page = web(&fixtures::aiortc());
    let chosen = negotiate(&offered, &page.described()).unwrap();
    let mut local = sip_local();
    local.media[0].rtcp = "192.0.2.10:5".parse().unwrap();
    let answer = sip_answer(&offer, &chosen, &local);
    assert_eq!(lines(&answer, "a=rtcp"), ["a=rtcp-mux"]);
    let again = sip_reoffer(&offer, &chosen, None, &local).unwrap();
    assert_eq!(lines(&again, "a=rtcp"), ["a=rtcp-mux"]);
}

#[test]
fn a_passive_candidate_stands_behind_those_by_udp() {
    let mut ours = Ours::new();
    let tcp = "198.51.100.7:443".parse().unwrap();
    ours.candidates.push(HostCandidate::Tcp(tcp));
    let negotiated = outgoing(&fixtures::chromium(), fixtures::SIP_ANSWER);
    let sdp = web_answer(
        &web(&fixtures::chromium()),
        &negotiated,
        &ours.web(Setup::Active),
    );
    let candidates = lines(&sdp, "a=candidate");
    assert_eq!(
        candidates[2],
        "a=candidate:3 1 tcp 1520434687 198.51.100.7 443 typ host tcptype passive"
    );
    let priority = |line: &str| line.split(' ').nth(3).unwrap().parse::<u32>().unwrap();
    assert!(priority(candidates[1]) > priority(candidates[2]));
    assert_eq!(lines(&sdp, "c="), ["c=IN IP4 198.51.100.7"]);
}

#[test]
fn a_leg_without_candidates_yet_has_the_trickle_address() {
    let mut ours = Ours::new();
    ours.candidates.clear();
    let negotiated = outgoing(&fixtures::chromium(), fixtures::SIP_ANSWER);
    let sdp = web_answer(
        &web(&fixtures::chromium()),
        &negotiated,
        &ours.web(Setup::Active),
    );
    assert_eq!(
        lines(&sdp, "m=audio"),
        ["m=audio 9 UDP/TLS/RTP/SAVPF 8 126"]
    );
    assert_eq!(lines(&sdp, "c="), ["c=IN IP4 0.0.0.0"]);
    assert!(!sdp.contains("end-of-candidates"));
}

#[test]
fn ice_restart_is_the_same_answer_with_new_credentials() {
    let negotiated = outgoing(&fixtures::chromium(), fixtures::SIP_ANSWER);
    let restarted = fixtures::chromium()
        .replace("a=ice-ufrag:Xy1z", "a=ice-ufrag:New1")
        .replace("021 2 IN", "021 3 IN");
    let mut ours = Ours::new();
    let first = web_answer(
        &web(&fixtures::chromium()),
        &negotiated,
        &ours.web(Setup::Active),
    );
    ours.ice.ufrag = "next".into();
    let second = web_answer(
        &web(&restarted),
        &negotiated,
        &WebLocal {
            version: 2,
            ..ours.web(Setup::Active)
        },
    );
    assert_eq!(web(&restarted).ice.ufrag, "New1");
    assert_eq!(
        second,
        first
            .replace("4242 1", "4242 2")
            .replace("ufrag:gwfr", "ufrag:next")
    );
}
