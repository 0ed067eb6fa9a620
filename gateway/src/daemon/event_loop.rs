//! The event loop: the one owner of the core. Everything that happens comes here as an event, everything that the core wants done
//! is done from here, and nothing here ever waits for a peer.
//!
//! When several things are ready, they are taken in this order, each source up to its share before the next gets its turn:
//! 1. a stop signal, 2. a deadline of the core, 3. media events, 4. SIP, 5. name look-ups, 6. requests of pages, 7. the tick.
//!
//! A panic in the core ends the call that it happened in (`gateway_core::gateway`); it is counted here as a metric.

use crate::http::{Ask, Sessions, Shell, Standing};
use crate::media::{Media, MediaEvent};
use crate::metrics::{Metrics, Way};
use crate::resolver::{Resolved, Resolver};
use crate::sip::{self, Transports};
use anyhow::{Result, bail};
use gateway_core::api::{Event, PathView, Problem, Reply, Request};
use gateway_core::gateway::{FlowId, Gateway, Input, Output, RequestId};
use gateway_core::sip::Transport;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

/// Events of one source in one turn.
const SHARE: usize = 64;
/// How often gauges are set and the loop's lag is measured.
const TICK: Duration = Duration::from_secs(1);
/// Longest farewell: BYE, CANCEL and un-REGISTER with their answers.
const FAREWELL_LIMIT: Duration = Duration::from_secs(3);
/// Shortest farewell when there was something to end: a lost BYE is repeated after T1, 500 ms.
const FAREWELL_LEAST: Duration = Duration::from_millis(600);

/// Where events come from.
pub(super) struct Sources {
    pub(super) media: mpsc::Receiver<MediaEvent>,
    pub(super) sip: mpsc::Receiver<sip::Event>,
    pub(super) resolved: mpsc::Receiver<Resolved>,
    pub(super) asks: mpsc::Receiver<Ask>,
}

/// Everything that can happen.
enum Happening {
    Signal,
    Deadline,
    Media(MediaEvent),
    Sip(sip::Event),
    Resolved(Resolved),
    Ask(Ask),
    Tick,
    /// The media threads are gone.
    MediaGone,
}

/// See the module.
pub(super) struct EventLoop {
    gateway: Gateway,
    media: Arc<Media>,
    transports: Transports,
    resolver: Resolver,
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
    standing: Arc<Standing>,
    replies: HashMap<RequestId, oneshot::Sender<Result<Reply, Problem>>>,
    next_request: u64,
    /// Installed flows, with their path once the datapath has told it.
    paths: HashMap<FlowId, Option<PathView>>,
    tick: Instant,
    /// A media thread has ended.
    media_gone: bool,
    /// When the farewell ends at the earliest and at the latest; `None` before the stop.
    farewell: Option<(Instant, Instant)>,
}

impl EventLoop {
    pub(super) fn new(
        gateway: Gateway,
        media: Arc<Media>,
        transports: Transports,
        resolver: Resolver,
        shell: &Shell,
    ) -> Self {
        Self {
            gateway,
            media,
            transports,
            resolver,
            sessions: Arc::clone(&shell.sessions),
            metrics: Arc::clone(&shell.metrics),
            standing: Arc::clone(&shell.standing),
            replies: HashMap::new(),
            next_request: 1,
            paths: HashMap::new(),
            tick: Instant::now() + TICK,
            media_gone: false,
            farewell: None,
        }
    }

    /// Runs until `stop` has stopped it and the farewell is over, or a second signal cuts it short.
    pub(super) async fn run(
        mut self,
        mut sources: Sources,
        stop: &mut mpsc::Receiver<()>,
    ) -> Result<()> {
        loop {
            let happening = self.next(&mut sources, stop).await;
            let now = Instant::now();
            match happening {
                Happening::Signal if self.farewell.is_some() => {
                    info!("stopped at once by a second signal");
                    return Ok(());
                }
                Happening::Signal => self.begin_farewell(now),
                Happening::MediaGone => bail!("the media threads ended"),
                other => self.step(now, other),
            }
            self.take_turns(&mut sources);
            if self.media_gone {
                bail!("a media thread ended");
            }
            if let Some((earliest, latest)) = self.farewell {
                let now = Instant::now();
                if now >= latest || (now >= earliest && self.gateway.is_idle()) {
                    info!("stopped");
                    return Ok(());
                }
            }
        }
    }

    /// Waits for the first thing to happen, by priority.
    async fn next(&self, sources: &mut Sources, stop: &mut mpsc::Receiver<()>) -> Happening {
        let farewell = self.farewell.map(|(earliest, latest)| {
            if self.gateway.is_idle() {
                earliest
            } else {
                latest
            }
        });
        let deadline = [self.gateway.poll_timeout(), farewell]
            .into_iter()
            .flatten()
            .min();
        tokio::select! {
            biased;
            Some(()) = stop.recv() => Happening::Signal,
            () = sleep_until(deadline) => Happening::Deadline,
            event = sources.media.recv() => event.map_or(Happening::MediaGone, Happening::Media),
            Some(event) = sources.sip.recv() => Happening::Sip(event),
            Some(answer) = sources.resolved.recv() => Happening::Resolved(answer),
            Some(ask) = sources.asks.recv() => Happening::Ask(ask),
            () = sleep_until(Some(self.tick)) => Happening::Tick,
        }
    }

