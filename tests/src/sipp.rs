//! SIPp as the called party: answers with G.711 mu-law, or with Opus and video, and sends every RTP packet back.

use crate::files::Directory;
use crate::netns::{Line, Namespace};
use crate::process::{Process, Program};
use nix::sys::signal::Signal;
use std::thread::sleep;
use std::time::Duration;

/// A running SIPp.
pub struct Sipp {
    process: Process,
    address: String,
    _scenario: Option<Directory>,
}

/// How it answers: the scenario, with words in the place of numbers and names of codecs.
const VIDEO: &str = include_str!("sipp_video.xml");

impl Sipp {
    /// SIP port.
    pub const PORT: u16 = 5070;

    /// Starts SIPp's own answering scenario with RTP echo at the SIP side's address; it ends after that many calls.
    pub fn answer(namespace: &Namespace, calls: u32) -> Self {
        Self::start(namespace, ["-sn", "uas"], calls, None)
    }

    /// Starts it with a scenario of ours, which answers one call with this audio and VP8 (payload type and name of each codec as
    /// the offer has them) and takes picture loss indications. The audio's port is 6000, the video's 6002.
    pub fn answer_video(namespace: &Namespace, audio: (u8, &str), vp8: u8) -> Self {
        let scenario = VIDEO
            .replace("AUDIO_NUMBER", &audio.0.to_string())
            .replace("AUDIO_CODEC", audio.1)
            .replace("VIDEO_NUMBER", &vp8.to_string());
        let directory = Directory::new("sipp");
        let file = directory.write("video.xml", scenario);
        let file = file.to_string_lossy().into_owned();
        Self::start(namespace, ["-sf", &file], 1, Some(directory))
    }

    /// Starts it with a scenario of ours, a file.
    pub fn play(namespace: &Namespace, scenario: &str, calls: u32) -> Self {
        Self::start(namespace, ["-sf", scenario], calls, None)
    }

    /// Has it place one call by a scenario of ours, a file, over `server` (`address:port`).
    pub fn call(namespace: &Namespace, scenario: &str, server: &str) -> Self {
        Self::run(namespace, &["-sf", scenario, server], 1, None)
    }

    fn start(
        namespace: &Namespace,
        scenario: [&str; 2],
        calls: u32,
        directory: Option<Directory>,
    ) -> Self {
        Self::run(namespace, &scenario, calls, directory)
    }

    fn run(
        namespace: &Namespace,
        scenario: &[&str],
        calls: u32,
        directory: Option<Directory>,
    ) -> Self {
        let address = Line::SIP;
        let (text, port, calls) = (
            address.to_string(),
            Self::PORT.to_string(),
            calls.to_string(),
        );
        let process = Program::new("sipp")
            .inside(Some(namespace))
            .args(scenario)
            .args(["-rtp_echo", "-nostdin", "-i", &text, "-p", &port])
            .args(["-mi", &text, "-mp", "6000", "-m", &calls])
            .env("TERM", "dumb")
            .start();
        Self {
            process,
            address: format!("sip:service@{address}:{port}"),
            _scenario: directory,
        }
    }

    /// Whom to call.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stops it for a while; what arrives meanwhile waits, or is lost where it is too much.
    pub fn pause(&mut self, time: Duration) {
        self.process.signal(Signal::SIGSTOP);
        sleep(time);
        self.process.signal(Signal::SIGCONT);
    }

    /// Waits for its end; `true` where every call went as the scenario says.
    pub fn went_well(&mut self) -> bool {
        self.process.wait(Duration::from_secs(20)).success()
    }
}
