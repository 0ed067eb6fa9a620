//! Headless Chromium, driven over the DevTools protocol by a pipe: no driver program, no library, no port.
//!
//! Chromium reads commands from descriptor 3 and writes answers and events to descriptor 4, each JSON message ended by
//! a zero byte. A shell moves the pipes of its standard input and output there before it becomes Chromium.

use crate::files::Directory;
use crate::firefox::Firefox;
use crate::netns::Namespace;
use crate::process::{Process, Program};
use crate::tone;
use crate::wait;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::process::{ChildStdin, ChildStdout};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// A Chromium that shows no page by then will not show one later.
const START_LIMIT: Duration = Duration::from_secs(20);
const STARTS: usize = 3;
/// Takes the microphone and gives it back.
const LISTEN: &str = "navigator.mediaDevices.getUserMedia({ audio: true }).then((stream) => { for (const track of stream.getTracks()) track.stop(); })";

const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--log-level=3",
    "--metrics-recording-only",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-pipe",
];

/// What differs between browsers of tests.
#[derive(Default)]
pub struct Options<'a> {
    /// Where it runs.
    pub namespace: Option<&'a Namespace>,
    /// Origins that count as secure beside localhost: `http://10.77.1.2:8080`.
    pub secure_origins: Vec<String>,
    /// Gathers loopback candidates too: for pages and gateways on this very machine.
    pub loopback: bool,
    /// Names of hosts that no name server knows, and where they are.
    pub hosts: Vec<(&'a str, Ipv4Addr)>,
}

/// A running Chromium; ended on drop.
pub struct Browser {
    // Ended before its profile is removed.
    _process: Process,
    commands: Mutex<ChildStdin>,
    shared: Arc<Shared>,
    next: AtomicU64,
    _profile: Directory,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<u64, Value>>,
    arrived: Condvar,
    console: Mutex<Vec<String>>,
}

impl Browser {
    /// Starts Chromium with a tone of [`tone::MICROPHONE_HZ`] as its microphone. One that hangs, as some do on a busy machine, gives way
    /// to another.
    pub fn start(options: &Options<'_>) -> Self {
        for _ in 1..STARTS {
            let browser = Self::launch(options);
            if browser.is_up(options).is_some() {
                return browser;
            }
            println!("Chromium hangs and is started again");
        }
        Self::launch(options)
    }

    /// Whether it shows a page, from the first of the origins if there is one, and has a microphone for it.
    fn is_up(&self, options: &Options<'_>) -> Option<()> {
        let (url, script) = match options.secure_origins.first() {
            Some(origin) => (format!("{origin}/style.css"), LISTEN),
            None => ("data:text/html,up".to_owned(), "0"),
        };
        let ask = |session: Option<&str>, method, parameters| {
            let mut answer = self.ask(session, method, parameters, START_LIMIT)?;
            Some(answer["result"].take())
        };
        let created = ask(None, "Target.createTarget", json!({"url": "about:blank"}))?;
        let target = json!({"targetId": created["targetId"], "flatten": true});
        let attached = ask(None, "Target.attachToTarget", target.clone())?;
        let session = attached["sessionId"].as_str();
        ask(session, "Page.navigate", json!({"url": url}))?;
        let script = json!({"expression": script, "awaitPromise": true});
        ask(session, "Runtime.evaluate", script)?;
        ask(None, "Target.closeTarget", target)?;
        Some(())
    }

    fn launch(options: &Options<'_>) -> Self {
        let profile = Directory::new("chromium");
        let microphone = profile.write("microphone.wav", tone::wav());
        let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push(format!("--user-data-dir={}", profile.path().display()));
        flags.push(format!(
            "--use-file-for-fake-audio-capture={}",
            microphone.display()
        ));
        if options.loopback {
            flags.push("--allow-loopback-in-peer-connection".to_owned());
        }
        if !options.secure_origins.is_empty() {
            let origins = options.secure_origins.join(",");
            flags.push(format!(
                "--unsafely-treat-insecure-origin-as-secure={origins}"
            ));
        }
        if !options.hosts.is_empty() {
            let rules = options.hosts.iter();
            let rules: Vec<_> = rules.map(|(name, at)| format!("MAP {name} {at}")).collect();
            flags.push(format!("--host-resolver-rules={}", rules.join(",")));
        }
        let (process, commands, answers) = Program::new("sh")
            .inside(options.namespace)
            .env("HOME", &profile.path().to_string_lossy())
            .env("TMPDIR", &profile.path().to_string_lossy())
            .args([
                "-c",
                "exec 3<&0 4>&1 </dev/null >&2; exec \"$@\"",
                "sh",
                "chromium",
            ])
            .args(&flags)
            .args(["about:blank"])
            .start_with_pipes();
        let shared = Arc::new(Shared::default());
        read_messages(Arc::clone(&shared), answers);
        Self {
            _process: process,
            commands: Mutex::new(commands),
            shared,
            next: AtomicU64::new(1),
            _profile: profile,
        }
    }