    /// What else is ready, each source up to its share.
    fn take_turns(&mut self, sources: &mut Sources) {
        for _ in 0..SHARE {
            let Ok(event) = sources.media.try_recv() else {
                break;
            };
            self.step(Instant::now(), Happening::Media(event));
        }
        for _ in 0..SHARE {
            let Ok(event) = sources.sip.try_recv() else {
                break;
            };
            self.step(Instant::now(), Happening::Sip(event));
        }
        for _ in 0..SHARE {
            let Ok(answer) = sources.resolved.try_recv() else {
                break;
            };
            self.step(Instant::now(), Happening::Resolved(answer));
        }
        for _ in 0..SHARE {
            let Ok(ask) = sources.asks.try_recv() else {
                break;
            };
            self.step(Instant::now(), Happening::Ask(ask));
        }
        if Instant::now() >= self.tick {
            self.step(Instant::now(), Happening::Tick);
        }
    }

    /// Hands one event to the core and does what the core wants done.
    fn step(&mut self, now: Instant, happening: Happening) {
        match happening {
            Happening::Deadline => self.gateway.handle(now, Input::Timeout),
            Happening::Media(event) => self.media_event(now, event),
            Happening::Sip(event) => self.sip_event(now, event),
            Happening::Resolved(resolved) => {
                if let Ok(targets) = &resolved.targets {
                    self.transports.resolved(&resolved.host, targets);
                }
                self.gateway
                    .handle(now, Input::SipResolved(resolved.query, resolved.targets));
            }
            Happening::Ask(ask) => self.ask(now, ask),
            Happening::Tick => self.on_tick(now),
            // Both are decisions of `run`.
            Happening::Signal | Happening::MediaGone => {}
        }
        self.drain(now);
    }

    fn media_event(&mut self, now: Instant, event: MediaEvent) {
        match event {
            MediaEvent::Datagram {
                local,
                remote,
                bytes,
            } => {
                self.gateway.handle(
                    now,
                    Input::Datagram {
                        local,
                        remote,
                        bytes: &bytes,
                    },
                );
            }
            MediaEvent::Gone => self.media_gone = true,
            MediaEvent::PortsOpened(call, ports) => {
                self.gateway.handle(now, Input::PortsOpened(call, ports))
            }
            MediaEvent::FlowPath(flow, path) => {
                // A flow that was removed in the meantime has no place in the table any more.
                if let Some(known) = self.paths.get_mut(&flow) {
                    *known = Some(path.clone());
                }
                self.gateway.handle(now, Input::FlowPath(flow, path));
            }
            MediaEvent::FlowEvent(flow, event) => {
                self.gateway.handle(now, Input::FlowEvent(flow, event));
            }
            MediaEvent::FlowCounters {
                flow,
                snapshot,
                monotonic_ns,
            } => {
                self.gateway.handle(
                    now,
                    Input::FlowCounters {
                        flow,
                        snapshot,
                        monotonic_ns,
                    },
                );
            }
        }
    }

    fn sip_event(&mut self, now: Instant, mut event: sip::Event) {
        self.transports.note(&mut event);
        match event {
            sip::Event::Datagram(peer, bytes) => {
                self.metrics
                    .sip_message(Way::In, Transport::Udp.as_str(), &bytes);
                self.gateway.handle(now, Input::SipDatagram(peer, &bytes));
            }
            sip::Event::Stream(peer, bytes) => {
                self.metrics
                    .sip_message(Way::In, peer.transport.as_str(), &bytes);
                self.gateway.handle(now, Input::SipStream(peer, &bytes));
            }
            sip::Event::Accepted(_) => {}
            sip::Event::Closed(connection) => {
                self.gateway.handle(now, Input::SipClosed(connection))
            }
            sip::Event::Unreachable(transport, remote) => {
                self.gateway
                    .handle(now, Input::SipUnreachable(transport, remote));
            }
        }
    }

    fn ask(&mut self, now: Instant, ask: Ask) {
        match ask {
            Ask::Request(request, back) => {
                let id = RequestId(self.next_request);
                self.next_request += 1;
                self.replies.insert(id, back);
                self.gateway.handle(now, Input::Request(id, request));
            }
            Ask::Alive(session) => self.gateway.handle(now, Input::SessionAlive(session)),
            Ask::Drain => {
                info!("draining: no new sessions and calls");
                self.standing.set_draining();
                self.gateway.handle(now, Input::Drain);
            }
        }
    }

