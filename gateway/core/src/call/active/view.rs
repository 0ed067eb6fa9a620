//! How an active call looks from outside: its view for the page, its flows for the admin side.

use super::{Active, FlowSide, Media};
use crate::api::{CallId, CallView, DirectionStatistics, FlowView, Hold};
use crate::sdp::{Direction, Kind, Medium};
use std::net::SocketAddr;
use std::time::Instant;

/// One flow's place in the list.
struct Row<'a> {
    direction: &'a str,
    action: &'a str,
    media: String,
    /// Our address and the peer's on the arriving side.
    from: (SocketAddr, SocketAddr),
    to: Vec<SocketAddr>,
    statistics: DirectionStatistics,
}

impl Active {
    /// The call's flows for the admin side.
    pub(in crate::call) fn flow_views(&self, call: &CallId, monotonic_ns: u64) -> Vec<FlowView> {
        let Media::Bridged(bridged) = &self.media else {
            return Vec::new();
        };
        let (pair, media) = (bridged.pair, &self.agreed.negotiated.media);
        let words: Vec<&str> = media.iter().map(|medium| medium.kind.word()).collect();
        let row = Row {
            direction: "to_sip",
            action: self.action("unprotect"),
            media: words.join("+"),
            from: (pair.local, pair.remote),
            to: self.remotes.iter().map(|remote| remote.rtp).collect(),
            statistics: bridged.reports.whole(&bridged.to_sip),
        };
        let mut views = Vec::from_iter(view(call, &bridged.to_sip, row, monotonic_ns));
        for (index, side) in bridged.to_browser.iter().enumerate() {
            let row = Row {
                direction: "to_browser",
                action: self.action("protect"),
                media: words[index].to_owned(),
                from: (self.agreed.ports[index].rtp, self.remotes[index].rtp),
                to: vec![pair.remote],
                statistics: bridged.reports.to_browser(index, side),
            };
            views.extend(view(call, side, row, monotonic_ns));
        }
        views
    }

    /// What a flow does, if the SIP side is plain.
    fn action<'a>(&self, plain: &'a str) -> &'a str {
        if self.remotes[0].srtp.is_some() {
            "transcrypt"
        } else {
            plain
        }
    }

    /// Completes a view of the call.
    pub(in crate::call) fn fill(&self, now: Instant, mut view: CallView) -> CallView {
        view.codec = Some(self.codec());
        view.video = self.video_codec();
        let srtp = self.remotes[0].srtp.as_ref();
        view.sip_suite = srtp.map(|srtp| srtp.suite().name().into());
        if let Media::Bridged(bridged) = &self.media {
            view.suite = Some(bridged.secured.suite.name().into());
            view.dtls = Some(
                bridged
                    .secured
                    .tls_version
                    .trim_start_matches("DTLS ")
                    .into(),
            );
            view.to_sip = bridged.to_sip.path.clone();
            view.to_browser = bridged.to_browser[0].path.clone();
            view.duration_s = now.saturating_duration_since(bridged.since).as_secs_f64();
            view.statistics = bridged
                .reports
                .statistics(&bridged.to_sip, &bridged.to_browser);
        }
        view
    }

    /// Who holds the call, if anybody does.
    pub(in crate::call) fn hold(&self) -> Option<Hold> {
        let audio = self.agreed.web.medium(Kind::Audio);
        let page = audio.is_some_and(|audio| {
            matches!(audio.direction, Direction::SendOnly | Direction::Inactive)
        });
        match (page, self.remotes[0].held()) {
            (true, true) => Some(Hold::Both),
            (true, false) => Some(Hold::Page),
            (false, true) => Some(Hold::Sip),
            (false, false) => None,
        }
    }

    /// The voice codec with its clock.
    pub(super) fn codec(&self) -> String {
        self.agreed.negotiated.audio().codec.to_string()
    }

    /// The video codec likewise.
    pub(super) fn video_codec(&self) -> Option<String> {
        let video: Option<&Medium> = self.agreed.negotiated.video();
        video.map(|medium| medium.codec.to_string())
    }
}

fn view(call: &CallId, side: &FlowSide, row: Row<'_>, monotonic_ns: u64) -> Option<FlowView> {
    let path = side.path.clone()?;
    let seen = side.snapshot.last_seen_ns;
    let egress: Vec<String> = row.to.iter().map(ToString::to_string).collect();
    Some(FlowView {
        call: call.clone(),
        direction: row.direction.to_owned(),
        local: row.from.0.to_string(),
        remote: row.from.1.to_string(),
        media: row.media,
        egress: egress.join(" "),
        action: row.action.to_owned(),
        path,
        statistics: row.statistics,
        idle_ms: (seen > 0).then(|| monotonic_ns.saturating_sub(seen) / 1_000_000),
    })
}
