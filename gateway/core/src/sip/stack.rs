//! The user agent stack as its caller sees it, and the tables behind it.
//!
//! Every input may produce outputs; drain [`Stack::poll_output`] until `None` after each, then sleep until
//! [`Stack::poll_timeout`]. The parts: `receive` sorts messages, `outgoing` sends requests, `uac`, `uas` and `session`
//! are the life of a call, `register` that of a binding.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Instant;

use super::auth::Auth;
use super::call::Call;
use super::config::{Config, ConnectionId, Peer, Transport};
use super::event::{
    CallHandle, MessageHandle, Output, QueryId, RegistrationHandle, RelayHandle, WatchHandle,
};
use super::io::Io;
use super::message::{Frame, Framing, Limits};
use super::outgoing::{Failure, Hop, Owner, Waiting};
use super::ping::Ping;
use super::register::{Binding, Registration};
use super::relay::Relay;
use super::sources::Sources;
use super::standalone::Sending;
use super::timers::Deadline;
use super::transaction::{Client, ClientEnd, Server, TransactionId};
use super::watch::Watched;
use crate::Random;

/// A sans-IO SIP user agent: UAC and UAS for many users on shared addresses.
pub struct Stack {
    pub(super) io: Io,
    pub(super) clients: HashMap<TransactionId, Client>,
    /// By branch and method.
    pub(super) client_keys: HashMap<String, TransactionId>,
    /// Which requests a dead target concerns.
    by_hop: HashMap<Hop, HashSet<TransactionId>>,
    pub(super) servers: HashMap<TransactionId, Server>,
    pub(super) server_keys: HashMap<String, TransactionId>,
    pub(super) merge_keys: HashMap<String, TransactionId>,
    pub(super) calls: HashMap<CallHandle, Call>,
    /// Calls by our tag, which no other dialog has.
    pub(super) tags: HashMap<String, CallHandle>,
    pub(super) registrations: HashMap<RegistrationHandle, Registration>,
    /// By Contact user.
    pub(super) bindings: HashMap<String, Binding>,
    pub(super) messages: HashMap<MessageHandle, Sending>,
    pub(super) relays: HashMap<RelayHandle, Relay>,
    pub(super) waiting: HashMap<QueryId, Waiting>,
    /// Targets that failed, and until when they are tried last.
    pub(super) avoided: HashMap<Hop, Instant>,
    pub(super) streams: HashMap<ConnectionId, Stream>,
    /// Servers that are asked for signs of life.
    pub(super) watches: HashMap<WatchHandle, Watched>,
    /// Connections that are kept open.
    pub(super) pings: HashMap<Hop, Ping>,
    pub(super) sources: Sources,
}

/// A TCP connection that has sent us something.
pub(super) struct Stream {
    framing: Framing,
    pub(super) hop: Hop,
}

impl Stack {
    /// A stack without calls.
    pub fn new(config: Config, random: Random) -> Self {
        Self {
            io: Io::new(config, random),
            clients: HashMap::new(),
            client_keys: HashMap::new(),
            by_hop: HashMap::new(),
            servers: HashMap::new(),
            server_keys: HashMap::new(),
            merge_keys: HashMap::new(),
            calls: HashMap::new(),
            tags: HashMap::new(),
            registrations: HashMap::new(),
            bindings: HashMap::new(),
            messages: HashMap::new(),
            relays: HashMap::new(),
            waiting: HashMap::new(),
            avoided: HashMap::new(),
            streams: HashMap::new(),
            watches: HashMap::new(),
            pings: HashMap::new(),
            sources: Sources::default(),
        }
    }

    /// One UDP datagram.
    pub fn handle_datagram(&mut self, now: Instant, peer: Peer, bytes: &[u8]) {
        // Keep-alives and stray STUN: nothing that starts like a message.
        if bytes
            .iter()
            .find(|byte| !matches!(byte, b'\r' | b'\n'))
            .is_some_and(u8::is_ascii_graphic)
        {
            self.handle_message(now, peer, bytes);
        }
    }

