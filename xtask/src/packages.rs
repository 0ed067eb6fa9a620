//! Debian packages: what is missing, and installing it where we are root.

use crate::host::{self, execute};
use anyhow::Result;
use std::path::Path;
use std::process::Command;
use std::sync::Once;

/// A program (or, by its absolute path, another file) that tests need, and the Debian package that has it.
pub(crate) struct Peer {
    pub(crate) tool: &'static str,
    pub(crate) package: &'static str,
}

/// libsrtp2, by the header that a program against it includes.
pub(crate) const SRTP_HEADER: &str = "/usr/include/srtp2/srtp.h";

/// Kamailio's TLS, by a file of its package that is at the same place on all architectures.
pub(crate) const KAMAILIO_TLS: &str = "/etc/kamailio/tls.cfg";

/// Everything that the test levels and the bench start beside our own programs.
pub(crate) const PEERS: &[Peer] = &[
    Peer {
        tool: "ip",
        package: "iproute2",
    },
    Peer {
        tool: "iptables",
        package: "iptables",
    },
    Peer {
        tool: "ethtool",
        package: "ethtool",
    },
    Peer {
        tool: "chromium",
        package: "chromium",
    },
    Peer {
        tool: "firefox-esr",
        package: "firefox-esr",
    },
    Peer {
        tool: "sipp",
        package: "sip-tester",
    },
    Peer {
        tool: "kamailio",
        package: "kamailio",
    },
    Peer {
        tool: KAMAILIO_TLS,
        package: "kamailio-tls-modules",
    },
    Peer {
        tool: "dnsmasq",
        package: "dnsmasq-base",
    },
    Peer {
        tool: "turnserver",
        package: "coturn",
    },
    Peer {
        tool: "haproxy",
        package: "haproxy",
    },
    Peer {
        tool: "baresip",
        package: "baresip-core",
    },
    Peer {
        tool: "tshark",
        package: "tshark",
    },
    Peer {
        tool: "cc",
        package: "gcc",
    },
    Peer {
        tool: SRTP_HEADER,
        package: "libsrtp2-dev",
    },
    Peer {
        tool: "npm",
        package: "npm",
    },
    // Without it `python3 -m venv` makes environments without pip.
    Peer {
        tool: "/usr/lib/python3.11/ensurepip/__init__.py",
        package: "python3-venv",
    },
    Peer {
        tool: "tcpdump",
        package: "tcpdump",
    },
    Peer {
        tool: "rtpengine",
        package: "rtpengine-daemon",
    },
];

/// The package that has a tool.
pub(crate) fn package_of(tool: &str) -> &str {
    PEERS
        .iter()
        .find(|peer| peer.tool == tool)
        .map_or(tool, |peer| peer.package)
}

/// Whether packages can be installed at all: Debian or a child of it, and root.
pub(crate) fn can_install() -> bool {
    host::is_root() && Path::new("/etc/debian_version").exists() && host::which("apt-get").is_some()
}

/// Installs packages, saying which; the package lists are refreshed once per run.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    static REFRESHED: Once = Once::new();
    println!("installing Debian packages: {}", packages.join(" "));
    let mut refreshed = Ok(());
    REFRESHED.call_once(|| refreshed = execute(apt().arg("-qq").arg("update")));
    refreshed?;
    execute(
        apt()
            .args(["-qq", "-y", "--no-install-recommends", "install"])
            .args(packages),
    )
}

/// Installs the test peers that are missing. What cannot be had is said, and the levels that need it say so again.
pub(crate) fn install_peers() {
    let missing: Vec<_> = PEERS
        .iter()
        .filter(|peer| host::which(peer.tool).is_none())
        .collect();
    if missing.is_empty() {
        return;
    }
    let packages: Vec<_> = missing.iter().map(|peer| peer.package).collect();
    if !can_install() {
        println!(
            "not installed, and not ours to install (needs root on Debian): {}",
            packages.join(" ")
        );
        return;
    }
    if install(&packages).is_err() {
        // One unknown package fails them all: then each alone.
        for package in packages {
            if let Err(error) = install(&[package]) {
                println!("{package} could not be installed: {error:#}");
            }
        }
    }
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
