//! Two listeners cannot have one address: told at the line, before the second bind fails with less to say.

use super::ConfigError;
use super::read::Source;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};

/// The addresses that the daemon is told to listen on.
#[derive(Default)]
pub(super) struct Listeners {
    tcp: Vec<Listener>,
    udp: Vec<Listener>,
    rtp: Option<(IpAddr, RangeInclusive<u16>)>,
}

struct Listener {
    key: &'static str,
    addr: SocketAddr,
    span: Range<usize>,
}

impl Listeners {
    pub(super) fn tcp(&mut self, key: &'static str, addr: SocketAddr, span: &Range<usize>) {
        self.tcp.push(Listener {
            key,
            addr,
            span: span.clone(),
        });
    }

    pub(super) fn udp(&mut self, key: &'static str, addr: SocketAddr, span: &Range<usize>) {
        self.udp.push(Listener {
            key,
            addr,
            span: span.clone(),
        });
    }

    pub(super) fn rtp(&mut self, address: IpAddr, ports: RangeInclusive<u16>) {
        self.rtp = Some((address, ports));
    }
}

/// Refuses listeners that exclude each other.
pub(super) fn check(source: &Source<'_>, listeners: &Listeners) -> Result<(), ConfigError> {
    for all in [&listeners.tcp, &listeners.udp] {
        for (index, one) in all.iter().enumerate() {
            if let Some(other) = all[..index]
                .iter()
                .find(|other| overlap(one.addr, other.addr))
            {
                // The default of one key may meet the value of the other: point at what was written.
                let (at, key, met) = if one.span.is_empty() {
                    (other, other.key, one)
                } else {
                    (one, one.key, other)
                };
                let what = format!("is the address {} of `{}`", met.addr, met.key);
                return Err(source.error(&at.span, key, &what));
            }
        }
    }
    let Some((address, ports)) = &listeners.rtp else {
        return Ok(());
    };
    let within = |one: &&Listener| {
        ports.contains(&one.addr.port())
            && overlap(one.addr, SocketAddr::new(*address, one.addr.port()))
    };
    match listeners.udp.iter().find(within) {
        None => Ok(()),
        Some(one) => {
            let what = format!(
                "lies within `rtp.ports` {}-{} of the same address",
                ports.start(),
                ports.end()
            );
            Err(source.error(&one.span, one.key, &what))
        }
    }
}

/// Whether two sockets of one protocol cannot both be bound. Port 0 means any free one.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port()
        && a.port() != 0
        && a.is_ipv4() == b.is_ipv4()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
