//! What the stack says to its caller: bytes to send, names to resolve and the events of calls and registrations.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::config::{ConnectionId, Peer, Proxies, Transport};
use super::message::Method;
use super::reason::Cause;

/// A call leg: one INVITE of ours or of a peer, and the dialog that it became.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallHandle(pub(super) u64);

/// A binding at a registrar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistrationHandle(pub(super) u64);

/// A message of ours outside of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageHandle(pub(super) u64);

/// A REGISTER that is passed on for a user agent behind us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayHandle(pub(super) u64);

/// A server whose targets are asked for signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchHandle(pub(super) u64);

/// A request of a peer that waits for `answer_request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestHandle(pub(super) u64);

/// A name resolution that the shell was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryId(pub(super) u64);

/// User name and password for digest challenges.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user name of the Authorization header.
    pub user: String,
    /// The password; never printed.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A call to place.
#[derive(Debug, Clone, Default)]
pub struct Invite {
    /// Whom to call: a `sip:` URI.
    pub to: String,
    /// Who calls: a `sip:` URI.
    pub from: String,
    /// The name beside `from`.
    pub display_name: Option<String>,
    /// User part of our Contact; the user part of `from` if absent.
    pub contact_user: Option<String>,
    /// For 401 and 407 on the INVITE and on later requests of the dialog.
    pub credentials: Option<Credentials>,
    /// Authorization and Proxy-Authorization of a caller who answers challenges by itself, instead of `credentials`.
    pub authorization: Vec<(String, String)>,
    /// The offer; without one the peer makes it: `Offered`, to be answered by `answer_offer`.
    pub sdp: Option<String>,
    /// Nobody could answer an offer before the call is answered: reliable provisional responses, which may have one, are not asked for.
    pub only_final: bool,
    /// Further headers of the INVITE, by name and value.
    pub headers: Vec<(String, String)>,
    /// Where it goes.
    pub proxies: Proxies,
}

/// A binding to make and keep.
#[derive(Debug, Clone)]
pub struct Register {
    /// The address of record: a `sip:` URI, To and From of the REGISTER.
    pub aor: String,
    /// The domain's `sip:` URI, the Request-URI of the REGISTER.
    pub registrar: String,
    /// For 401 and 407.
    pub credentials: Credentials,
    /// User part of the Contact, by which incoming calls name the session.
    pub contact_user: String,
    /// The lifetime to ask for.
    pub expires: Duration,
    /// The instance (`urn:uuid:...`) for outbound (RFC 5626) and GRUU (RFC 5627); without one neither is asked for.
    pub instance: Option<String>,
    /// Where it goes.
    pub proxies: Proxies,
}

/// A REGISTER of a user agent behind us, which answers the registrar's challenges by itself: we never learn its password.
#[derive(Debug, Clone)]
pub struct RelayedRegister {
    /// The address of record: a `sip:` URI, To and From.
    pub aor: String,
    /// The Request-URI, as the user agent wrote it: its digest covers it.
    pub registrar: String,
    /// User part of our Contact, by which incoming calls name the user agent.
    pub contact_user: String,
    /// The lifetime to ask for; zero removes the binding.
    pub expires: Duration,
    /// Call-ID and CSeq number: the same and a higher one for each REGISTER of one user agent (RFC 3261 section 10.2.4).
    pub call_id: String,
    /// See `call_id`.
    pub cseq: u32,
    /// Authorization and Proxy-Authorization of the user agent.
    pub authorization: Vec<(String, String)>,
    /// Where it goes.
    pub proxies: Proxies,
}

/// A server to be asked for signs of life by OPTIONS, at each of its targets.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Where it is.
    pub proxies: Proxies,
    /// Who asks, and whom: a `sip:` URI.
    pub uri: String,
    /// How often.
    pub every: Duration,
}

/// A body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// The media type with its parameters.
    pub content_type: String,
    /// The bytes.
    pub body: Vec<u8>,
}

/// A message to send outside of calls (RFC 3428).
#[derive(Debug, Clone, Default)]
pub struct InstantMessage {
    /// To whom: a `sip:` or `sips:` URI.
    pub to: String,
    /// From whom: a `sip:` URI.
    pub from: String,
    /// The name beside `from`.
    pub display_name: Option<String>,
    /// For 401 and 407.
    pub credentials: Option<Credentials>,
    /// What is said.
    pub content: Content,
    /// Further headers, by name and value.
    pub headers: Vec<(String, String)>,
    /// Where it goes.
    pub proxies: Proxies,
}

/// A transfer to ask a peer for (RFC 3515).
#[derive(Debug, Clone, Default)]
pub struct Refer {
    /// Whom to call; may be left out with `replaces`.
    pub to: Option<String>,
    /// The answered call of ours that the new one shall take the place of: an attended transfer.
    pub replaces: Option<CallHandle>,
    /// Who asks, for Referred-By (RFC 3892).
    pub referred_by: Option<String>,
}

