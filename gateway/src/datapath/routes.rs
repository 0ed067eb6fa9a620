//! By which interface and with which MAC addresses a flow's packets leave, kept fresh by netlink events.
//!
//! XDP sends whole Ethernet frames, so the daemon looks up once what the kernel would look up for each packet. Neighbours
//! that flows use are confirmed again and again: the stack does not see the packets, so it would forget them.

use super::netlink::{Change, Link, Neighbour, Netlink, Watch};
use flow::{Egress, Exit};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// How often neighbours in use are confirmed.
const CONFIRM: Duration = Duration::from_secs(20);
/// How often an unanswered resolution is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// How often it is checked which of these are due.
const TICK: Duration = Duration::from_secs(1);
/// Route changes come in bursts: flows are looked up again once for all that come within this time.
const SETTLE: Duration = Duration::from_millis(200);
/// Hop limit of packets that leave, RFC 1122 section 3.2.1.7's recommended default.
const TTL: u8 = 64;

/// Names a neighbour: interface and address of the next hop.
pub(crate) type NeighbourKey = (u32, IpAddr);

/// How packets of a flow leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Hop {
    /// By an interface.
    Wire(Wire),
    /// To another flow of this host, within the program.
    Hairpin,
}

/// An interface and a next hop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wire {
    /// The interface that the frame leaves by, below any VLAN interface.
    pub(crate) ifindex: u32,
    /// Its name.
    pub(crate) interface: String,
    source_mac: [u8; 6],
    destination_mac: [u8; 6],
    vlan: Option<u16>,
    mtu: u16,
    /// Whose MAC address it is; `None` on loopback.
    pub(crate) neighbour: Option<NeighbourKey>,
}

/// Why packets cannot leave by XDP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Not now: the neighbour is being resolved.
    Waiting(NeighbourKey, String),
    /// Not with the routes and addresses as they are.
    Never(String),
}

impl Refusal {
    /// The sentence for the flow's path.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Waiting(_, reason) | Self::Never(reason) => reason,
        }
    }
}

/// What an event means for the flows.
#[derive(Default, PartialEq, Eq, Debug)]
pub(crate) struct Changes {
    /// Neighbours whose MAC address is new, different or gone.
    pub(crate) neighbours: Vec<NeighbourKey>,
    /// Every flow has to be looked up again.
    pub(crate) routes: bool,
}

/// The routes of this network namespace.
pub(crate) struct Routes {
    netlink: Netlink,
    watch: Watch,
    links: HashMap<u32, Link>,
    neighbours: HashMap<NeighbourKey, Watched>,
    /// Interfaces with our XDP program.
    attached: HashSet<u32>,
    routes_changed_at: Option<Instant>,
    tick_at: Instant,
}

struct Watched {
    mac: Option<[u8; 6]>,
    asked_at: Instant,
}

impl Routes {
    /// For the network namespace of the calling thread.
    ///
    /// # Errors
    /// Netlink cannot be had.
    pub(crate) fn open(attached: HashSet<u32>) -> anyhow::Result<Self> {
        // Watched first, so that nothing changes unseen between the two.
        let watch = Watch::open()?;
        let mut routes = Self {
            netlink: Netlink::open()?,
            watch,
            links: HashMap::new(),
            neighbours: HashMap::new(),
            attached,
            routes_changed_at: None,
            tick_at: Instant::now() + TICK,
        };
        routes.read_links()?;
        Ok(routes)
    }

    /// Whether an interface is loopback.
    pub(crate) fn is_loopback(&self, ifindex: u32) -> bool {
        self.links.get(&ifindex).is_some_and(|link| link.loopback)
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.watch.fd()
    }

    fn read_links(&mut self) -> anyhow::Result<()> {
        let links = self.netlink.links()?;
        self.links = links.into_iter().map(|link| (link.index, link)).collect();
        Ok(())
    }

    /// How packets from `local` to `remote` leave, and whether packets from there to here come by XDP at all.
    pub(crate) fn resolve(
        &mut self,
        local: IpAddr,
        remote: IpAddr,
        now: Instant,
    ) -> Result<Wire, Refusal> {
        let route = self.netlink.route(local, remote).map_err(|error| {
            Refusal::Never(format!(
                "there is no route from {local} to {remote}: {error}"
            ))
        })?;
        let Some(link) = self.links.get(&route.ifindex).cloned() else {
            self.routes_changed_at.get_or_insert(now);
            return Err(Refusal::Never(format!(
                "interface number {} is not known yet",
                route.ifindex
            )));
        };
        let (ifindex, vlan) = link
            .vlan
            .map_or((link.index, None), |(below, id)| (below, Some(id)));
        if !self.attached.contains(&ifindex) {
            return Err(Refusal::Never(if route.local {
                format!(
                    "{remote} is an address of this host, and packets within it pass no XDP interface"
                )
            } else {
                format!(
                    "packets to {remote} leave by {}, which has no XDP program",
                    link.name
                )
            }));
        }
        let mtu = link.mtu.min(route.mtu.unwrap_or(u32::MAX));
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        let Some(source_mac) = link.mac else {
            return Err(Refusal::Never(format!(
                "{} is no Ethernet interface",
                link.name
            )));
        };
        let wire = Wire {
            ifindex,
            interface: link.name.clone(),
            source_mac,
            destination_mac: [0; 6],
            vlan,
            mtu,
            neighbour: None,
        };
        if link.loopback {
            return Ok(wire);
        }
        let key = (link.index, route.gateway.unwrap_or(remote));
        let Some(destination_mac) = self.mac_of(key, now) else {
            let reason = format!(
                "the MAC address of {} on {} is being resolved",
                key.1, link.name
            );
            return Err(Refusal::Waiting(key, reason));
        };
        Ok(Wire {
            destination_mac,
            neighbour: Some(key),
            ..wire
        })
    }

