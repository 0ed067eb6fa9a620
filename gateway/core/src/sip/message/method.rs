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
    /// Anything else, by name.
    Other(String),
}

/// Methods that are registered but not supported here: 405 instead of 501.
const KNOWN: [&str; 8] = [
    "INFO",
    "MESSAGE",
    "NOTIFY",
    "PRACK",
    "PUBLISH",
    "REFER",
    "SUBSCRIBE",
    "UPDATE",
];

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
            Self::Other(name) => name,
        }
    }

    /// Whether the method is one of the registered ones.
    pub fn is_known(&self) -> bool {
        match self {
            Self::Other(name) => KNOWN.contains(&name.as_str()),
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
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