/// What a server wants of the phone, by NOTIFY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Answer, or take the call back from hold.
    Talk,
    /// Hold the call.
    Hold,
}

/// Messages that wait at a voice mail (RFC 3842).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MessageSummary {
    /// Whether any waits.
    pub waiting: bool,
    /// The mail box to call.
    pub account: Option<String>,
    /// New voice messages.
    pub new: u32,
    /// Old voice messages.
    pub old: u32,
}

/// Why a request could not even be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SipError {
    /// A URI that is not `sip:user@host` or the like.
    #[error("not a usable SIP URI: {0}")]
    BadUri(String),
    /// A header that the stack writes itself, or one with a line break in it.
    #[error("header not allowed: {0}")]
    BadHeader(String),
    /// [`Config::max_dialogs`](super::Config::max_dialogs) or
    /// [`Config::max_transactions`](super::Config::max_transactions) is reached.
    #[error("too many calls or transactions")]
    Busy,
    /// The call is not answered, or is ending.
    #[error("the call cannot take that now")]
    WrongState,
}

/// Bytes to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where from and where to.
    pub peer: Peer,
    /// One whole message (or the CRLF that answers a keep-alive).
    pub bytes: Vec<u8>,
}

/// A name to resolve (RFC 3263: NAPTR/SRV where port and transport leave it open, else A/AAAA), to be answered with
/// [`Stack::handle_resolved`](super::Stack::handle_resolved).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolve {
    /// To be handed back.
    pub query: QueryId,
    /// The name.
    pub host: String,
    /// The port, if it is fixed: then no SRV.
    pub port: Option<u16>,
    /// The transport, if it is fixed.
    pub transport: Option<Transport>,
}

/// One thing for the caller to do or to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send bytes.
    Transmit(Transmit),
    /// Resolve a name.
    Resolve(Resolve),
    /// Close a connection whose framing is lost; what was transmitted before goes out first.
    Close(ConnectionId),
    /// Something happened to a call or a registration.
    Event(Event),
}

