//! An INVITE with Replaces (RFC 3891) takes the place of this call's other party, whether that one talks or rings: the page keeps its call.
//!
//! - Who talks, or is heard before it answers: the newcomer's offer is answered as if it were a change of the old party's.
//! - Who only rings (somebody else picks the call up): the newcomer's offer is what the page's offer waited for. One without an offer gets
//!   ours again in the 200, and the ACK answers it.
//! - Who rings because the SIP side transfers the call: as the first, and who asked for the transfer is told that it is done.
//!
//! The stack refuses the place of a caller whom the page has not answered, and ends what was replaced by BYE or CANCEL once the newcomer
//! is accepted. What cannot be accepted leaves everything as it was (section 3).

use super::*;

/// Who asks for another's place.
pub(crate) struct Newcomer {
    pub(crate) sip: sip::CallHandle,
    /// Whose place.
    pub(crate) replaces: sip::CallHandle,
    pub(crate) peer: String,
    pub(crate) name: Option<String>,
    pub(crate) sdp: Option<String>,
}

impl Call {
    /// See the module.
    pub(crate) fn replaced(&mut self, hub: &mut Hub, now: Instant, newcomer: Newcomer) {
        match &self.state {
            State::Calling(calling) if calling.sip == newcomer.replaces => {
                self.picked_up(hub, now, newcomer);
            }
            State::Active(active) if active.may_replace(newcomer.replaces) => {
                self.place_taken(hub, now, newcomer);
            }
            State::Opening(_)
            | State::Calling(_)
            | State::Offerless(_)
            | State::Incoming(_)
            | State::Active(_)
            | State::Ended => {
                let reason = "Another change is under way";
                hub.stack.reject(now, newcomer.sip, 486, reason);
            }
        }
    }

    fn place_taken(&mut self, hub: &mut Hub, now: Instant, newcomer: Newcomer) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let was_held = active.remotes[0].held();
        let answer = match active.reanswer(hub, now, &self.id, newcomer.sdp.as_deref()) {
            Ok(answer) => answer,
            Err(error) => {
                let (status, reason) = (error.status(), error.to_string());
                return hub.stack.reject(now, newcomer.sip, status, &reason);
            }
        };
        let rang = active.agreed.ringing_until.take().is_some();
        let old = std::mem::replace(&mut active.agreed.sip, newcomer.sip);
        // What the old party asked for ends with it, unless this is what it asked for.
        let moving = active.moving.take();
        hub.routes.sip.remove(&old);
        hub.routes.sip.insert(newcomer.sip, self.id.clone());
        hub.stack.accept(now, newcomer.sip, answer);
        if let Some(Moving::Calling(calling)) = moving {
            hub.routes.sip.remove(&calling.sip);
            hub.stack.refer_progress(now, old, 200, "OK");
            hub.stack.retire(now, old);
        }
        self.peer = newcomer.peer;
        if rang {
            self.tell(hub, |call| Event::Answered { call });
        }
        self.tell_party(hub, was_held, newcomer.name);
    }
}

impl Active {
    /// Whether that call's place can be taken: while a transfer rings its new party's, else the other party's. While the SIP side has an
    /// offer of ours to answer, nobody's.
    fn may_replace(&self, replaces: sip::CallHandle) -> bool {
        let place = match &self.moving {
            Some(Moving::Calling(calling)) => calling.sip,
            Some(Moving::Asked { .. }) | None => self.agreed.sip,
        };
        place == replaces && self.adding.is_none() && self.asking.is_none()
    }
}
