//! Bindings at registrars (RFC 3261 section 10.2): made, refreshed before they end, removed.
//!
//! 1. REGISTER; 401 and 407 are answered by `outgoing`. 423 is tried once more with the registrar's Min-Expires.
//! 2. 200: `Event::Registered` with the lifetime of our Contact, and a refresh at about five sixths of it.
//! 3. A refresh that finds nobody is tried again until the binding has run out; a refusal is final at once.
//! 4. Service-Route and GRUU (RFC 3608, RFC 5627) go into later requests of the same Contact user. A binding that was made over a
//!    connection is made anew when that closes (RFC 5626).
//! 5. `unregister`: REGISTER with Expires 0, after the one under way. Whatever the answer, the handle is gone then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::auth::Auth;
use super::config::Proxies;
use super::event::{Event, Register, RegistrationHandle};
use super::io::Io;
use super::message::{Headers, Method, NameAddr, Request, Response, split_list, unquote};
use super::outgoing::{Hop, Outgoing, Owner};
use super::stack::Stack;
use super::timers::{Deadline, TimerId};
use super::uri::{SipUri, escape_user};

/// A registrar that wants longer lifetimes than a day is refused.
const MAX_MIN_EXPIRES: u64 = 86_400;
/// A longer Service-Route is cut.
const MAX_ROUTES: usize = 8;
/// First wait after a refresh that found nobody; doubles up to ten times as much.
const RETRY: Duration = Duration::from_secs(5);

pub(super) struct Registration {
    register: Register,
    call_id: String,
    local_tag: String,
    cseq: u32,
    auth: Auth,
    expires: Duration,
    /// Until when the registrar keeps the binding; none before the first 200.
    bound_until: Option<Instant>,
    failures: u32,
    /// Whether 423 was obeyed once.
    lengthened: bool,
    /// Whether outbound is asked for: not after 439.
    outbound: bool,
    /// Where the binding was made.
    hop: Option<Hop>,
    request: Under,
    timer: Option<TimerId>,
}

/// What a registrar said of a Contact user beside the lifetime.
pub(super) struct Binding {
    /// How requests outside of dialogs travel (RFC 3608).
    pub(super) service_route: Vec<String>,
    /// The Contact that reaches this user agent from anywhere (RFC 5627), as given.
    pub(super) gruu: Option<String>,
    /// The way to the registrar.
    proxies: Proxies,
}

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Under {
    Nothing,
    Register,
    /// REGISTER, and then the removal.
    RegisterThenRemove,
    Remove,
}

impl Registration {
    fn binding(&self, response: &Response, use_gruu: bool) -> Binding {
        let service_route = response
            .headers
            .get_all("Service-Route")
            .flat_map(|value| split_list(value, ','))
            .filter(|route| NameAddr::parse(route).is_some())
            .take(MAX_ROUTES)
            .map(str::to_owned);
        let contact = self.own_contact(response);
        let gruu = contact
            .as_ref()
            .and_then(|contact| contact.param("pub-gruu"))
            .map(unquote)
            .filter(|gruu| SipUri::parse(gruu).is_some());
        Binding {
            service_route: service_route.collect(),
            gruu: gruu.filter(|_| use_gruu && self.register.instance.is_some()),
            proxies: Arc::clone(&self.register.proxies),
        }
    }

    pub(super) fn auth(&mut self) -> (&mut Auth, &mut u32) {
        (&mut self.auth, &mut self.cseq)
    }

    fn next_request(&mut self, expires: Duration, io: &Io) -> Request {
        self.cseq += 1;
        let mut request = Request::new(Method::Register, self.register.registrar.clone());
        let headers = &mut request.headers;
        headers.push("Max-Forwards", "70");
        headers.push(
            "From",
            format!("<{}>;tag={}", self.register.aor, self.local_tag),
        );
        headers.push("To", format!("<{}>", self.register.aor));
        headers.push("Call-ID", self.call_id.clone());
        headers.push("CSeq", format!("{} REGISTER", self.cseq));
        headers.push("Expires", expires.as_secs().to_string());
        let extensions = match &self.register.instance {
            Some(_) if self.outbound && io.config.gruu => "path, outbound, gruu",
            Some(_) if self.outbound => "path, outbound",
            Some(_) if io.config.gruu => "path, gruu",
            Some(_) | None => "path",
        };
        headers.push("Supported", extensions);
        headers.push("User-Agent", io.config.user_agent.clone());
        self.auth.apply(&mut request);
        request
    }

    /// Instance and flow number behind our Contact (RFC 5626 section 4.1).
    fn contact_params(&self) -> String {
        match &self.register.instance {
            Some(instance) if self.outbound => {
                format!(";+sip.instance=\"<{instance}>\";reg-id=1")
            }
            Some(instance) => format!(";+sip.instance=\"<{instance}>\""),
            None => String::new(),
        }
    }