    /// Opens a page of its own and waits until it is loaded.
    pub fn open(&self, url: &str) -> Tab<'_> {
        let created = self.call(None, "Target.createTarget", json!({"url": "about:blank"}));
        let target = created["targetId"].clone();
        let attached = self.call(
            None,
            "Target.attachToTarget",
            json!({"targetId": target, "flatten": true}),
        );
        let session = attached["sessionId"].as_str();
        let session = session.expect("the protocol gives a session").to_owned();
        let ask = |method, parameters| self.call(Some(&session), method, parameters);
        ask("Runtime.enable", json!({}));
        ask("Page.enable", json!({}));
        let navigated = ask("Page.navigate", json!({"url": url}));
        assert!(navigated.get("errorText").is_none(), "{url}: {navigated}");
        let tab = Tab(Driver::Chromium {
            browser: self,
            session,
        });
        tab.wait_for(
            "document.readyState === 'complete'",
            Duration::from_secs(30),
        );
        tab
    }

    /// Everything that pages wrote to their consoles, and what they threw.
    pub fn console(&self) -> Vec<String> {
        self.shared
            .console
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let answer = self.ask(session, method, parameters, ANSWER_LIMIT);
        let mut answer = answer.unwrap_or_else(|| panic!("Chromium did not answer {method}"));
        let error = answer.get("error");
        assert!(error.is_none(), "{method}: {}", answer["error"]);
        answer["result"].take()
    }

    /// The answer to a command, if it comes in time.
    fn ask(
        &self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
        limit: Duration,
    ) -> Option<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands
            .write_all(&bytes)
            .and_then(|()| commands.flush())
            .expect("Chromium runs");
        drop(commands);
        let answers = self.shared.answers.lock();
        let answers = answers.unwrap_or_else(PoisonError::into_inner);
        let arrived = &self.shared.arrived;
        let waited =
            arrived.wait_timeout_while(answers, limit, |answers| !answers.contains_key(&id));
        let (mut answers, _) = waited.unwrap_or_else(PoisonError::into_inner);
        answers.remove(&id)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("--- console of the pages");
            for line in self.console() {
                println!("{line}");
            }
        }
    }
}

/// A page.
pub struct Tab<'a>(Driver<'a>);

/// Who shows it.
enum Driver<'a> {
    Chromium {
        browser: &'a Browser,
        session: String,
    },
    Firefox(&'a Firefox),
}

impl<'a> Tab<'a> {
    /// Firefox's one page.
    pub(crate) fn of_firefox(firefox: &'a Firefox) -> Self {
        Self(Driver::Firefox(firefox))
    }

    /// Evaluates an expression, waits for it where it is a promise, and gives its value; panics where it throws.
    pub fn evaluate(&self, expression: &str) -> Value {
        let (browser, session) = match &self.0 {
            Driver::Chromium { browser, session } => (browser, session),
            Driver::Firefox(firefox) => return firefox.evaluate(expression),
        };
        let parameters = json!({
            "expression": expression,
            "awaitPromise": true,
            "returnByValue": true,
            "userGesture": true,
        });
        let mut answer = browser.call(Some(session), "Runtime.evaluate", parameters);
        if let Some(thrown) = answer.get("exceptionDetails") {
            panic!("{expression}: {thrown}");
        }
        answer["result"]["value"].take()
    }

    /// Presses and releases a key, as by hand: `n`, `5`, `Enter`, `Tab`, `Escape`; `alt` with it. Chromium alone.
    pub fn press(&self, key: &str, alt: bool) {
        let Driver::Chromium { browser, session } = &self.0 else {
            panic!("keys are pressed in Chromium");
        };
        let (code, number, text) = match key {
            "Enter" => ("Enter".to_owned(), 13, "\r"),
            "Tab" => ("Tab".to_owned(), 9, ""),
            "Escape" => ("Escape".to_owned(), 27, ""),
            key => {
                let upper = key.to_ascii_uppercase();
                let kind = if key.parse::<u8>().is_ok() {
                    "Digit"
                } else {
                    "Key"
                };
                (format!("{kind}{upper}"), upper.as_bytes()[0], key)
            }
        };
        let event = |kind: &str| {
            let mut event = json!({
                "type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": u8::from(alt),
            });
            if kind == "keyDown" && !alt && !text.is_empty() {
                event["text"] = text.into();
            }
            browser.call(Some(session), "Input.dispatchKeyEvent", event);
        };
        event("keyDown");
        event("keyUp");
    }

    /// Types a text into what has the focus. Chromium alone.
    pub fn type_text(&self, text: &str) {
        let Driver::Chromium { browser, session } = &self.0 else {
            panic!("text is typed in Chromium");
        };
        browser.call(Some(session), "Input.insertText", json!({"text": text}));
    }

    /// Waits until an expression is true.
    pub fn wait_for(&self, expression: &str, limit: Duration) {
        wait::until(expression, limit, || {
            let value = self.evaluate(&format!("Boolean({expression})"));
            (value == Value::Bool(true)).then_some(())
        });
    }
}

fn read_messages(shared: Arc<Shared>, answers: ChildStdout) {
    thread::spawn(move || {
        for bytes in BufReader::new(answers).split(0).map_while(Result::ok) {
            let Ok(message) = serde_json::from_slice::<Value>(&bytes) else {
                continue;
            };
            if let Some(id) = message["id"].as_u64() {
                let mut answers = shared
                    .answers
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                answers.insert(id, message);
                shared.arrived.notify_all();
            } else if let Some(line) = console_line(&message) {
                shared
                    .console
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        }
    });
}

/// What a page wrote or threw, as one line.
fn console_line(event: &Value) -> Option<String> {
    let parameters = &event["params"];
    match event["method"].as_str()? {
        "Runtime.consoleAPICalled" => {
            let values = parameters["args"].as_array()?.iter().map(|argument| {
                let described = argument
                    .get("description")
                    .or_else(|| argument.get("value"));
                described.map_or_else(String::new, |value| {
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned)
                })
            });
            Some(values.collect::<Vec<_>>().join(" "))
        }
        "Runtime.exceptionThrown" => Some(parameters["exceptionDetails"].to_string()),
        _ => None,
    }
}
