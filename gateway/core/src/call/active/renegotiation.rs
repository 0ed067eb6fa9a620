//! New descriptions within a call: re-INVITE of the SIP side, new offers and candidates of the page.

use super::*;

impl Call {
    /// The SIP side changes the session: hold, resume, new address (RFC 3264 section 8).
    pub(crate) fn handle_reinvite(&mut self, hub: &mut Hub, now: Instant, sdp: Option<&str>) {
        let takes_offers = self.takes_offers;
        let State::Active(active) = &mut self.state else {
            return;
        };
        if takes_offers && active.ask_page_for_video(hub, &self.id, sdp) {
            return;
        }
        let sip = active.agreed.sip;
        let was_held = active.remotes[0].held();
        match active.reanswer(hub, now, &self.id, sdp) {
            Ok(description) => {
                hub.stack.answer_reinvite(now, sip, Ok(description));
                let held = active.remotes[0].held();
                if held != was_held {
                    self.tell(hub, |call| Event::Held { call, held });
                }
            }
            Err(error) => {
                tracing::debug!(%error, "re-INVITE refused");
                hub.stack.answer_reinvite(now, sip, Err(error.status()));
            }
        }
    }

    /// The ACK answers the offer that our 200 to an empty re-INVITE made (RFC 3261 section 14.2).
    pub(crate) fn handle_confirmed(&mut self, hub: &mut Hub, now: Instant, sdp: &str) {
        let State::Active(active) = &mut self.state else {
            return;
        };
        let was_held = active.remotes[0].held();
        if let Err(error) = active.answered(hub, now, &self.id, Some(sdp)) {
            self.end(hub, now, By::Gateway, Some(488), &error.to_string());
            return;
        }
        let held = active.remotes[0].held();
        if held != was_held {
            self.tell(hub, |call| Event::Held { call, held });
        }
    }

    /// The page renegotiates: an ICE restart when the credentials are new (RFC 8445 section 9), another connection where the
    /// fingerprint is, hold, video on or off. What the SIP side has to know is told it by a re-INVITE; only added video waits for its
    /// answer. On a call that came without an offer it is the one that the SIP side gets.
    pub(crate) fn handle_offer(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        request: RequestId,
        offer: &str,
    ) {
        if self.wants_offer() {
            let taken = self.promise_own(hub, now, offer).map(|()| Reply::Done);
            return hub.reply(request, taken);
        }
        match self.renegotiate(hub, now, request, offer) {
            Ok(Some(answer)) => hub.reply(request, Ok(Reply::Answered(Answered { answer }))),
            Ok(None) => {}
            Err(problem) => hub.reply(request, Err(problem)),
        }
    }

    /// The answer, unless the SIP side is asked first.
    fn renegotiate(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        request: RequestId,
        offer: &str,
    ) -> Result<Option<String>, Problem> {
        let wrong = self.wrong_state("only a call with media can be renegotiated");
        let busy = self.wrong_state("the last change has not been answered yet");
        let State::Active(active) = &mut self.state else {
            return Err(wrong);
        };
        if active.adding.is_some() || active.asking.is_some() {
            return Err(busy);
        }
        let bad = |error: SdpError| {
            Problem::new(400, "bad-sdp", "Bad session description", error.to_string())
        };
        let web = WebSession::parse(offer).map_err(bad)?;
        let negotiated = active
            .agreed
            .negotiated
            .reoffered_by_web(&web.described())
            .map_err(bad)?;
        if web.fingerprints == active.agreed.web.fingerprints {
            active.follow_ice(hub, now, &self.id, &web);
        } else {
            active.begin_anew(hub, now, &self.id, &web);
        }
        let (before, told) = (active.shape(), active.agreed.ringing_until.is_none());
        active.agreed.negotiated = negotiated;
        active.agreed.web = web;
        active.fit(hub, &self.id);
        active.install(hub);
        let answer = if active.ask_for_video(hub, &self.id, request) {
            None
        } else {
            if told && active.shape() != before {
                active.tell_sip(hub, now, None);
            }
            Some(active.answer_page(hub))
        };
        self.pump(hub, now);
        Ok(answer)
    }

    pub(crate) fn handle_candidates(&mut self, hub: &mut Hub, now: Instant, candidates: &[String]) {
        // The gateway is ICE-lite: it answers checks and needs no candidates of the page before.
        let Some((leg, _)) = self.state.leg() else {
            return;
        };
        for candidate in candidates {
            leg.add_candidate(now, candidate);
        }
        self.pump(hub, now);
    }
}