    fn on_tick(&mut self, now: Instant) {
        self.metrics.lag(now.saturating_duration_since(self.tick));
        self.tick = now + TICK;
        self.metrics
            .population(self.gateway.calls(), self.gateway.session_count());
        self.metrics.trunks(&self.gateway.trunks());
        self.metrics.sip_refused(self.gateway.sip_refused());
        self.metrics.panics(self.gateway.panics());
        self.metrics.paths(self.paths.values().flatten());
        // Requests whose clients gave up and that the core will not answer any more.
        self.replies.retain(|_, back| !back.is_closed());
    }

    fn begin_farewell(&mut self, now: Instant) {
        let something = self.gateway.session_count() > 0 || !self.gateway.is_idle();
        info!(
            sessions = self.gateway.session_count(),
            "stopping: ending calls and registrations"
        );
        self.standing.set_draining();
        let least = if something {
            FAREWELL_LEAST
        } else {
            Duration::ZERO
        };
        self.farewell = Some((now + least, now + FAREWELL_LIMIT));
        self.gateway.shut_down(now);
        self.drain(now);
    }

    fn drain(&mut self, now: Instant) {
        while let Some(output) = self.gateway.poll_output() {
            self.execute(now, output);
        }
    }

    fn execute(&mut self, now: Instant, output: Output) {
        match output {
            Output::Reply(id, reply) => self.reply(now, id, reply),
            Output::Event(session, event) => {
                self.metrics.event(&event);
                log_event(&event);
                self.sessions.push(&session, &event);
            }
            Output::SessionClosed(session) => self.sessions.close(&session),
            Output::SipTransmit(transmit) => {
                self.metrics.sip_message(
                    Way::Out,
                    transmit.peer.transport.as_str(),
                    &transmit.bytes,
                );
                self.transports.transmit(transmit);
            }
            Output::SipResolve(question) => self.resolver.resolve(question),
            Output::SipClose(connection) => self.transports.close(connection),
            Output::Transmit {
                local,
                remote,
                bytes,
            } => self.media.transmit(local, remote, bytes),
            Output::OpenPorts { call, media, ipv6 } => self.media.open_ports(call, media, ipv6),
            Output::ClosePorts(ports) => self.media.close_ports(ports),
            Output::InstallFlow(flow, spec) => {
                self.paths.entry(flow).or_default();
                self.media.install(flow, spec);
            }
            Output::RemoveFlow(flow) => {
                self.paths.remove(&flow);
                self.media.remove(flow);
            }
            Output::ReadFlow(flow) => self.media.read(flow),
        }
    }

    fn reply(&mut self, now: Instant, id: RequestId, reply: Result<Reply, Problem>) {
        let created = match &reply {
            Ok(Reply::SessionCreated(created)) => {
                self.sessions.open(&created.id, &created.token);
                Some(created.id.clone())
            }
            Ok(_) => None,
            Err(problem) => {
                self.metrics.refused(problem);
                None
            }
        };
        let taken = self
            .replies
            .remove(&id)
            .is_some_and(|back| back.send(reply).is_ok());
        if let Some(session) = created.filter(|_| !taken) {
            // The page went away while it was being registered: nobody knows the token. The reply goes nowhere, too.
            let id = RequestId(self.next_request);
            self.next_request += 1;
            self.gateway
                .handle(now, Input::Request(id, Request::EndSession(session)));
        }
    }
}

/// Begin and end of calls; no addresses, no descriptions.
fn log_event(event: &Event) {
    match event {
        Event::Connected {
            call,
            codec,
            video,
            suite,
            to_sip,
            to_browser,
        } => {
            info!(
                call = call.0,
                codec,
                video,
                suite,
                to_sip = crate::metrics::path_word(to_sip.path),
                to_browser = crate::metrics::path_word(to_browser.path),
                "call connected"
            );
        }
        Event::Ended {
            call,
            by,
            status,
            reason,
            causes,
        } => {
            let cause = causes.first().and_then(|cause| cause.code);
            info!(call = call.0, by, status, reason, cause, "call ended");
        }
        Event::Incoming { call, .. } => info!(call = call.0, "incoming call"),
        Event::Ringing { call, .. } => tracing::debug!(call = call.0, "ringing"),
        Event::Challenged { call, .. } => tracing::debug!(call = call.0, "credentials wanted"),
        Event::RegistrationFailed { status, .. } => {
            tracing::debug!(status, "registration not refreshed")
        }
        Event::Registered { .. }
        | Event::SessionEnded { .. }
        | Event::Answer { .. }
        | Event::Answered { .. }
        | Event::PathChanged { .. }
        | Event::Held { .. }
        | Event::Offer { .. }
        | Event::Dtmf { .. }
        | Event::Info { .. }
        | Event::InfoSent { .. }
        | Event::DtmfSent { .. }
        | Event::Muted { .. }
        | Event::Control { .. }
        | Event::Transfer { .. }
        | Event::Refer { .. }
        | Event::Party { .. }
        | Event::Message { .. }
        | Event::MessagesWaiting { .. } => {}
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
