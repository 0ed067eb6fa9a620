//! HAProxy before several gateways: it tells by a cookie which of them a page is at. It serves the pages of another origin, too.

use crate::files::{self, Directory};
use crate::http;
use crate::netns::Namespace;
use crate::process::{Process, Program};
use crate::wait;
use std::net::SocketAddr;
use std::time::Duration;

/// A running HAProxy.
pub struct Balancer {
    _process: Process,
    _directory: Directory,
}

impl Balancer {
    /// Starts it: `calls` is shared by the gateways at `nodes`, `pages` serves an empty page and `causeway.js`.
    pub fn start(
        namespace: &Namespace,
        calls: SocketAddr,
        nodes: &[SocketAddr],
        pages: SocketAddr,
    ) -> Self {
        let directory = Directory::new("balancer");
        let module = directory.write("causeway.js", files::web("causeway.js"));
        let servers: String = nodes
            .iter()
            .map(|node| {
                format!(
                    "  server node-{port} {node} cookie node-{port}\n",
                    port = node.port()
                )
            })
            .collect();
        let config = format!(
            r#"global
  tune.bufsize 131072
defaults
  mode http
  timeout connect 5s
  timeout client 120s
  timeout server 120s
frontend calls
  bind {calls}
  default_backend nodes
backend nodes
  balance roundrobin
  cookie NODE insert indirect nocache
{servers}frontend pages
  bind {pages}
  http-request return status 200 content-type text/javascript file {module} if {{ path /causeway.js }}
  http-request return status 200 content-type text/html string "<!doctype html><title>desk</title>"
"#,
            module = module.display(),
        );
        let file = directory.write("haproxy.cfg", config);
        let mut process = Program::new("haproxy")
            .inside(Some(namespace))
            .args(["-db", "-f", &file.to_string_lossy()])
            .start();
        let url = format!("http://{pages}/");
        wait::until("HAProxy answers", Duration::from_secs(10), || {
            if let Some(status) = process.ended() {
                panic!("HAProxy ended with {status}");
            }
            http::get(Some(namespace), &url).filter(|answer| answer.status == 200)
        });
        Self {
            _process: process,
            _directory: directory,
        }
    }
}
