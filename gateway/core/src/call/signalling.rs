//! What the SIP stack reports of a call, handed to the state that it concerns.

use super::offerless::Made;
use super::{By, Call, State};
use crate::api::{self, Header};
use crate::gateway::Hub;
use crate::sip::{CallHandle, Cause, Event};
use std::time::Instant;

impl Call {
    /// An event of this call's dialog.
    pub(crate) fn handle_sip(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        handle: CallHandle,
        event: Event,
    ) {
        let Some(event) = self.handle_moving(hub, now, handle, event) else {
            return;
        };
        match event {
            Event::Provisional { status, sdp, .. } => {
                self.handle_provisional(hub, now, status, sdp.as_deref());
            }
            Event::Answered { fork, sdp, .. } => {
                self.handle_answered(hub, now, fork, sdp.as_deref());
            }
            Event::Challenged { challenges, .. } => {
                let challenges = challenges.into_iter().map(Header::from).collect();
                self.tell(hub, |call| api::Event::Challenged { call, challenges });
            }
            Event::Rejected {
                status,
                reason,
                causes,
                ..
            } => {
                self.note_causes(causes);
                self.handle_rejected(hub, now, status, &reason);
            }
            Event::Cancelled { causes, .. } => {
                self.note_causes(causes);
                self.end(hub, now, By::Sip, Some(487), "the caller gave up");
            }
            Event::Ended {
                by_peer,
                reason,
                causes,
                ..
            } => {
                self.note_causes(causes);
                let by = if by_peer { By::Sip } else { By::Gateway };
                self.end_dialog(hub, now, by, &reason);
            }
            Event::Reinvite { sdp, .. } => self.handle_reinvite(hub, now, sdp.as_deref()),
            Event::Confirmed { sdp, .. } => self.handle_ack(hub, now, sdp.as_deref()),
            Event::Offered {
                fork, early, sdp, ..
            } => self.handle_offered(hub, now, Made { fork, early, sdp }),
            Event::Info { .. }
            | Event::Control { .. }
            | Event::RequestAnswered { .. }
            | Event::Transfer { .. } => self.handle_data(hub, now, event),
            Event::ReinviteAnswered { sdp, .. } => {
                self.handle_reinvite_answered(hub, now, sdp.as_deref());
            }
            Event::ReinviteFailed { status, .. } => {
                self.handle_reinvite_failed(hub, now, status);
            }
            // The others are of no call.
            Event::EarlyAnswer { .. }
            | Event::Incoming { .. }
            | Event::Refer { .. }
            | Event::Message { .. }
            | Event::MessageAnswered { .. }
            | Event::RegisterRelayed { .. }
            | Event::MessagesWaiting { .. }
            | Event::Registered { .. }
            | Event::RegistrationFailed { .. }
            | Event::Unregistered { .. }
            | Event::Target { .. } => {}
        }
    }

    /// The ACK for our 200, which answers it where that had an offer.
    fn handle_ack(&mut self, hub: &mut Hub, now: Instant, sdp: Option<&str>) {
        match (&self.state, sdp) {
            (State::Incoming(_), sdp) => self.handle_promised(hub, now, sdp),
            // Who picked the call up had no offer.
            (State::Calling(_), sdp) => self.handle_answered(hub, now, 0, sdp),
            (_, Some(sdp)) => self.handle_confirmed(hub, now, sdp),
            (_, None) => {}
        }
    }

    fn note_causes(&mut self, causes: Vec<Cause>) {
        self.causes = causes.into_iter().map(Cause::into).collect();
    }
}
