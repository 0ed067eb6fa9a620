//! Request methods; unknown ones keep their name, so that they can be answered 501.

use std::fmt;

/// A request method (case-sensitive, RFC 3261 section 7.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Method {
    /// Starts or changes a session.
    Invite,
    /// Confirms a final response to INVITE.
    Ack,
    /// Ends a session.
    Bye,
    /// Takes a request back.
    Cancel,
    /// Asks for abilities; a ping.
    Options,
    /// Binds a Contact to an address of record.
    Register,
    /// Confirms a reliable provisional response (RFC 3262).
    Prack,
    /// Changes a session without touching its dialog (RFC 3311).
    Update,
    /// Carries data of an application inside a dialog (RFC 6086).
    Info,
    /// Reports the state of a subscription (RFC 6665).
    Notify,
    /// Subscribes (RFC 6665).
    Subscribe,
    /// Asks the other side to call somebody (RFC 3515).
    Refer,
    /// An instant message (RFC 3428).
    Message,
    /// Anything else, by name.
    Other(String),
}

impl Method {
    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
            Self::Prack => "PRACK",
            Self::Update => "UPDATE",
            Self::Info => "INFO",
            Self::Notify => "NOTIFY",
            Self::Subscribe => "SUBSCRIBE",
            Self::Refer => "REFER",
            Self::Message => "MESSAGE",
            Self::Other(name) => name,
        }
    }

    /// Whether the method is one of the registered ones: 405 where it is not served, instead of 501.
    pub fn is_known(&self) -> bool {
        match self {
            Self::Other(name) => name == "PUBLISH",
            _ => true,
        }
    }
}

impl From<&str> for Method {
    fn from(name: &str) -> Self {
        match name {
            "INVITE" => Self::Invite,
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "OPTIONS" => Self::Options,
            "REGISTER" => Self::Register,
            "PRACK" => Self::Prack,
            "UPDATE" => Self::Update,
            "INFO" => Self::Info,
            "NOTIFY" => Self::Notify,
            "SUBSCRIBE" => Self::Subscribe,
            "REFER" => Self::Refer,
            "MESSAGE" => Self::Message,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
