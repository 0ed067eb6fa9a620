//! Descriptions of the shape that real peers send; addresses, names and hashes are made up.

pub(super) const FINGERPRINT: &str = "a=fingerprint:sha-256 \
    0A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9:0A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9";

/// Chromium, audio and video, gathered.
pub(super) fn chromium() -> String {
    format!(
        "v=0\r\no=- 8155284702930021 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\n\
         a=msid-semantic: WMS 5b0c2f8e\r\n\
         m=audio 50312 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 203.0.113.5\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
         a=candidate:1 1 udp 2122260223 203.0.113.5 50312 typ host generation 0 network-id 1\r\n\
         a=candidate:2 1 udp 2122194687 4f3c.local 50313 typ host generation 0 network-id 2\r\n\
         a=ice-ufrag:Xy1z\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=ice-options:trickle\r\n{FINGERPRINT}\r\na=setup:actpass\r\na=mid:0\r\n\
         a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
         a=sendrecv\r\na=msid:5b0c2f8e 0f2d\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
         a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
         a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:13 CN/8000\r\na=rtpmap:110 telephone-event/48000\r\na=rtpmap:126 telephone-event/8000\r\n\
         a=ssrc:1122334455 cname:9sLq\r\na=ssrc:1122334455 msid:5b0c2f8e 0f2d\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:Xy1z\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
         {FINGERPRINT}\r\na=setup:actpass\r\na=mid:1\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\n\
         a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
    )
}

/// Chromium, audio only.
pub(super) fn chromium_audio() -> String {
    let whole = chromium().replace("BUNDLE 0 1", "BUNDLE 0");
    whole[..whole.find("m=video").unwrap()].to_string()
}

/// Firefox: fingerprint in the session part, telephone-event at 8 kHz only.
pub(super) fn firefox() -> String {
    format!(
        "v=0\r\no=mozilla...THIS_IS_SDPARTA-99.0 1234567890123456789 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{FINGERPRINT}\r\n\
         a=group:BUNDLE 0\r\na=ice-options:trickle\r\na=msid-semantic:WMS *\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 109 9 0 8 101\r\nc=IN IP4 0.0.0.0\r\na=sendrecv\r\n\
         a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
         a=fmtp:109 maxplaybackrate=48000;stereo=1;useinbandfec=1\r\na=fmtp:101 0-15\r\n\
         a=ice-pwd:0123456789abcdef0123456789abcdef\r\na=ice-ufrag:9f8e7d6c\r\na=mid:0\r\na=msid:{{a}} {{b}}\r\na=rtcp-mux\r\n\
         a=rtpmap:109 opus/48000/2\r\na=rtpmap:9 G722/8000/1\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
         a=rtpmap:101 telephone-event/8000/1\r\na=setup:actpass\r\na=ssrc:4004004004 cname:{{c}}\r\n"
    )
}

/// aiortc: fingerprints behind the candidates, an unknown hash among them, static payload types.
pub(super) fn aiortc() -> String {
    format!(
        "v=0\r\no=- 3990000001 3990000001 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=msid-semantic:WMS *\r\n\
         m=audio 40222 UDP/TLS/RTP/SAVPF 96 9 0 8\r\nc=IN IP4 203.0.113.9\r\na=sendrecv\r\na=mid:0\r\na=msid:x y\r\n\
         a=rtcp:9 IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=ssrc:55 cname:z\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:9 G722/8000\r\n\
         a=candidate:aa 1 udp 2130706431 203.0.113.9 40222 typ host\r\na=candidate:bb 1 udp 2130706431 2001:db8::9 40223 typ host\r\n\
         a=end-of-candidates\r\na=ice-ufrag:AbCd\r\na=ice-pwd:ABCDEFGHIJKLMNOPQRSTUV\r\na=fingerprint:sha-1 00:11\r\n{FINGERPRINT}\r\n\
         a=setup:actpass\r\n"
    )
}

/// What a small SIP telephone answers: G.711 A-law and DTMF under a number of its own.
pub(super) const SIP_ANSWER: &str = "v=0\r\no=phone 1 1 IN IP4 192.0.2.20\r\ns=call\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\n\
    m=audio 30000 RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n\
    a=sendrecv\r\n";

/// A telephone system's offer: many codecs, audio and video, G.729 first.
pub(super) const SIP_OFFER: &str = "v=0\r\no=root 99 99 IN IP4 192.0.2.30\r\ns=pbx\r\nc=IN IP4 192.0.2.30\r\nt=0 0\r\n\
    m=audio 18000 RTP/AVP 18 8 0 96 101 97\r\na=rtpmap:18 G729/8000\r\na=fmtp:18 annexb=no\r\n\
    a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
    a=rtpmap:97 telephone-event/48000\r\na=ptime:20\r\na=maxptime:150\r\na=sendrecv\r\n\
    m=video 18002 RTP/AVP 99\r\na=rtpmap:99 H264/90000\r\na=sendrecv\r\n";