    /// Our Contact in a 200.
    fn own_contact(&self, response: &Response) -> Option<NameAddr> {
        let user = escape_user(&self.register.contact_user);
        let ours = |contact: &NameAddr| {
            SipUri::parse(&contact.uri)
                .and_then(|uri| uri.user)
                .as_ref()
                == Some(&user)
        };
        response
            .headers
            .get_all("Contact")
            .filter_map(NameAddr::parse)
            .find(ours)
    }

    /// The lifetime that a 200 gives our Contact (RFC 3261 section 10.2.4).
    fn granted(&self, response: &Response) -> Duration {
        let contact = self.own_contact(response);
        let param = contact
            .as_ref()
            .and_then(|contact| contact.param("expires"));
        let seconds = param
            .or_else(|| response.headers.get("Expires"))
            .and_then(|text| text.trim().parse().ok());
        seconds.map_or(self.expires, |seconds: u32| {
            Duration::from_secs(seconds.into())
        })
    }
}

impl Stack {
    /// Makes a binding and keeps it; the outcome comes as an event.
    pub fn register(&mut self, now: Instant, register: Register) -> RegistrationHandle {
        let handle = RegistrationHandle(self.io.number());
        let registration = Registration {
            call_id: self.io.random.token(24),
            local_tag: self.io.random.token(16),
            cseq: 0,
            auth: Auth::new(Some(register.credentials.clone())),
            expires: register.expires.max(Duration::from_secs(1)),
            register,
            bound_until: None,
            failures: 0,
            lengthened: false,
            outbound: true,
            hop: None,
            request: Under::Nothing,
            timer: None,
        };
        let usable = |uri: &str| {
            SipUri::parse(uri).is_some_and(|uri| uri.scheme == "sip" && !uri.host.is_empty())
        };
        let fits = usable(&registration.register.aor) && usable(&registration.register.registrar);
        self.registrations.insert(handle, registration);
        if fits {
            self.send_register(now, handle);
        } else {
            self.end_registration(handle, 400, "Not A Usable SIP URI");
        }
        handle
    }

    /// Removes a binding.
    pub fn unregister(&mut self, now: Instant, registration: RegistrationHandle) {
        let Some(known) = self.registrations.get_mut(&registration) else {
            return;
        };
        match known.request {
            Under::Nothing => self.send_removal(now, registration),
            Under::Register => known.request = Under::RegisterThenRemove,
            Under::RegisterThenRemove | Under::Remove => {}
        }
    }

    pub(super) fn register_final(
        &mut self,
        now: Instant,
        registration: RegistrationHandle,
        response: &Response,
    ) {
        let Some(known) = self.registrations.get_mut(&registration) else {
            return;
        };
        let status = response.status;
        match (known.request, status) {
            (Under::Remove, _) => self.unregistered(registration),
            (Under::RegisterThenRemove, 200..300) => self.send_removal(now, registration),
            (Under::RegisterThenRemove, _) => self.unregistered(registration),
            (_, 200..300) => {
                let granted = known.granted(response);
                if granted.is_zero() {
                    return self.end_registration(registration, 500, "Registrar Granted No Time");
                }
                known.request = Under::Nothing;
                known.failures = 0;
                known.lengthened = false;
                known.bound_until = Some(now + granted);
                let binding = known.binding(response, self.io.config.gruu);
                let gruu = binding.gruu.clone();
                let user = known.register.contact_user.clone();
                self.bindings.insert(user, binding);
                let spread = 780 + self.io.random.u32() % 100;
                let refresh = now + granted * spread / 1000;
                known.timer = Some(
                    self.io
                        .timers
                        .set(refresh, Deadline::Registration(registration)),
                );
                self.io.event(Event::Registered {
                    registration,
                    expires: granted,
                    gruu,
                });
            }
            (_, 423) => self.lengthen(now, registration, response),
            // RFC 5626 section 11.6: some proxy on the way cannot keep a flow.
            (_, 439) if known.outbound && known.register.instance.is_some() => {
                known.outbound = false;
                self.send_register(now, registration);
            }
            _ => self.register_failed(now, registration, status, &response.reason),
        }
    }

    /// No success. A binding that stands is worth more tries if the registrar was only away.
    pub(super) fn register_failed(
        &mut self,
        now: Instant,
        registration: RegistrationHandle,
        status: u16,
        reason: &str,
    ) {
        let Some(known) = self.registrations.get_mut(&registration) else {
            return;
        };
        if matches!(known.request, Under::Remove | Under::RegisterThenRemove) {
            return self.unregistered(registration);
        }
        let away = matches!(status, 408 | 480 | 500..600);
        let retry = now + RETRY * (1 << known.failures.min(3));
        match known.bound_until {
            Some(until) if away && retry < until => {
                known.failures += 1;
                known.request = Under::Nothing;
                known.timer = Some(
                    self.io
                        .timers
                        .set(retry, Deadline::Registration(registration)),
                );
            }
            _ => self.end_registration(registration, status, reason),
        }
    }