/// What happened. Each call handle gets exactly one last event: `Rejected`, `Cancelled` or `Ended`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A call for one of us; 100 is sent. Answer with `provisional`, `accept`, `reject` or `hang_up`.
    Incoming {
        /// The new call.
        call: CallHandle,
        /// User part of the Request-URI: whose Contact it is.
        contact_user: String,
        /// Where the INVITE came from.
        source: IpAddr,
        /// The caller's URI.
        from_uri: String,
        /// The caller's display name.
        from_name: Option<String>,
        /// The called URI (To).
        to_uri: String,
        /// Call-ID.
        call_id: String,
        /// The offer; `None`: `accept` carries ours, and `Confirmed` brings the answer.
        sdp: Option<String>,
        /// The call of ours whose place this one takes (RFC 3891): `accept` ends that one.
        replaces: Option<CallHandle>,
        /// All headers but those of routing, dialog, body and authentication.
        headers: Vec<(String, String)>,
    },
    /// The caller gave up before our answer; 487 is sent.
    Cancelled {
        /// The call.
        call: CallHandle,
        /// Why, as it says.
        causes: Vec<Cause>,
    },
    /// 101..199 to our INVITE.
    Provisional {
        /// The call.
        call: CallHandle,
        /// 180, 183, ...
        status: u16,
        /// Which of the early dialogs: a proxy may let several phones ring.
        fork: usize,
        /// Early media, if there is any.
        sdp: Option<String>,
    },
    /// The answer to an INVITE of ours without an offer has one, or a reliable provisional response; answer with
    /// `answer_offer`. `Answered` or `ReinviteAnswered` follows.
    Offered {
        /// The call.
        call: CallHandle,
        /// Which of the early dialogs, as in `Provisional`.
        fork: usize,
        /// Whether it came in a provisional response: the callee has not picked up.
        early: bool,
        /// The offer.
        sdp: String,
    },
    /// The PRACK that answers the offer in our reliable provisional response.
    EarlyAnswer {
        /// The call.
        call: CallHandle,
        /// The answer.
        sdp: String,
    },
    /// 2xx to our INVITE; ACK is sent.
    Answered {
        /// The call.
        call: CallHandle,
        /// Which of the early dialogs it makes the call, as in `Provisional`.
        fork: usize,
        /// The answer, in the 2xx or in a reliable response before it; none where ACK or PRACK was the answer.
        sdp: Option<String>,
    },
    /// A server wants credentials for our INVITE, and we have none; `Rejected` follows.
    Challenged {
        /// The call.
        call: CallHandle,
        /// WWW-Authenticate and Proxy-Authenticate.
        challenges: Vec<(String, String)>,
    },
    /// Our INVITE failed: a final response, 408 for a time-out, 503 where nothing could be reached.
    Rejected {
        /// The call.
        call: CallHandle,
        /// Status code.
        status: u16,
        /// Reason phrase.
        reason: String,
        /// Seconds of Retry-After.
        retry_after: Option<u32>,
        /// Why, as the peer says.
        causes: Vec<Cause>,
    },
    /// The ACK for our 2xx arrived: after `accept`, and after a re-INVITE without an offer.
    Confirmed {
        /// The call.
        call: CallHandle,
        /// The answer, where our 2xx had the offer.
        sdp: Option<String>,
    },
    /// The peer wants to change the session, by re-INVITE, UPDATE or PRACK; answer with `answer_reinvite`.
    Reinvite {
        /// The call.
        call: CallHandle,
        /// The offer; `None`: we shall make one.
        sdp: Option<String>,
    },
    /// 2xx to our re-INVITE; ACK is sent.
    ReinviteAnswered {
        /// The call.
        call: CallHandle,
        /// The answer.
        sdp: Option<String>,
    },
    /// Our re-INVITE failed; the session goes on as it was.
    ReinviteFailed {
        /// The call.
        call: CallHandle,
        /// Status code.
        status: u16,
    },
    /// Data inside a call; 200 is sent.
    Info {
        /// The call.
        call: CallHandle,
        /// The data.
        content: Content,
    },
    /// The server steers the phone; 200 is sent.
    Control {
        /// The call.
        call: CallHandle,
        /// What it wants.
        control: Control,
    },
    /// The final response to `info` or `message_in_call`.
    RequestAnswered {
        /// The call.
        call: CallHandle,
        /// INFO or MESSAGE.
        method: Method,
        /// Status code.
        status: u16,
    },
    /// How the call goes that `refer` asked for.
    Transfer {
        /// The call that is transferred.
        call: CallHandle,
        /// Status of the new call, or that of the refusal; 202: accepted.
        status: u16,
        /// Reason phrase.
        reason: String,
        /// Nothing more will be told.
        over: bool,
    },
    /// The peer asks us to call somebody; answer with `answer_refer` within 64*T1.
    Refer {
        /// The call.
        call: CallHandle,
        /// Whom.
        to: String,
        /// Value of the Replaces header that the new INVITE shall have.
        replaces: Option<String>,
        /// Who asks, as the peer says.
        referred_by: Option<String>,
    },
    /// A message; answer with `answer_request`.
    Message {
        /// To be answered.
        request: RequestHandle,
        /// The call that it came in, if any.
        call: Option<CallHandle>,
        /// User part of the Request-URI: whose Contact it is.
        contact_user: String,
        /// The sender's URI.
        from_uri: String,
        /// The sender's display name.
        from_name: Option<String>,
        /// To.
        to_uri: String,
        /// What is said.
        content: Content,
    },
    /// The final response to a REGISTER that was passed on; the handle is gone.
    RegisterRelayed {
        /// Which.
        relay: RelayHandle,
        /// Status code.
        status: u16,
        /// Reason phrase.
        reason: String,
        /// With 2xx the lifetime that the registrar gave our Contact.
        expires: Duration,
        /// What the user agent has to know besides: challenges, Min-Expires, Retry-After.
        headers: Vec<(String, String)>,
    },
    /// The final response to `message`; the handle is gone.
    MessageAnswered {
        /// The message.
        message: MessageHandle,
        /// Status code.
        status: u16,
        /// Reason phrase.
        reason: String,
    },
    /// Voice mail; answer with `answer_request`.
    MessagesWaiting {
        /// To be answered.
        request: RequestHandle,
        /// User part of the Request-URI: whose Contact it is.
        contact_user: String,
        /// What waits.
        summary: MessageSummary,
    },
    /// The call is over: BYE from the peer, our BYE or CANCEL or rejection done, or the dialog died (no ACK, 481, 408).
    Ended {
        /// The call.
        call: CallHandle,
        /// Whether the peer ended it.
        by_peer: bool,
        /// One short sentence for the log.
        reason: String,
        /// Why, as the peer says.
        causes: Vec<Cause>,
    },
    /// The binding stands; comes again with each refresh.
    Registered {
        /// The registration.
        registration: RegistrationHandle,
        /// Its lifetime, as the registrar decided.
        expires: Duration,
        /// The public GRUU that the registrar gave; requests of this Contact user carry it.
        gruu: Option<String>,
    },
    /// The binding could not be made or kept; the handle is gone.
    RegistrationFailed {
        /// The registration.
        registration: RegistrationHandle,
        /// Status code; 408 time-out, 503 not reachable.
        status: u16,
        /// Reason phrase.
        reason: String,
    },
    /// `unregister` is done; the handle is gone.
    Unregistered {
        /// The registration.
        registration: RegistrationHandle,
    },
    /// A target of a watched server answers, or does not any more.
    Target {
        /// The server.
        watch: WatchHandle,
        /// How it is reached.
        transport: Transport,
        /// Its address.
        addr: SocketAddr,
        /// Whether it answers; `None`: DNS does not name it any more.
        alive: Option<bool>,
    },
}
