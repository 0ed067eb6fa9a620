//! INFO (RFC 6086 and what was usual before it), and the NOTIFYs by which a server steers a phone: talk and hold.

use std::time::Instant;

use super::event::{CallHandle, Content, Control, Event};
use super::message::{Headers, Request, media_type};
use super::stack::Stack;
use super::transaction::TransactionId;

/// The event packages that NOTIFY may name.
pub(super) const PACKAGES: &str = "refer, talk, hold, message-summary";

impl Stack {
    /// The peer's INFO: taken if its body is of a configured type.
    pub(super) fn handle_info(
        &mut self,
        now: Instant,
        id: TransactionId,
        call: CallHandle,
        request: &Request,
    ) {
        if request.headers.get("Info-Package").is_some() {
            return self.respond(now, id, 469, &[("Recv-Info", "")]);
        }
        if request.body.is_empty() {
            return self.respond(now, id, 200, &[]);
        }
        let kind = media_type(&request.headers);
        let taken = self.io.config.info_types.iter();
        if !taken.clone().any(|taken| taken.eq_ignore_ascii_case(&kind)) {
            let accept = taken.map(String::as_str).collect::<Vec<_>>().join(", ");
            return self.respond(now, id, 415, &[("Accept", &accept)]);
        }
        self.respond(now, id, 200, &[]);
        self.io.event(Event::Info {
            call,
            content: content(request),
        });
    }

    /// A NOTIFY inside a dialog.
    pub(super) fn handle_notify(
        &mut self,
        now: Instant,
        id: TransactionId,
        call: CallHandle,
        request: &Request,
    ) {
        let control = match package(&request.headers).as_str() {
            "refer" => return self.handle_refer_notify(now, id, call, request),
            "talk" => Control::Talk,
            "hold" => Control::Hold,
            _ => return self.respond(now, id, 489, &[("Allow-Events", PACKAGES)]),
        };
        self.respond(now, id, 200, &[]);
        self.io.event(Event::Control { call, control });
    }
}

/// The event package in lower case; empty if there is none.
pub(super) fn package(headers: &Headers) -> String {
    let value = headers.get("Event").unwrap_or_default();
    let package = value.split(';').next().unwrap_or_default();
    package.trim().to_ascii_lowercase()
}

/// The body with its whole Content-Type.
pub(super) fn content(request: &Request) -> Content {
    let content_type = request.headers.get("Content-Type").unwrap_or_default();
    Content {
        content_type: content_type.to_owned(),
        body: request.body.clone(),
    }
}
