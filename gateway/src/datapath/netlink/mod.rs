//! rtnetlink as the datapath speaks it: short questions that the kernel answers at once, and a socket that tells of changes.
//!
//! Synchronous on purpose: the kernel answers a route question within the `send` call, so the media thread needs no future for it.

mod parse;

use anyhow::{Context as _, bail};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;
use parse::{messages, parse_link, parse_neighbour, parse_route};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

/// RTNLGRP_* of what the egress of a flow depends on: links, neighbours, addresses, routes and rules of both families.
const GROUPS: [u32; 8] = [1, 3, 5, 7, 8, 9, 11, 19];
/// A netlink answer that takes longer than this is not coming.
const ANSWER_TIMEOUT_S: i64 = 1;

/// Asks the kernel.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mtu: u32,
    /// Six bytes for Ethernet and loopback, else `None`.
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) loopback: bool,
    pub(crate) up: bool,
    /// Transmit queues, receive queues.
    pub(crate) queues: (u32, u32),
    /// Driver-independent kind (`veth`, `vlan`, `bridge`), empty for hardware.
    pub(crate) kind: String,
    /// The device below and the VLAN number, where this is an 802.1Q interface.
    pub(crate) vlan: Option<(u32, u16)>,
}

/// The kernel's answer to "how would a packet from here to there leave".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) ifindex: u32,
    /// `None` where the destination is on the link.
    pub(crate) gateway: Option<IpAddr>,
    /// Path MTU, where it is known to be below the interface's.
    pub(crate) mtu: Option<u32>,
    /// Whether the destination is an address of this host.
    pub(crate) local: bool,
}

/// A neighbour as the kernel knows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) ifindex: u32,
    pub(crate) address: IpAddr,
    /// `None` while it is being resolved, or when nobody answers.
    pub(crate) mac: Option<[u8; 6]>,
}

/// What changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A neighbour was resolved, moved, or was forgotten (then without address).
    Neighbour(Neighbour),
    /// Anything that a route look-up depends on; also when messages were lost.
    Routes,
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Netlink cannot be had.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("no netlink socket")?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(ANSWER_TIMEOUT_S, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(64 << 10),
        })
    }

    /// All interfaces.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn links(&mut self) -> anyhow::Result<Vec<Link>> {
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.ask(question, NLM_F_REQUEST | NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => parse_link(&link),
                _ => None,
            })
            .collect())
    }

    /// How packets from `source` to `destination` leave.
    ///
    /// # Errors
    /// There is no such route (the kernel's words).
    pub(crate) fn route(&mut self, source: IpAddr, destination: IpAddr) -> anyhow::Result<Route> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = prefix(destination);
        message.header.source_prefix_length = prefix(source);
        message
            .attributes
            .push(RouteAttribute::Destination(destination.into()));
        message
            .attributes
            .push(RouteAttribute::Source(source.into()));
        let answers = self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_REQUEST)?;
        answers
            .iter()
            .find_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => parse_route(route),
                _ => None,
            })
            .context("the kernel named no interface")
    }

    /// What the kernel knows of a neighbour; `None` when it has no entry.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn neighbour(
        &mut self,
        ifindex: u32,
        address: IpAddr,
    ) -> anyhow::Result<Option<Neighbour>> {
        let message = neighbour_message(ifindex, address);
        let question = RouteNetlinkMessage::GetNeighbour(message);
        match self.ask(question, NLM_F_REQUEST) {
            Ok(answers) => Ok(answers.iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewNeighbour(n) => parse_neighbour(n),
                _ => None,
            })),
            Err(error) if is_errno(&error, libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the kernel resolve a neighbour, or confirm one that it has not heard of for a while.
    ///
    /// XDP sends past the stack, so nothing else would keep the entry in use.
    ///
    /// # Errors
    /// The kernel refused (no privilege, interface down).
    pub(crate) fn use_neighbour(&mut self, ifindex: u32, address: IpAddr) -> anyhow::Result<()> {
        let mut message = neighbour_message(ifindex, address);
        message.header.flags = NeighbourFlags::Use;
        let question = RouteNetlinkMessage::NewNeighbour(message);
        self.ask(question, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK)?;
        Ok(())
    }

    fn ask(
        &mut self,
        question: RouteNetlinkMessage,
        flags: u16,
    ) -> anyhow::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        // A dump ends with Done; the rest is one message or one acknowledgement.
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            for message in messages(&self.buffer) {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io().into());
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Overrun(_) => bail!("netlink overrun"),
                    _ => {}
                }
                if flags & (NLM_F_DUMP | NLM_F_ACK) == 0 {
                    return Ok(answers);
                }
            }
        }
    }
}

/// Tells of changes; non-blocking.
pub(crate) struct Watch {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Watch {
    /// Subscribes in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Netlink cannot be had.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE).context("no netlink socket")?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(64 << 10),
        })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The changes since the last call.
    pub(crate) fn poll(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    changes.push(Change::Routes);
                    continue;
                }
                Err(_) => return changes,
            }
            for message in messages(&self.buffer) {
                let NetlinkPayload::InnerMessage(inner) = message.payload else {
                    continue;
                };
                match inner {
                    RouteNetlinkMessage::NewNeighbour(n) => {
                        changes.extend(parse_neighbour(&n).map(Change::Neighbour));
                    }
                    RouteNetlinkMessage::DelNeighbour(n) => {
                        changes.extend(parse_neighbour(&n).map(|n| {
                            let mac = None;
                            Change::Neighbour(Neighbour { mac, ..n })
                        }));
                    }
                    _ => changes.push(Change::Routes),
                }
            }
        }
    }
}

fn neighbour_message(ifindex: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = ifindex;
    let destination = match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    };
    message
        .attributes
        .push(NeighbourAttribute::Destination(destination));
    message
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn is_errno(error: &anyhow::Error, errno: i32) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|io| io.raw_os_error() == Some(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers_for_loopback() {
        let mut netlink = Netlink::open().unwrap();
        let links = netlink.links().unwrap();
        let lo = links.iter().find(|link| link.loopback).unwrap();
        assert_eq!((lo.name.as_str(), lo.mac), ("lo", Some([0; 6])));
        let address = "127.0.0.1".parse().unwrap();
        let route = netlink.route(address, address).unwrap();
        assert!(route.local && route.ifindex == lo.index);
        let nobody = netlink
            .neighbour(lo.index, "127.9.9.9".parse().unwrap())
            .unwrap();
        assert!(nobody.is_none_or(|neighbour| neighbour.mac.is_none_or(|mac| mac == [0; 6])));
    }
}
