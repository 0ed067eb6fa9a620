//! baresip as a SIP phone: answers by itself and sends back what it hears, over real codecs. No sound card needed.

use crate::files::Directory;
use crate::netns::{Line, Namespace};
use crate::process::{Process, Program};
use std::time::Duration;

/// A running baresip.
pub struct Baresip {
    process: Process,
    _directory: Directory,
}

/// Player and source are the two ends of one bridge: what arrives is sent back.
const CONFIG: &str = "poll_method epoll
audio_path /usr/share/baresip
audio_player aubridge,loop
audio_source aubridge,loop
audio_alert aubridge,alert
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtp_ports 42000-42999
rtcp_mux no
jitter_buffer_delay 2-5
rtp_stats yes
module_path /usr/lib/baresip/modules
module stdio.so
module g711.so
module aubridge.so
module srtp.so
module uuid.so
module_app account.so
module_app menu.so
";

impl Baresip {
    /// SIP port.
    pub const PORT: u16 = 5080;

    /// Starts it at the SIP side's address without a registrar.
    pub fn alone(namespace: &Namespace) -> Self {
        let account = format!(
            "<sip:phone@{}:{}>;regint=0;answermode=auto",
            Line::SIP,
            Self::PORT
        );
        Self::start(namespace, &account)
    }

    /// The same with SRTP by keys in the descriptions: under RTP/SAVP (`srtp-mand`) or RTP/AVP (`srtp`).
    pub fn with_srtp(namespace: &Namespace, encryption: &str) -> Self {
        let account = format!(
            "<sip:phone@{}:{}>;regint=0;answermode=auto;mediaenc={encryption}",
            Line::SIP,
            Self::PORT
        );
        Self::start(namespace, &account)
    }

    /// Starts it as a user that is registered at a registrar on the same address.
    pub fn registered(namespace: &Namespace, user: &str, domain: &str, password: &str) -> Self {
        let proxy = Line::SIP;
        let account = format!(
            "<sip:{user}@{domain}>;auth_user={user};auth_pass={password};outbound=\"sip:{proxy}:5060\";regint=60;\
             answermode=auto"
        );
        let mut this = Self::start(namespace, &account);
        this.process
            .wait_for_line("200 OK", Duration::from_secs(15));
        this
    }

    fn start(namespace: &Namespace, account: &str) -> Self {
        let directory = Directory::new("baresip");
        let listen = format!("sip_listen {}:{}", Line::SIP, Self::PORT);
        let config = [listen.as_str(), CONFIG].join("\n");
        directory.write("config", config);
        directory.write(
            "accounts",
            format!("{account};audio_codecs=PCMU/8000/1,PCMA/8000/1;ptime=20\n"),
        );
        directory.write("contacts", "");
        let process = Program::new("baresip")
            .inside(Some(namespace))
            .args(["-f", &directory.path().to_string_lossy()])
            .directory(directory.path())
            .start();
        let mut this = Self {
            process,
            _directory: directory,
        };
        this.process
            .wait_for_line("baresip is ready", Duration::from_secs(15));
        this
    }

    /// Whom to call where it is not registered.
    pub fn address() -> String {
        format!("sip:phone@{}:{}", Line::SIP, Self::PORT)
    }
}
