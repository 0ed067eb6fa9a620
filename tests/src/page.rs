//! The agent desk as its user works it: fields, buttons, and what the page itself knows of the call.

use crate::browser::{Browser, Tab};
use crate::wait;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// The agent desk in a tab.
pub struct DemoPage<'a> {
    tab: Tab<'a>,
}

/// `getStats` of the current call, and the gateway's word on its paths.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    /// RTP packets sent.
    pub sent: u64,
    /// RTP packets received.
    pub received: u64,
    /// RTP packets lost on the way here.
    pub lost: i64,
    /// Energy of the audio received.
    pub audio_energy: f64,
    /// SRTP suite by Chromium's own word.
    pub suite: String,
    /// DTLS version by Chromium's own word: `1.2` or `1.3`.
    pub dtls: String,
    /// Codec by Chromium's own word: `audio/PCMU`.
    pub codec: String,
    /// State of the peer connection.
    pub connection: String,
    /// Of the video, where the call has any.
    pub video: Option<VideoStatistics>,
}

/// `getStats` of the video.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VideoStatistics {
    /// The gateway's word: `VP8/90000`.
    pub codec: String,
    /// RTP packets sent.
    pub sent: u64,
    /// RTP packets received.
    pub received: u64,
    /// Pictures shown.
    pub frames_decoded: u64,
}

/// Requests to API v1 that the page made by HTTP: a WebSocket is none.
pub const API_REQUESTS: &str = "performance.getEntriesByType('resource').map(({ name }) => name).filter((name) => name.includes('/api/'))";

const STATISTICS: &str = "(async () => {
    const report = [...(await window.causeway.call.peer.getStats()).values()];
    const find = (type) => report.find((entry) => entry.type === type && entry.kind !== 'video') || {};
    const received = find('inbound-rtp');
    const codec = report.find((entry) => entry.id === received.codecId) || {};
    const versions = { FEFD: '1.2', FEFC: '1.3' };
    return {
        sent: find('outbound-rtp').packetsSent ?? 0,
        received: received.packetsReceived ?? 0,
        lost: received.packetsLost ?? 0,
        audioEnergy: received.totalAudioEnergy ?? 0,
        suite: find('transport').srtpCipher ?? '',
        dtls: versions[find('transport').tlsVersion] ?? '',
        codec: codec.mimeType ?? '',
        connection: window.causeway.call.peer.connectionState,
        video: (await window.causeway.call.statistics()).video,
    };
})()";

impl<'a> DemoPage<'a> {
    /// Opens the page.
    pub fn open(browser: &'a Browser, url: &str) -> Self {
        Self::within(browser.open(url))
    }

    /// The page that is open in a tab.
    pub fn within(tab: Tab<'a>) -> Self {
        tab.wait_for("window.causeway", Duration::from_secs(20));
        Self { tab }
    }

    /// Signs in; without a password as a guest.
    pub fn sign_in(&self, user: &str, password: &str) {
        self.fill("user", user);
        self.fill("password", password);
        self.tab
            .evaluate("document.getElementById('sign-in').requestSubmit()");
        let what = format!("{user} signs in");
        wait::until(&what, Duration::from_secs(20), || {
            let refused = self.text("sign-in-error");
            assert!(refused.is_empty(), "{what}: {refused}");
            self.holds("window.causeway.session").then_some(())
        });
    }

    /// Dials, and waits until the page has the call.
    pub fn dial(&self, to: &str) {
        self.fill("to", to);
        self.tab
            .evaluate("document.getElementById('dial').requestSubmit()");
        let what = format!("a call to {to}");
        wait::until(&what, Duration::from_secs(20), || {
            let refused = self.text("dial-error");
            assert!(refused.is_empty(), "{what}: {refused}");
            self.holds("window.causeway.call").then_some(())
        });
    }

    /// Has the next call be one with video.
    pub fn want_video(&self) {
        self.tab
            .evaluate("document.getElementById('video').checked = true");
    }

    /// Waits for an incoming call and takes it.
    pub fn answer(&self) {
        self.tab.wait_for(
            "window.causeway.call && window.causeway.call.state === 'incoming'",
            Duration::from_secs(20),
        );
        self.click("answer");
    }

    /// Waits until media is connected.
    pub fn wait_connected(&self) {
        wait::until("the call is connected", Duration::from_secs(30), || {
            let ended = self.tab.evaluate("window.causeway.ended");
            assert!(
                ended.as_array().is_none_or(Vec::is_empty),
                "the call ended: {ended}"
            );
            let connected =
                "window.causeway.call?.connectedAt && window.causeway.call.state === 'connected'";
            self.holds(connected).then_some(())
        });
    }

    /// `getStats` now.
    pub fn statistics(&self) -> Statistics {
        let value = self.tab.evaluate(STATISTICS);
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
    }

    /// Where the gateway says that the two directions go: (to SIP, to browser), each a path and its reason.
    pub fn paths(&self) -> [(String, String); 2] {
        ["toSip", "toBrowser"].map(|direction| {
            let view = self
                .tab
                .evaluate(&format!("window.causeway.call.{direction}"));
            let text = |key: &str| view[key].as_str().unwrap_or_default().to_owned();
            (text("path"), text("reason"))
        })
    }

    /// Hangs up.
    pub fn hang_up(&self) {
        self.click("hang-up");
        self.wait_ended();
    }

    /// Waits until the call is over and gives what the page says of its end.
    pub fn wait_ended(&self) -> Value {
        self.tab.wait_for(
            "window.causeway.call === null && window.causeway.ended.length > 0",
            Duration::from_secs(20),
        );
        self.tab.evaluate("window.causeway.ended.at(-1)")
    }

    /// Signs out.
    pub fn sign_out(&self) {
        self.click("sign-out");
        self.tab
            .wait_for("window.causeway.session === null", Duration::from_secs(20));
    }

    /// The tab, for what this type has no word for.
    pub fn tab(&self) -> &Tab<'a> {
        &self.tab
    }

    fn fill(&self, id: &str, value: &str) {
        let value = Value::from(value);
        self.tab
            .evaluate(&format!("document.getElementById('{id}').value = {value}"));
    }

    fn click(&self, id: &str) {
        self.tab
            .evaluate(&format!("document.getElementById('{id}').click()"));
    }

    fn text(&self, id: &str) -> String {
        let value = self
            .tab
            .evaluate(&format!("document.getElementById('{id}').textContent"));
        value.as_str().unwrap_or_default().to_owned()
    }

    fn holds(&self, expression: &str) -> bool {
        self.tab.evaluate(&format!("Boolean({expression})")) == Value::Bool(true)
    }
}