    /// The MAC address of a neighbour, which is watched from now on.
    fn mac_of(&mut self, key: NeighbourKey, now: Instant) -> Option<[u8; 6]> {
        if let Some(watched) = self.neighbours.get(&key) {
            return watched.mac;
        }
        let known = self
            .netlink
            .neighbour(key.0, key.1)
            .unwrap_or_else(|error| {
                tracing::warn!(neighbour = %key.1, %error, "neighbour look-up failed");
                None
            });
        let mac = known.and_then(|neighbour| neighbour.mac);
        self.neighbours.insert(key, Watched { mac, asked_at: now });
        self.confirm(key);
        mac
    }

    /// Takes what netlink has to tell.
    pub(crate) fn handle_netlink(&mut self, now: Instant) -> Changes {
        let mut changes = Changes::default();
        for change in self.watch.poll() {
            match change {
                Change::Routes => {
                    self.routes_changed_at.get_or_insert(now);
                }
                Change::Neighbour(neighbour) => self.note(&neighbour, &mut changes, now),
            }
        }
        changes
    }

    fn note(&mut self, neighbour: &Neighbour, changes: &mut Changes, now: Instant) {
        let key = (neighbour.ifindex, neighbour.address);
        let Some(watched) = self.neighbours.get_mut(&key) else {
            return;
        };
        if watched.mac == neighbour.mac {
            return;
        }
        watched.mac = neighbour.mac;
        changes.neighbours.push(key);
        if neighbour.mac.is_none() {
            // Forgotten or unreachable while flows use it: asked for again soon, not at once, or a dead host makes a storm.
            watched.asked_at = now;
        }
    }

    /// Confirms neighbours, asks again for missing ones, forgets those not in `used`, and answers whether routes changed and
    /// have settled.
    pub(crate) fn handle_timeout(&mut self, used: &HashSet<NeighbourKey>, now: Instant) -> bool {
        if now >= self.tick_at {
            self.tick_at = now + TICK;
            self.neighbours.retain(|key, _| used.contains(key));
            let due = self
                .neighbours
                .iter_mut()
                .filter(|(_, watched)| now >= watched.due());
            let due: Vec<_> = due
                .map(|(key, watched)| {
                    watched.asked_at = now;
                    *key
                })
                .collect();
            for key in due {
                self.confirm(key);
            }
        }
        if self.routes_changed_at.is_none_or(|at| now < at + SETTLE) {
            return false;
        }
        self.routes_changed_at = None;
        if let Err(error) = self.read_links() {
            tracing::warn!(%error, "interfaces cannot be read");
        }
        true
    }

    /// When to call [`Self::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Instant {
        let settled = self.routes_changed_at.map(|at| at + SETTLE);
        settled.map_or(self.tick_at, |at| at.min(self.tick_at))
    }

    /// Whether packets from `remote` to `local` come in by the interface `arrival`, as far as our own routes tell.
    pub(crate) fn arrives(
        &mut self,
        local: IpAddr,
        remote: IpAddr,
        arrival: u32,
    ) -> Result<(), Refusal> {
        let loopback = self.is_loopback(arrival);
        // No route back says nothing about the way here.
        let within = self
            .netlink
            .route(local, remote)
            .is_ok_and(|route| route.local);
        if within && !loopback {
            return Err(Refusal::Never(format!(
                "{remote} is an address of this host, and packets within it pass no XDP interface"
            )));
        }
        Ok(())
    }

    fn confirm(&mut self, (ifindex, address): NeighbourKey) {
        if let Err(error) = self.netlink.use_neighbour(ifindex, address) {
            tracing::debug!(neighbour = %address, %error, "neighbour cannot be resolved");
        }
    }
}

impl Watched {
    fn due(&self) -> Instant {
        let period = if self.mac.is_some() {
            CONFIRM
        } else {
            ASK_AGAIN
        };
        self.asked_at + period
    }
}

impl Hop {
    /// Whose MAC address the frames carry.
    pub(crate) fn neighbour(&self) -> Option<NeighbourKey> {
        match self {
            Self::Wire(wire) => wire.neighbour,
            Self::Hairpin => None,
        }
    }

    /// The leaving side of an entry; `alone` if there is one interface with the program only.
    pub(crate) fn egress(&self, alone: bool) -> Egress {
        let Self::Wire(wire) = self else {
            return Egress {
                exit: Exit::Hairpin,
                ..Egress::socket(u16::MAX)
            };
        };
        Egress {
            exit: if alone {
                Exit::Tx
            } else {
                Exit::Redirect(wire.ifindex)
            },
            source_mac: wire.source_mac,
            destination_mac: wire.destination_mac,
            vlan: wire.vlan,
            ttl: TTL,
            mtu: wire.mtu,
        }
    }
}
