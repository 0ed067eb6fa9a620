//! The page's media path begins anew within the call: a page that was loaded again, or took another PeerConnection, offers with another
//! certificate. The SIP side is told nothing; to it, the voice goes on from the same address with another SSRC.

use super::*;

impl Active {
    /// Leaves the browser leg as it was and waits for the new one. Nothing that is sent from now on has an SSRC that was used
    /// before: under the SIP side's keys, which stay, its packets would be counted from zero again (RFC 3711 section 9.1).
    pub(super) fn begin_anew(
        &mut self,
        hub: &mut Hub,
        now: Instant,
        call: &CallId,
        web: &WebSession,
    ) {
        self.unbridge(hub, call);
        self.away = None;
        self.agreed.local.renew(hub);
        let ice = &self.agreed.local.ice;
        self.role = role_towards(web.setup);
        self.leg = hub.new_leg(now, ice, self.role);
        self.leg.set_remote(now, &web.ice, &web.fingerprints);
        hub.routes.ufrag.insert(ice.ufrag.clone(), call.clone());
    }
}
