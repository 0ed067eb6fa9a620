//! What the daemon does with the core's outputs: replies and events to the page, ports, flows that run.

use super::*;

impl World {
    pub(super) fn execute(&mut self, output: Output) {
        match output {
            Output::Reply(RequestId(id), reply) => {
                assert!(
                    self.waiting.remove(&id),
                    "a reply to nobody, or a second one"
                );
                self.replies.insert(id, reply);
            }
            Output::Event(_, event) => {
                if let Some(call) = call_of(&event) {
                    assert!(!self.over.contains(call), "told after the end: {event:?}");
                    if matches!(event, Event::Ended { .. }) {
                        self.over.insert(call.clone());
                    }
                }
                self.events.push(event);
            }
            Output::SessionClosed(_) => {}
            Output::SipTransmit(transmit) => self.send(Packet::SipToPeer(transmit.bytes), true),
            Output::SipResolve(_) | Output::SipClose(_) => {
                panic!("fixed addresses, no connections")
            }
            Output::Transmit {
                local,
                remote,
                bytes,
            } => self.emit(local, remote, bytes),
            Output::OpenPorts { call, media, .. } => {
                let first = u16::try_from(self.ports.len()).unwrap();
                let pair = |index| MediaPorts {
                    rtp: ([10, 0, 0, 1], 20_000 + 2 * index).into(),
                    rtcp: ([10, 0, 0, 1], 20_001 + 2 * index).into(),
                };
                let pairs = (first..first + u16::from(media)).map(pair);
                let opened: Result<Vec<MediaPorts>, _> = if self.no_ports {
                    Err(PortsError::Exhausted)
                } else {
                    Ok(pairs.collect())
                };
                self.ports.extend(opened.iter().flatten());
                self.open_ports.extend(opened.iter().flatten());
                self.opening.push((call, opened));
                if !self.slow_ports {
                    self.answer_ports();
                }
            }
            Output::ClosePorts(pair) => {
                let open = self.open_ports.iter().position(|open| *open == pair);
                self.open_ports
                    .swap_remove(open.expect("ports are closed once"));
            }
            Output::InstallFlow(id, spec) => self.install(id, &spec),
            Output::RemoveFlow(id) => {
                let flow = self.flows.remove(&id);
                assert!(flow.is_some(), "removed a flow that is not there");
                self.removed = Some(self.now);
            }
            Output::ReadFlow(flow) => {
                let snapshot = self.flows.get(&flow).map(|flow| flow.stats.snapshot());
                let monotonic_ns = self.monotonic_ns();
                self.gateway.handle(
                    self.now,
                    Input::FlowCounters {
                        flow,
                        snapshot,
                        monotonic_ns,
                    },
                );
            }
        }
    }

    /// The daemon's answers to the calls that wait for ports.
    pub(crate) fn answer_ports(&mut self) {
        for (call, opened) in std::mem::take(&mut self.opening) {
            self.gateway
                .handle(self.now, Input::PortsOpened(call, opened));
        }
    }

    fn install(&mut self, id: FlowId, spec: &FlowSpec) {
        let entry = FlowEntry::new(spec, 1, &[Some(sockets()); flow::MEDIA]).unwrap();
        let (state, stats) = match self.flows.remove(&id) {
            Some(before) => (before.state, before.stats),
            None => (FlowState::new(), FlowStats::new()),
        };
        let egress = spec.media.map(|medium| {
            medium.map(|medium| (medium.egress_local.into(), medium.egress_remote.into()))
        });
        self.flows.insert(
            id,
            Installed {
                key: spec.key,
                entry,
                state,
                stats,
                egress,
            },
        );
        let path = PathView {
            path: Path::Userspace,
            reason: "virtual".into(),
        };
        self.gateway.handle(self.now, Input::FlowPath(id, path));
    }
}

/// The leaving side of a datapath of sockets: the kernel makes the headers.
fn sockets() -> Egress {
    Egress {
        exit: Exit::Tx,
        source_mac: [0; 6],
        destination_mac: [0; 6],
        vlan: None,
        ttl: 64,
        mtu: 1500,
    }
}

/// The call that an event is about.
fn call_of(event: &Event) -> Option<&CallId> {
    match event {
        Event::Registered { .. }
        | Event::RegistrationFailed { .. }
        | Event::SessionEnded { .. }
        | Event::Message { .. }
        | Event::MessagesWaiting { .. } => None,
        Event::Incoming { call, .. }
        | Event::Ringing { call, .. }
        | Event::Challenged { call, .. }
        | Event::Answer { call, .. }
        | Event::Answered { call }
        | Event::Connected { call, .. }
        | Event::PathChanged { call, .. }
        | Event::Held { call, .. }
        | Event::Offer { call, .. }
        | Event::Dtmf { call, .. }
        | Event::Info { call, .. }
        | Event::InfoSent { call, .. }
        | Event::DtmfSent { call, .. }
        | Event::Muted { call, .. }
        | Event::Control { call, .. }
        | Event::Transfer { call, .. }
        | Event::Refer { call, .. }
        | Event::Party { call, .. }
        | Event::Ended { call, .. } => Some(call),
    }
}
