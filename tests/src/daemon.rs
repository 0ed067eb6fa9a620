//! The daemon as a process: its configuration, its start, and what it says of itself.

use crate::datapath::Packets;
use crate::files::{self, Directory};
use crate::http::{self, Request, Response};
use crate::netns::Namespace;
use crate::process::{Process, Program};
use crate::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::Duration;

const READY_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A running daemon; ended on drop.
pub struct Daemon<'a> {
    process: Process,
    namespace: Option<&'a Namespace>,
    http: String,
    admin: String,
    _directory: Directory,
}

/// One sample of `/metrics`.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Metric name.
    pub name: String,
    /// Labels as they stand between the braces.
    pub labels: String,
    /// Value.
    pub value: f64,
}

impl<'a> Daemon<'a> {
    /// Starts `causeway run` with a configuration that names `[http] listen` and `admin_listen`, and waits for
    /// `/ready`.
    pub fn start(namespace: Option<&'a Namespace>, config: &str) -> Self {
        let mut this = Self::spawn(namespace, config);
        let url = format!("{}/ready", this.admin);
        wait::until("the gateway is ready", READY_LIMIT, || {
            if let Some(status) = this.process.ended() {
                panic!("the gateway ended with {status}");
            }
            http::get(namespace, &url).filter(|response| response.status == 200)
        });
        this
    }

    fn spawn(namespace: Option<&'a Namespace>, config: &str) -> Self {
        let directory = Directory::new("daemon");
        let file = directory.write("causeway.toml", config);
        let value = |key: &str| -> String {
            let line = config
                .lines()
                .find(|line| line.trim_start().starts_with(&format!("{key} ")));
            let quoted = line.and_then(|line| line.split('"').nth(1));
            quoted
                .unwrap_or_else(|| panic!("the configuration has no {key}"))
                .to_owned()
        };
        let process = Program::new(files::daemon())
            .inside(namespace)
            .env("RUST_LOG", "info,causeway=debug,gateway_core=debug")
            .args(["run", "--config"])
            .args([file.to_string_lossy()])
            .start();
        Self {
            process,
            namespace,
            http: format!("http://{}", value("listen")),
            admin: format!("http://{}", value("admin_listen")),
            _directory: directory,
        }
    }

    /// Base URL of page and API.
    pub fn url(&self) -> &str {
        &self.http
    }

    /// Its log so far.
    pub fn log(&self) -> Vec<String> {
        self.process.lines()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// A request to the API; `path` starts with `/`.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&str>,
    ) -> Response {
        let url = format!("{}{path}", self.http);
        let request = Request {
            method,
            url: &url,
            token,
            body,
        };
        http::send(self.namespace, &request)
            .unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// `GET` at the admin listener.
    pub fn admin(&self, path: &str) -> Response {
        let url = format!("{}{path}", self.admin);
        http::get(self.namespace, &url).unwrap_or_else(|| panic!("no answer to GET {path}"))
    }

    /// All metrics.
    pub fn metrics(&self) -> Vec<Sample> {
        self.admin("/metrics")
            .body
            .lines()
            .filter_map(sample)
            .collect()
    }

    /// Sum of the samples of a name whose labels contain all the given texts.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let fits = |sample: &Sample| {
            sample.name == name && labels.iter().all(|label| sample.labels.contains(label))
        };
        self.metrics()
            .into_iter()
            .filter(fits)
            .map(|sample| sample.value)
            .sum()
    }

    /// Packets by the reason of their exit.
    pub fn packets(&self) -> Packets {
        let mut packets = Packets::default();
        for sample in self.metrics() {
            if sample.name != "causeway_packets_total" {
                continue;
            }
            let (why, count) = (sample.label("reason").to_owned(), sample.value as u64);
            match sample.label("datapath") {
                "xdp" => packets.xdp.insert(why, count),
                _ => packets.userspace.insert(why, count),
            };
        }
        packets
    }

    /// `GET /admin/v1/flows`.
    pub fn flows(&self) -> Vec<Value> {
        let value = self.admin("/admin/v1/flows").json();
        value
            .as_array()
            .cloned()
            .unwrap_or_else(|| panic!("no list of flows: {value}"))
    }

    /// UDP datagrams that reached any socket in the daemon's namespace so far: what XDP let through.
    pub fn datagrams_received(&self) -> u64 {
        let namespace = self
            .namespace
            .expect("only a namespace of its own counts the daemon's datagrams alone");
        let counters = namespace.run(&["cat", "/proc/net/snmp"]);
        let mut udp = counters
            .lines()
            .filter_map(|line| line.strip_prefix("Udp: "));
        let (names, values) = (
            udp.next().unwrap_or_default(),
            udp.next().unwrap_or_default(),
        );
        let position = names.split(' ').position(|name| name == "InDatagrams");
        let value = position.and_then(|position| values.split(' ').nth(position)?.parse().ok());
        value.expect("the kernel counts UDP datagrams")
    }

    /// Creates a session and gives (id, token).
    pub fn sign_in(&self, body: &Value) -> (String, String) {
        let response = self.request("POST", "/api/v1/sessions", None, Some(&body.to_string()));
        assert_eq!(response.status, 201, "{response:?}");
        let created = response.json();
        let text = |key: &str| {
            created[key]
                .as_str()
                .expect("the API's own field")
                .to_owned()
        };
        (text("id"), text("token"))
    }

    /// Creates a guest's session.
    pub fn guest(&self) -> (String, String) {
        self.sign_in(&json!({}))
    }

    /// Asks it to end and waits until it has.
    pub fn stop(&mut self) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait(STOP_LIMIT);
        assert!(status.success(), "the gateway ended with {status}");
    }
}

impl Sample {
    /// Value of a label, empty where it has none of that name.
    pub fn label(&self, name: &str) -> &str {
        let start = format!("{name}=\"");
        let mut pairs = self
            .labels
            .split("\",")
            .filter_map(|pair| pair.strip_prefix(&start));
        pairs.next().unwrap_or_default().trim_end_matches('"')
    }
}

/// `name{labels} value` of the Prometheus text format.
fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some(Sample {
        name: name.to_owned(),
        labels: labels.trim_end_matches('}').to_owned(),
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::sample;

    #[test]
    fn reads_the_prometheus_text_format() {
        let read = sample("causeway_packets_total{path=\"xdp\",why=\"forwarded\"} 12").unwrap();
        assert_eq!(
            (read.name.as_str(), read.labels.as_str(), read.value),
            (
                "causeway_packets_total",
                "path=\"xdp\",why=\"forwarded\"",
                12.0
            )
        );
        assert_eq!(
            (read.label("path"), read.label("why"), read.label("x")),
            ("xdp", "forwarded", "")
        );
        assert!(sample("# HELP x y").is_none());
    }
}
