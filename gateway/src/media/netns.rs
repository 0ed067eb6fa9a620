//! A test bed of network namespaces: the gateway in one, its peers in others, veth pairs between them.

use crate::datapath::xdp_probe;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;

/// Namespaces that go away with it.
pub(crate) struct Bed {
    prefix: String,
    namespaces: Vec<String>,
    /// XDP_PASS on the far ends, without which veth delivers no XDP_TX.
    passes: Vec<OwnedFd>,
}

impl Bed {
    /// Makes the namespace of the gateway and moves the calling thread (and the threads that it starts) into it.
    pub(crate) fn new(name: &str) -> Self {
        let mut bed = Self {
            prefix: format!("cwdp{}{name}", std::process::id()),
            namespaces: Vec::new(),
            passes: Vec::new(),
        };
        bed.add("gw");
        bed.enter("gw");
        bed
    }

    fn add(&mut self, name: &str) {
        let namespace = self.full(name);
        ip(&format!("netns add {namespace}"));
        self.namespaces.push(namespace.clone());
        ip(&format!("-n {namespace} link set lo up"));
    }

    /// The whole name of a namespace.
    pub(crate) fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn enter(&self, name: &str) {
        let path = format!("/run/netns/{}", self.full(name));
        let namespace = File::open(path).expect("the namespace was made");
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter it");
    }

    /// Runs something in a namespace, on a thread of its own.
    pub(crate) fn within<T: Send>(&self, name: &str, run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter(name);
                run()
            });
            thread.join().expect("the closure does not panic")
        })
    }

    /// A peer's namespace with a veth pair to the gateway: `<name>0` on our side, `eth0` on the peer's, addresses
    /// `10.<net>.0.1`/`.2` and `fd00:<net>::1`/`::2`; XDP_PASS on the peer's.
    pub(crate) fn peer(&mut self, name: &str, net: u8) {
        self.add(name);
        self.cable(name, &format!("{name}0"), "eth0", net);
    }

    /// One more veth pair to a peer's namespace.
    pub(crate) fn cable(&mut self, name: &str, ours: &str, theirs: &str, net: u8) {
        let (gateway, peer) = (self.full("gw"), self.full(name));
        ip(&format!(
            "-n {gateway} link add {ours} type veth peer name {theirs} netns {peer}"
        ));
        for (namespace, device, host) in [(&gateway, ours, 1), (&peer, theirs, 2)] {
            ip(&format!(
                "-n {namespace} addr add 10.{net}.0.{host}/24 dev {device}"
            ));
            ip(&format!(
                "-n {namespace} addr add fd00:{net}::{host}/64 dev {device} nodad"
            ));
            ip(&format!("-n {namespace} link set {device} up"));
        }
        let pass = self.within(name, || {
            let index = nix::net::if_::if_nametoindex(theirs).expect("the device was made");
            xdp_probe::attach_pass(index, true).expect("veth has native XDP")
        });
        self.passes.push(pass);
    }

    /// A socket in a peer's namespace.
    pub(crate) fn socket(&self, name: &str, local: &str) -> UdpSocket {
        let local: SocketAddr = local.parse().expect("an address");
        self.within(name, || super::testing::socket(local))
    }

    /// `ip` in the gateway's namespace.
    pub(crate) fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.full("gw")));
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            let deleted = Command::new("ip")
                .args(["netns", "del", namespace])
                .status();
            if !deleted.is_ok_and(|status| status.success()) {
                eprintln!("namespace {namespace} is left over");
            }
        }
    }
}

/// Runs `ip`, which has to succeed.
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split_whitespace())
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "ip {arguments}"
    );
}