    /// Bytes of a TCP connection as they come; `peer.connection` must be set.
    pub fn handle_stream(&mut self, now: Instant, peer: Peer, bytes: &[u8]) {
        let Some(connection) = peer.connection else {
            return;
        };
        let limits = self.limits();
        let hop = Hop {
            transport: peer.transport,
            addr: peer.remote,
        };
        let fresh = || Stream {
            framing: Framing::default(),
            hop,
        };
        let awaited = self.sign_of_life(now, hop);
        self.streams
            .entry(connection)
            .or_insert_with(fresh)
            .framing
            .push(bytes);
        while let Some(stream) = self.streams.get_mut(&connection) {
            match stream.framing.next_frame(&limits) {
                Ok(None) => {
                    if awaited {
                        stream.framing.take_pong();
                    }
                    return;
                }
                Ok(Some(Frame::Ping)) => self.io.transmit(peer, b"\r\n".to_vec()),
                Ok(Some(Frame::Message(message))) => self.handle_message(now, peer, &message),
                Err(error) => {
                    tracing::debug!(%error, "SIP connection closed");
                    let rest = std::mem::take(&mut stream.framing);
                    self.refuse_frame(peer, rest.rest(), error);
                    self.streams.remove(&connection);
                    self.io.outputs.push_back(Output::Close(connection));
                }
            }
        }
    }

    /// A connection is closed. Requests that were sent on it and have no answer fail.
    pub fn handle_closed(&mut self, now: Instant, connection: ConnectionId) {
        let Some(stream) = self.streams.remove(&connection) else {
            return;
        };
        self.servers
            .values_mut()
            .for_each(|server| server.leave_connection(connection));
        let hop = stream.hop;
        if !self.streams.values().any(|other| other.hop == hop) {
            self.handle_unreachable(now, hop.addr, hop.transport);
            self.flow_lost(now, hop);
        }
    }

    /// Nothing listens there (ICMP, connection refused, timed out, or closed before its first byte).
    pub fn handle_unreachable(&mut self, now: Instant, remote: SocketAddr, transport: Transport) {
        let ids = self
            .by_hop
            .get(&Hop {
                transport,
                addr: remote,
            })
            .cloned()
            .unwrap_or_default();
        for id in ids {
            if self
                .clients
                .get(&id)
                .is_some_and(|client| client.outgoing().is_some())
            {
                self.attempt_failed(now, id, Failure::Unreachable);
            }
        }
    }

    /// The answer to [`Output::Resolve`], best target first.
    pub fn handle_resolved(
        &mut self,
        now: Instant,
        query: QueryId,
        targets: Result<Vec<(Transport, SocketAddr)>, String>,
    ) {
        let targets = targets.unwrap_or_else(|error| {
            tracing::debug!(%error, "SIP target not resolved");
            Vec::new()
        });
        self.resolved(now, query, targets);
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(deadline) = self.io.timers.pop(now) {
            match deadline {
                Deadline::ClientRetransmit(id) => {
                    if let Some(client) = self.clients.get_mut(&id) {
                        client.handle_retransmit(now, &mut self.io);
                    }
                }
                Deadline::ClientEnd(id) => self.client_end(now, id),
                Deadline::ServerRetransmit(id) => {
                    if let Some(server) = self.servers.get_mut(&id) {
                        server.handle_retransmit(now, &mut self.io);
                    }
                }
                Deadline::ServerEnd(id) => self.remove_server(id),
                Deadline::Call(call, timer) => self.call_timeout(now, call, timer),
                Deadline::Registration(registration) => {
                    self.registration_timeout(now, registration)
                }
                Deadline::Query(query) => self.resolved(now, query, Vec::new()),
                Deadline::Watch(watch) => self.ask_targets(now, watch),
                Deadline::Ping(hop) => self.ping(now, hop),
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.io.timers.earliest()
    }

    /// The next thing to do; call until `None` after every input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.io.outputs.pop_front()
    }

    /// How many calls there are, ringing, answered or ending.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// How many requests were refused before anybody was asked, by reason: a fixed set of words.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.io.refused.iter().map(|(why, count)| (*why, *count))
    }

    /// Whether there is a call of this handle, ringing, answered or ending.
    pub fn has_call(&self, call: CallHandle) -> bool {
        self.calls.contains_key(&call)
    }

    /// Whether there is a registration of this handle.
    pub fn has_registration(&self, registration: RegistrationHandle) -> bool {
        self.registrations.contains_key(&registration)
    }

    /// Whether a message of this handle waits for its answer.
    pub fn has_message(&self, message: MessageHandle) -> bool {
        self.messages.contains_key(&message)
    }

