//! The virtual network: what is sent, lost and delayed on it, and where it arrives.

use super::*;

impl World {
    pub(super) fn deliver(&mut self, packet: Packet) {
        match packet {
            Packet::ToGateway {
                local,
                remote,
                bytes,
            } => self.arrive(local, remote, &bytes),
            Packet::ToPage { from, bytes } => self.page.receive(self.now, from, &bytes),
            Packet::ToPhone { phone, from, bytes } => {
                self.phones[phone].receive(self.now, from, &bytes);
            }
            Packet::SipToGateway(bytes) => {
                let bytes = self.with_ack_sdp(bytes);
                let input = Input::SipDatagram(peer(GATEWAY_SIP, PEER_SIP), &bytes);
                self.gateway.handle(self.now, input);
            }
            Packet::SipToPeer(bytes) => self.peer_receives(&bytes),
        }
        self.settle();
    }

    fn with_ack_sdp(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        let text = String::from_utf8_lossy(&bytes);
        let Some(sdp) = self.ack_sdp.take_if(|_| text.starts_with("ACK ")) else {
            return bytes;
        };
        let header = format!(
            "Content-Type: application/sdp\r\nContent-Length: {}\r\n",
            sdp.len()
        );
        let head = text
            .trim_end()
            .replace("Content-Length: 0", header.trim_end());
        format!("{head}\r\n\r\n{sdp}").into_bytes()
    }

    /// A datagram from anybody to any of the gateway's media sockets.
    pub(crate) fn inject(&mut self, local: SocketAddr, remote: &str, bytes: Vec<u8>) {
        let remote = remote.parse().unwrap();
        self.send(
            Packet::ToGateway {
                local,
                remote,
                bytes,
            },
            false,
        );
    }

    /// The datapath: a flow takes the packet, or the core gets it.
    fn arrive(&mut self, local: SocketAddr, remote: SocketAddr, bytes: &[u8]) {
        let key = FlowKey {
            local: local.into(),
            remote: remote.into(),
        };
        let now_ns = self.monotonic_ns();
        if let Some((id, flow)) = self.flows.iter_mut().find(|(_, flow)| flow.key == key) {
            let id = *id;
            self.scratch.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
            let done = forward_payload(
                &flow.entry,
                &mut flow.state,
                &mut flow.stats,
                &mut self.scratch,
                bytes.len(),
                now_ns,
            );
            if let Ok(leaving) = done {
                let (from, to) =
                    flow.egress[leaving.medium].expect("it left by a medium of the flow");
                let out = self.scratch.bytes()[..leaving.bytes].to_vec();
                self.emit(from, to, out);
                if let Some(event) = leaving.event {
                    self.gateway.handle(self.now, Input::FlowEvent(id, event));
                }
                return;
            }
        }
        if let [128..=191, 0..=191 | 224..=255, ..] = bytes {
            self.missed += 1;
        }
        self.gateway.handle(
            self.now,
            Input::Datagram {
                local,
                remote,
                bytes,
            },
        );
    }

    /// A datagram that leaves the gateway.
    pub(super) fn emit(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if to == self.page.addr {
            if self.cut {
                self.unheard.push(self.now);
            } else {
                self.send(Packet::ToPage { from, bytes }, true);
            }
        } else if let Some(phone) = self.phones.iter().position(|phone| phone.addr == to) {
            self.send(Packet::ToPhone { phone, from, bytes }, true);
        } else if to == PEER_RTP.parse().unwrap() {
            self.peer_heard.push(bytes);
        } else if to == PEER_VIDEO.parse().unwrap() {
            self.peer_seen.push(bytes);
        } else {
            self.peer_rtcp.push(bytes);
        }
    }

    pub(super) fn send(&mut self, packet: Packet, lossy: bool) {
        if lossy && self.random.u32() % 100 < self.loss_percent {
            return;
        }
        let jitter = self.jitter.as_micros() as u32;
        let late = if jitter == 0 {
            0
        } else {
            self.random.u32() % jitter
        };
        self.serial += 1;
        self.queue.insert(
            (
                self.now + ONE_WAY + Duration::from_micros(late.into()),
                self.serial,
            ),
            packet,
        );
    }

    /// RTP from the SIP side's signalled address to the call's port.
    pub(crate) fn peer_speaks(&mut self, from: &str, packet: Vec<u8>) {
        let local = self.ports.last().unwrap().rtp;
        self.send(
            Packet::ToGateway {
                local,
                remote: from.parse().unwrap(),
                bytes: packet,
            },
            false,
        );
    }

    /// SIP of the peer.
    pub(super) fn peer_sends(&mut self, bytes: Vec<u8>) {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((_, named)) = text.split_once("?Replaces=") {
            let value = named.split('>').next().unwrap_or_default();
            let value = percent_encoding::percent_decode_str(value);
            self.replaces = Some(value.decode_utf8_lossy().into_owned());
        }
        if text.starts_with("SIP/2.0 18") {
            self.ringing = Some(dialog(&text, "From", "To"));
        }
        self.send(Packet::SipToGateway(bytes), true);
    }

    /// SIP of somebody else behind the peer's address.
    pub(crate) fn peer_says(&mut self, text: &str) {
        self.send(Packet::SipToGateway(text.as_bytes().to_vec()), false);
    }

    fn peer_receives(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.sip_log.push(text.clone());
        if text.starts_with("SIP/2.0 18") {
            self.ringing = Some(dialog(&text, "To", "From"));
        }
        if text.starts_with("REGISTER ") && self.registrar_away {
            return;
        }
        if text.starts_with("REGISTER ") {
            let user = text
                .split("Contact: <sip:")
                .nth(1)
                .and_then(|rest| rest.split('@').next())
                .map(String::from);
            self.contact_user = user.or_else(|| self.contact_user.take());
            let answer = crate::registrar::answer(&text);
            self.send(Packet::SipToGateway(answer.into_bytes()), true);
            return;
        }
        self.peer_infos += usize::from(text.starts_with("INFO "));
        self.peer
            .handle_datagram(self.now, peer(PEER_SIP, GATEWAY_SIP), bytes);
    }
}

/// The dialog of a message, for the one whose tag stands in `ours` (RFC 3891 section 3).
fn dialog(text: &str, ours: &str, theirs: &str) -> String {
    let header = |name: &str| {
        let start = format!("{name}: ");
        let value = text.lines().find_map(|line| line.strip_prefix(&start));
        value.unwrap_or_else(|| panic!("no {name}: {text}"))
    };
    let tag = |name| header(name).split(";tag=").nth(1).unwrap_or_default();
    format!(
        "{};to-tag={};from-tag={}",
        header("Call-ID"),
        tag(ours),
        tag(theirs)
    )
}

fn peer(local: &str, remote: &str) -> sip::Peer {
    sip::Peer {
        transport: sip::Transport::Udp,
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        connection: None,
    }
}
