//! A browser session: who is signed in, its registration at the SIP server, its calls.
//!
//! Owned by [`crate::gateway::Gateway`]; ends by sign-out, by silence of the page, or when the gateway stops.

use crate::api::{CallId, CreateSession, Problem, SessionId};
use crate::gateway::RequestId;
use crate::sip::{Credentials, RegistrationHandle};
use std::collections::HashSet;
use std::time::Instant;

/// A signed-in page.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    /// Own SIP address, `sip:alice@example.org`.
    pub(crate) address: String,
    pub(crate) display_name: Option<String>,
    /// Present for SIP users: answers challenges of the SIP server.
    pub(crate) credentials: Option<Credentials>,
    pub(crate) standing: Standing,
    pub(crate) calls: HashSet<CallId>,
    /// When the page was last heard of.
    pub(crate) alive: Instant,
}

/// Where a session stands with the SIP server.
pub(crate) enum Standing {
    /// No registration: a guest, or a user whose registration was lost.
    Unregistered,
    /// REGISTER is out; the page waits for its reply with the token.
    Registering {
        request: RequestId,
        registration: RegistrationHandle,
        token: String,
    },
    /// Registered, refreshed by the stack.
    Registered(RegistrationHandle),
}

impl Session {
    /// The registration behind the session, in whatever state.
    pub(crate) fn registration(&self) -> Option<RegistrationHandle> {
        match &self.standing {
            Standing::Unregistered => None,
            Standing::Registering { registration, .. } => Some(*registration),
            Standing::Registered(registration) => Some(*registration),
        }
    }
}

/// Who signs in, checked.
pub(crate) struct Identity {
    pub(crate) address: String,
    pub(crate) display_name: Option<String>,
    pub(crate) credentials: Option<Credentials>,
}

impl Identity {
    /// Reads a sign-in request; `guest_user` names a guest.
    pub(crate) fn parse(
        body: CreateSession,
        domain: &str,
        guests: bool,
        guest_user: &str,
    ) -> Result<Self, Problem> {
        let display_name = body.display_name.or_else(|| match body.password {
            Some(_) => None,
            None => body.user.clone(),
        });
        if display_name
            .as_deref()
            .is_some_and(|name| name.len() > 64 || name.chars().any(char::is_control))
        {
            return Err(Problem::new(
                400,
                "bad-name",
                "Bad name",
                "the name has over 64 bytes or control characters",
            ));
        }
        let Some(password) = body.password else {
            if !guests {
                return Err(Problem::new(
                    403,
                    "guests-not-allowed",
                    "Guests are not allowed",
                    "sign in with a SIP user and password",
                ));
            }
            let address = format!("sip:{guest_user}@{domain}");
            return Ok(Self {
                address,
                display_name,
                credentials: None,
            });
        };
        let Some(user) = body.user else {
            return Err(Problem::new(
                400,
                "no-user",
                "No user",
                "a password needs a user",
            ));
        };
        let address = sip_address(&user, domain)?;
        let user_part = address["sip:".len()..]
            .split('@')
            .next()
            .unwrap_or_default()
            .to_owned();
        let credentials = Some(Credentials {
            user: user_part,
            password,
        });
        Ok(Self {
            address,
            display_name,
            credentials,
        })
    }
}

/// Completes what a person typed (`echo`, `echo@host`, `sip:echo@host`) to a SIP URI.
pub(crate) fn sip_address(typed: &str, domain: &str) -> Result<String, Problem> {
    let bad = |detail: &str| Problem::new(400, "bad-address", "Bad SIP address", detail);
    let typed = typed.trim();
    if typed.is_empty() || typed.len() > 256 {
        return Err(bad("an address has 1 to 256 bytes"));
    }
    if typed
        .bytes()
        .any(|byte| !byte.is_ascii_graphic() || b"<>\"{}|\\^`".contains(&byte))
    {
        return Err(bad(
            "an address has only printable ASCII without spaces and angle brackets",
        ));
    }
    if typed.starts_with("sips:") || typed.starts_with("tel:") {
        return Err(bad("only sip: addresses can be called"));
    }
    let rest = typed.strip_prefix("sip:").unwrap_or(typed);
    let (user, host) = rest.split_once('@').unwrap_or((rest, domain));
    if user.is_empty() || host.is_empty() || host.contains('@') {
        return Err(bad("user or host is missing"));
    }
    Ok(format!("sip:{user}@{host}"))
}