    /// How many client and server transactions there are.
    pub fn transactions(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    pub(super) fn limits(&self) -> Limits {
        let config = &self.io.config;
        Limits {
            max_message_bytes: config.max_message_bytes,
            max_headers: config.max_headers,
        }
    }

    pub(super) fn has_room(&self, in_dialog: bool) -> bool {
        let max = self.io.config.max_transactions;
        self.transactions() < if in_dialog { max + max / 4 + 1 } else { max }
    }

    pub(super) fn add_client(&mut self, client: Client) {
        let id = client.id;
        if let Owner::Invite(call) = client.owner
            && let Some(Call::Calling(calling)) = self.calls.get_mut(&call)
        {
            calling.transaction = Some(id);
        }
        self.client_keys.insert(client_key(&client), id);
        self.by_hop.entry(client.hop).or_default().insert(id);
        self.clients.insert(id, client);
    }

    pub(super) fn remove_client(&mut self, id: TransactionId) -> Option<Client> {
        let client = self.clients.remove(&id)?;
        self.client_keys.remove(&client_key(&client));
        if let Some(ids) = self.by_hop.get_mut(&client.hop) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_hop.remove(&client.hop);
            }
        }
        Some(client)
    }

    pub(super) fn remove_server(&mut self, id: TransactionId) {
        let Some(server) = self.servers.remove(&id) else {
            return;
        };
        self.server_keys.remove(&server.key);
        if let Some(key) = &server.merge_key
            && self.merge_keys.get(key) == Some(&id)
        {
            self.merge_keys.remove(key);
        }
        server.finish(&mut self.io);
    }

    /// The digest state, the sequence number and the rest that answering a challenge takes.
    pub(super) fn auth_of(&mut self, owner: Owner) -> Option<(&mut Auth, &mut u32, &mut Io)> {
        let (auth, number) = match owner {
            Owner::Invite(call) => match self.calls.get_mut(&call)? {
                Call::Calling(calling) => (&mut calling.auth, &mut calling.cseq),
                Call::Ringing(_) | Call::Established(_) => return None,
            },
            Owner::Reinvite(call) | Owner::Bye(call) | Owner::Errand(call, _) => match self
                .calls
                .get_mut(&call)?
            {
                Call::Established(session) => (&mut session.auth, &mut session.dialog.local_cseq),
                Call::Ringing(_) | Call::Calling(_) => return None,
            },
            Owner::Prack(call, fork) | Owner::Update(call, fork) => {
                self.calls.get_mut(&call)?.auth(fork)?
            }
            Owner::Register(registration) => self.registrations.get_mut(&registration)?.auth(),
            Owner::Message(message) => self.messages.get_mut(&message)?.auth(),
            Owner::Relay(_) | Owner::Watch(..) | Owner::Ack(_) | Owner::Nobody => return None,
        };
        Some((auth, number, &mut self.io))
    }

    /// Whether anybody still waits for the answer.
    pub(super) fn is_wanted(&self, owner: Owner) -> bool {
        match owner {
            Owner::Invite(call) => {
                matches!(self.calls.get(&call), Some(Call::Calling(calling)) if calling.leaving.is_none())
            }
            Owner::Reinvite(call) => {
                matches!(self.calls.get(&call), Some(Call::Established(session)) if !session.is_leaving())
            }
            Owner::Prack(call, _) | Owner::Update(call, _) | Owner::Errand(call, _) => {
                self.is_going_on(call)
            }
            Owner::Message(message) => self.messages.contains_key(&message),
            Owner::Relay(relay) => self.relays.contains_key(&relay),
            Owner::Bye(call) => self.calls.contains_key(&call),
            Owner::Register(registration) => self.registrations.contains_key(&registration),
            Owner::Watch(watch, _) => self.watches.contains_key(&watch),
            Owner::Ack(_) | Owner::Nobody => true,
        }
    }

    fn client_end(&mut self, now: Instant, id: TransactionId) {
        let Some(client) = self.clients.get(&id) else {
            return;
        };
        if client.outgoing().is_some() {
            return self.attempt_failed(now, id, Failure::Timeout);
        }
        if let Some(client) = self.remove_client(id) {
            let end = client.finish(&mut self.io);
            debug_assert!(
                matches!(end, ClientEnd::Served),
                "a transaction with a response has nothing to give back"
            );
        }
    }
}

fn client_key(client: &Client) -> String {
    let branch = client
        .request
        .headers
        .via()
        .map(|via| via.branch().to_owned())
        .unwrap_or_default();
    format!("{branch}|{}", client.request.method)
}
