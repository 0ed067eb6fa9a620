//! Headless Firefox, driven over Marionette, its own remote protocol: no driver program.
//!
//! Marionette is a TCP connection on loopback with messages of `LENGTH:JSON`: `[0, id, command, parameters]` there, `[1, id, error,
//! result]` back. One page at a time is enough here.

use crate::browser::Tab;
use crate::files::Directory;
use crate::netns::Namespace;
use crate::process::{Process, Program};
use crate::wait;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Where Marionette listens in the browser's own namespace.
const PORT: u16 = 2828;
const START_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// What differs from a fresh profile: a tone as microphone, granted without a question, and no traffic of its own.
const PREFERENCES: &[(&str, &str)] = &[
    ("media.navigator.streams.fake", "true"),
    ("media.navigator.permission.disabled", "true"),
    ("media.devices.insecure.enabled", "true"),
    ("media.getusermedia.insecure.enabled", "true"),
    ("media.autoplay.default", "0"),
    ("media.peerconnection.ice.obfuscate_host_addresses", "false"),
    ("media.gmp-manager.updateEnabled", "false"),
    ("media.gmp-provider.enabled", "false"),
    ("app.update.disabledForTesting", "true"),
    ("browser.aboutwelcome.enabled", "false"),
    ("browser.safebrowsing.malware.enabled", "false"),
    ("browser.safebrowsing.phishing.enabled", "false"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("extensions.update.enabled", "false"),
    ("network.captive-portal-service.enabled", "false"),
    ("network.connectivity-service.enabled", "false"),
    ("services.settings.server", "\"data:,\""),
    ("toolkit.telemetry.enabled", "false"),
];

/// A running Firefox; ended on drop.
pub struct Firefox {
    // Ended before its profile is removed.
    _process: Process,
    connection: Mutex<Connection>,
    _profile: Directory,
}

struct Connection {
    stream: BufReader<TcpStream>,
    next: u64,
}

impl Firefox {
    /// Starts it in a namespace.
    pub fn start(namespace: &Namespace) -> Self {
        let profile = Directory::new("firefox");
        let line = |(name, value): &(&str, &str)| format!("user_pref(\"{name}\", {value});\n");
        let preferences: String = PREFERENCES.iter().map(line).collect();
        profile.write(
            "user.js",
            format!("{preferences}user_pref(\"marionette.port\", {PORT});\n"),
        );
        let directory = profile.path().to_string_lossy().into_owned();
        let process = Program::new("firefox-esr")
            .inside(Some(namespace))
            .env("HOME", &directory)
            .env("TMPDIR", &directory)
            .env("MOZ_CRASHREPORTER_DISABLE", "1")
            .args([
                "--headless",
                "--no-remote",
                "--marionette",
                "--profile",
                &directory,
            ])
            .start();
        let stream = wait::until("Firefox listens", START_LIMIT, || {
            namespace.enter(|| TcpStream::connect(("127.0.0.1", PORT)).ok())
        });
        stream
            .set_read_timeout(Some(ANSWER_LIMIT))
            .expect("not zero");
        let mut connection = Connection {
            stream: BufReader::new(stream),
            next: 1,
        };
        connection.read();
        connection.call("WebDriver:NewSession", &json!({}));
        let limits = json!({"script": 55_000, "pageLoad": 30_000});
        connection.call("WebDriver:SetTimeouts", &limits);
        Self {
            _process: process,
            connection: Mutex::new(connection),
            _profile: profile,
        }
    }

    /// Opens a page in the place of the one before, and waits until it is loaded.
    pub fn open(&self, url: &str) -> Tab<'_> {
        self.call("WebDriver:Navigate", &json!({"url": url}));
        Tab::of_firefox(self)
    }

    /// Evaluates an expression, waits for it where it is a promise, and gives its value; panics where it throws.
    pub(crate) fn evaluate(&self, expression: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1];
            Promise.resolve().then(async () => ({expression}))
                .then((value) => done({{ value: value ?? null }}), (error) => done({{ thrown: String(error) }}));"
        );
        // Without a sandbox: the page's own objects are what is looked at.
        let parameters = json!({"script": script, "args": [], "sandbox": null});
        let mut answer = self.call("WebDriver:ExecuteAsyncScript", &parameters);
        let answer = &mut answer["value"];
        assert!(
            answer["thrown"].is_null(),
            "{expression}: {}",
            answer["thrown"]
        );
        answer["value"].take()
    }

    fn call(&self, command: &str, parameters: &Value) -> Value {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .call(command, parameters)
    }
}

impl Connection {
    fn call(&mut self, command: &str, parameters: &Value) -> Value {
        let id = self.next;
        self.next += 1;
        let message = json!([0, id, command, parameters]).to_string();
        write!(self.stream.get_mut(), "{}:{message}", message.len()).expect("Firefox runs");
        let mut answer = self.read();
        assert_eq!(answer[1], id, "{command}: {answer}");
        assert!(answer[2].is_null(), "{command}: {}", answer[2]);
        answer[3].take()
    }

    fn read(&mut self) -> Value {
        let mut length = Vec::new();
        self.stream
            .read_until(b':', &mut length)
            .expect("Firefox answers in time");
        length.pop();
        let length = String::from_utf8(length).expect("a number");
        let mut message = vec![0; length.parse().expect("a number")];
        self.stream
            .read_exact(&mut message)
            .expect("Firefox answers in time");
        serde_json::from_slice(&message).expect("JSON")
    }
}