    pub(super) fn registration_timeout(&mut self, now: Instant, registration: RegistrationHandle) {
        if self
            .registrations
            .get(&registration)
            .is_some_and(|known| known.request == Under::Nothing)
        {
            self.send_register(now, registration);
        }
    }

    fn lengthen(&mut self, now: Instant, registration: RegistrationHandle, response: &Response) {
        let Some(known) = self.registrations.get_mut(&registration) else {
            return;
        };
        let wanted = response
            .headers
            .get("Min-Expires")
            .and_then(|text| text.trim().parse::<u64>().ok());
        match wanted.filter(|seconds| *seconds <= MAX_MIN_EXPIRES && !known.lengthened) {
            Some(seconds) => {
                known.lengthened = true;
                known.expires = Duration::from_secs(seconds);
                self.send_register(now, registration);
            }
            None => self.end_registration(registration, 423, &response.reason),
        }
    }

    fn send_register(&mut self, now: Instant, registration: RegistrationHandle) {
        let Some(known) = self.registrations.get_mut(&registration) else {
            return;
        };
        known.request = Under::Register;
        let request = known.next_request(known.expires, &self.io);
        self.send_for(now, registration, request);
    }

    fn send_removal(&mut self, now: Instant, registration: RegistrationHandle) {
        let Some(known) = self.registrations.get_mut(&registration) else {
            return;
        };
        known.request = Under::Remove;
        let request = known.next_request(Duration::ZERO, &self.io);
        self.send_for(now, registration, request);
    }

    fn send_for(&mut self, now: Instant, registration: RegistrationHandle, request: Request) {
        let Some(known) = self.registrations.get_mut(&registration) else {
            return;
        };
        self.io.timers.cancel(&mut known.timer);
        let contact_user = known.register.contact_user.clone();
        let params = known.contact_params();
        let owner = Owner::Register(registration);
        let outgoing = Outgoing::new(owner, request, Some(&contact_user), false);
        let outgoing = outgoing.by(Arc::clone(&known.register.proxies));
        self.send(now, outgoing.with_contact_params(params));
    }

    /// The way that a user's registrar wants its requests to take (RFC 3608 section 6.2).
    pub(super) fn add_service_route(
        &self,
        contact_user: &str,
        proxies: &Proxies,
        headers: &mut Headers,
    ) {
        let binding = self.bindings.get(contact_user);
        // Of no use to requests that take another way.
        let binding = binding.filter(|binding| binding.proxies == *proxies);
        for route in binding.iter().flat_map(|binding| &binding.service_route) {
            headers.push("Route", route.as_str());
        }
    }

    /// Remembers where a binding was made.
    pub(super) fn registered_at(
        &mut self,
        now: Instant,
        registration: RegistrationHandle,
        hop: Hop,
    ) {
        if let Some(known) = self.registrations.get_mut(&registration) {
            known.hop = Some(hop);
            self.keep_open(now, hop);
        }
    }

    /// Whether a binding was made there.
    pub(super) fn is_registered_at(&self, hop: Hop) -> bool {
        let mut registrations = self.registrations.values();
        registrations.any(|known| known.hop == Some(hop))
    }

    /// The server by which calls would come is gone, or the connection to it: the bindings there are made anew, elsewhere if there
    /// is another one, and not all at the same moment (RFC 5626 section 4.5).
    pub(super) fn flow_lost(&mut self, now: Instant, hop: Hop) {
        let behind =
            |known: &&mut Registration| known.request == Under::Nothing && known.hop == Some(hop);
        for (handle, known) in &mut self.registrations {
            if !behind(&known) {
                continue;
            }
            self.io.timers.cancel(&mut known.timer);
            let wait = Duration::from_millis(u64::from(self.io.random.u32() % 2000));
            let deadline = Deadline::Registration(*handle);
            known.timer = Some(self.io.timers.set(now + wait, deadline));
        }
    }

    fn unregistered(&mut self, registration: RegistrationHandle) {
        self.forget_registration(registration);
        self.io.event(Event::Unregistered { registration });
    }

    fn end_registration(&mut self, registration: RegistrationHandle, status: u16, reason: &str) {
        self.forget_registration(registration);
        self.io.event(Event::RegistrationFailed {
            registration,
            status,
            reason: reason.to_owned(),
        });
    }

    fn forget_registration(&mut self, registration: RegistrationHandle) {
        if let Some(mut known) = self.registrations.remove(&registration) {
            self.io.timers.cancel(&mut known.timer);
            self.bindings.remove(&known.register.contact_user);
        }
    }
}
