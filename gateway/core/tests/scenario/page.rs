//! str0m as the page: a WebRTC stack of another code base under virtual time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig};

pub(crate) struct Page {
    rtc: Rtc,
    pub(crate) addr: SocketAddr,
    mid: Option<Mid>,
    video: Option<Mid>,
    pending: Option<SdpPendingOffer>,
    timeout: Instant,
    pub(crate) sent: Vec<(SocketAddr, Vec<u8>)>,
    /// Sequence number, timestamp and payload of what arrived.
    pub(crate) heard: Vec<(u64, u32, Vec<u8>)>,
    /// SSRC and time of arrival of each of these.
    pub(crate) sources: Vec<(u32, Instant)>,
    /// The same of video.
    pub(crate) seen: Vec<(u64, u32, Vec<u8>)>,
    /// How often a new picture was asked for.
    pub(crate) pictures_wanted: usize,
    pub(crate) connected: bool,
    pub(crate) ice: IceConnectionState,
}

impl Page {
    pub(crate) fn new(now: Instant, addr: SocketAddr) -> Self {
        Self::with_ice(now, addr, false)
    }

    /// `lite`: it makes no checks of its own.
    pub(crate) fn with_ice(now: Instant, addr: SocketAddr, lite: bool) -> Self {
        let mut rtc = RtcConfig::new()
            .set_rtp_mode(true)
            .set_ice_lite(lite)
            .clear_codecs()
            .enable_pcmu(true, false)
            .enable_pcma(true, false)
            .enable_opus(true, false)
            .enable_vp8(true)
            .build(now);
        rtc.add_local_candidate(Candidate::host(addr, "udp").unwrap());
        Self {
            rtc,
            addr,
            mid: None,
            video: None,
            pending: None,
            timeout: now,
            sent: Vec::new(),
            heard: Vec::new(),
            sources: Vec::new(),
            seen: Vec::new(),
            pictures_wanted: 0,
            connected: false,
            ice: IceConnectionState::New,
        }
    }

    pub(crate) fn offer(&mut self, restart: bool) -> String {
        let mut api = self.rtc.sdp_api();
        if restart {
            api.ice_restart(true);
        } else {
            self.mid = Some(api.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None));
        }
        let (offer, pending) = api.apply().unwrap();
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// The first offer, with video.
    pub(crate) fn offer_with_video(&mut self) -> String {
        let mut api = self.rtc.sdp_api();
        let mut add = |kind| api.add_media(kind, Direction::SendRecv, None, None, None);
        (self.mid, self.video) = (Some(add(MediaKind::Audio)), Some(add(MediaKind::Video)));
        let (offer, pending) = api.apply().unwrap();
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// A new offer with the audio in this direction.
    pub(crate) fn offer_audio(&mut self, direction: Direction) -> String {
        let mut api = self.rtc.sdp_api();
        api.set_direction(self.mid.unwrap(), direction);
        let (offer, pending) = api.apply().unwrap();
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// A new offer with the video in this direction.
    pub(crate) fn offer_video(&mut self, direction: Direction) -> String {
        let mut api = self.rtc.sdp_api();
        match self.video {
            Some(mid) => api.set_direction(mid, direction),
            None => {
                self.video = Some(api.add_media(MediaKind::Video, direction, None, None, None));
            }
        }
        let (offer, pending) = api.apply().unwrap();
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    pub(crate) fn accept_answer(&mut self, answer: &str) {
        let answer = SdpAnswer::from_sdp_string(answer).unwrap();
        self.rtc
            .sdp_api()
            .accept_answer(self.pending.take().unwrap(), answer)
            .unwrap();
    }

    pub(crate) fn answer(&mut self, offer: &str) -> String {
        let offer = SdpOffer::from_sdp_string(offer).unwrap();
        let answer = self
            .rtc
            .sdp_api()
            .accept_offer(offer)
            .unwrap()
            .to_sdp_string();
        let mut mids = answer
            .lines()
            .filter_map(|line| line.strip_prefix("a=mid:"));
        self.mid = mids.next().map(Mid::from);
        self.video = mids.next().map(Mid::from);
        answer
    }

    pub(crate) fn receive(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        if let Ok(receive) = Receive::new(Protocol::Udp, from, self.addr, bytes)
            && self.rtc.handle_input(Input::Receive(now, receive)).is_err()
        {
            self.give_up();
            return;
        }
        self.drain();
    }

    /// The connection failed (no answer to its handshake): the page does nothing any more.
    fn give_up(&mut self) {
        self.timeout += Duration::from_secs(1_000_000);
        self.connected = false;
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.timeout
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.rtc.handle_input(Input::Timeout(now)).is_err() {
            self.give_up();
            return;
        }
        self.drain();
    }

    /// Sends one RTP packet with the payload type that the answer allowed.
    pub(crate) fn speak(&mut self, now: Instant, sequence: u64, timestamp: u32, payload: &[u8]) {
        self.send(self.mid.unwrap(), now, sequence, timestamp, payload);
    }

    /// The same of video.
    pub(crate) fn show(&mut self, now: Instant, sequence: u64, timestamp: u32, payload: &[u8]) {
        self.send(self.video.unwrap(), now, sequence, timestamp, payload);
    }

    /// Asks for a new picture.
    pub(crate) fn want_picture(&mut self, now: Instant) {
        let mut api = self.rtc.direct_api();
        let stream = api.stream_rx_by_mid(self.video.unwrap(), None).unwrap();
        stream.request_keyframe(KeyframeRequestKind::Pli);
        self.handle_timeout(now);
    }

    /// Asks for lost packets of the video, which str0m does by itself only with RTX.
    pub(crate) fn nack(&mut self) {
        let mut api = self.rtc.direct_api();
        let stream = api.stream_rx_by_mid(self.video.unwrap(), None).unwrap();
        stream.suppress_nack(false);
    }

    fn send(&mut self, mid: Mid, now: Instant, sequence: u64, timestamp: u32, payload: &[u8]) {
        let payload_type = self.rtc.media(mid).unwrap().remote_pts()[0];
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(mid, None).unwrap();
        stream.write_rtp(RtpWrite::new(
            payload_type,
            sequence.into(),
            timestamp,
            now,
            payload.to_vec(),
        ));
        self.handle_timeout(now);
    }

    pub(crate) fn drain(&mut self) {
        loop {
            let Ok(output) = self.rtc.poll_output() else {
                self.give_up();
                return;
            };
            match output {
                Output::Timeout(at) => {
                    self.timeout = at;
                    return;
                }
                Output::Transmit(transmit) => self
                    .sent
                    .push((transmit.destination, transmit.contents.to_vec())),
                Output::Event(Event::Connected) => self.connected = true,
                Output::Event(Event::IceConnectionStateChange(state)) => self.ice = state,
                Output::Event(Event::KeyframeRequest(_)) => self.pictures_wanted += 1,
                Output::Event(Event::RtpPacket(packet)) => {
                    let is_video = packet.time.frequency().get() == 90_000;
                    let list = if is_video {
                        &mut self.seen
                    } else {
                        let source = *packet.header.ssrc;
                        self.sources.push((source, packet.timestamp));
                        &mut self.heard
                    };
                    list.push((
                        *packet.seq_no,
                        packet.header.timestamp,
                        packet.payload.to_vec(),
                    ));
                }
                Output::Event(_) => {}
            }
        }
    }
}
