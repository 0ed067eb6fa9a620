//! Finds a SIP server by its name (RFC 3263): IP literals, `/etc/hosts`, SRV, A and AAAA records.
//!
//! NAPTR is not asked: the transports that we speak are two, and their SRV records are asked directly (RFC 3263 section 4.1 allows
//! that). Called by the event loop for each `SipResolve`; the answer comes back as an event.

use anyhow::{Result, anyhow};
use gateway_core::sip::{QueryId, Resolve, Transport};
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::SRV;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// All of one look-up; SIP's own timers end the transaction later than this.
const LOOKUP_LIMIT: Duration = Duration::from_secs(6);
/// One question to one name server.
const QUESTION_LIMIT: Duration = Duration::from_secs(2);
/// Look-ups at once; more wait.
const AT_ONCE: usize = 64;
/// Most addresses of an answer that are tried.
const TARGETS: usize = 16;
/// SIP's port where nothing else says one (RFC 3261 section 19.1.2).
const SIP_PORT: u16 = 5060;

/// The answer to one look-up.
pub(crate) type Resolved = (QueryId, Result<Vec<(Transport, SocketAddr)>, String>);

/// Looks names up in tasks of its own.
pub(crate) struct Resolver {
    lookup: Arc<Lookup>,
    answers: mpsc::Sender<Resolved>,
}

struct Lookup {
    /// `None` where the host has no DNS configuration: names other than those of `/etc/hosts` are then unknown.
    dns: Option<TokioResolver>,
    /// What we can send from: an address of another family or transport is of no use.
    usable: Vec<(Transport, SocketAddr)>,
    running: Semaphore,
}

impl Resolver {
    /// A resolver with the host's DNS configuration, for the addresses that SIP is spoken from.
    pub(crate) fn new(usable: Vec<(Transport, SocketAddr)>) -> (Self, mpsc::Receiver<Resolved>) {
        let dns = TokioResolver::builder_tokio().and_then(|mut builder| {
            builder.options_mut().timeout = QUESTION_LIMIT;
            builder.options_mut().attempts = 2;
            builder.build()
        });
        if let Err(error) = &dns {
            tracing::warn!(%error, "no DNS configuration: only addresses and /etc/hosts are known");
        }
        let (answers, receiver) = mpsc::channel(AT_ONCE);
        let lookup = Lookup {
            dns: dns.ok(),
            usable,
            running: Semaphore::new(AT_ONCE),
        };
        (
            Self {
                lookup: Arc::new(lookup),
                answers,
            },
            receiver,
        )
    }

    /// Starts a look-up; its answer comes through the channel.
    pub(crate) fn resolve(&self, question: Resolve) {
        let (lookup, answers) = (Arc::clone(&self.lookup), self.answers.clone());
        tokio::spawn(async move {
            let query = question.query;
            let answer = async {
                let _permit = lookup.running.acquire().await?;
                tokio::time::timeout(LOOKUP_LIMIT, lookup.targets(&question)).await?
            };
            let answer = answer
                .await
                .map_err(|error| format!("{}: {error:#}", question.host));
            // The loop is gone when the daemon stops.
            let _ = answers.send((query, answer)).await;
        });
    }
}

impl Lookup {
    async fn targets(&self, question: &Resolve) -> Result<Vec<(Transport, SocketAddr)>> {
        let host = question.host.trim_start_matches('[').trim_end_matches(']');
        let fixed = question.transport.unwrap_or(Transport::Udp);
        let port = question.port.unwrap_or(SIP_PORT);
        let addresses = known_addresses(host).await;
        let targets = if !addresses.is_empty() {
            self.with_port(addresses, fixed, port)
        } else if question.port.is_some() {
            self.with_port(self.addresses(host).await?, fixed, port)
        } else {
            let mut targets = self.by_srv(host, question.transport).await;
            if targets.is_empty() {
                targets = self.with_port(self.addresses(host).await?, fixed, port);
            }
            targets
        };
        if targets.is_empty() {
            return Err(anyhow!(
                "no address that can be reached from where SIP is spoken"
            ));
        }
        Ok(targets.into_iter().take(TARGETS).collect())
    }

    /// SRV records of the transports that are asked for, UDP first where it is open, with their addresses.
    async fn by_srv(
        &self,
        host: &str,
        transport: Option<Transport>,
    ) -> Vec<(Transport, SocketAddr)> {
        let Some(dns) = &self.dns else {
            return Vec::new();
        };
        let mut targets = Vec::new();
        for (candidate, label) in [(Transport::Udp, "_sip._udp"), (Transport::Tcp, "_sip._tcp")] {
            let spoken = self.usable.iter().any(|(usable, _)| *usable == candidate);
            if !spoken || transport.is_some_and(|fixed| fixed != candidate) {
                continue;
            }
            let Ok(found) = dns.srv_lookup(format!("{label}.{host}.")).await else {
                continue;
            };
            let records = found
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::SRV(record) => Some(record.clone()),
                    _ => None,
                });
            for record in ordered(records.collect()) {
                let name = record.target.to_string();
                // A record of a server that is gone must not hide the next one.
                let addresses = match known_addresses(name.trim_end_matches('.')).await {
                    known if !known.is_empty() => known,
                    _ => self.addresses(&name).await.unwrap_or_default(),
                };
                targets.extend(self.with_port(addresses, candidate, record.port));
            }
        }
        targets
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>> {
        let dns = self
            .dns
            .as_ref()
            .ok_or_else(|| anyhow!("not in /etc/hosts, and there is no DNS configuration"))?;
        Ok(dns.lookup_ip(host).await?.iter().collect())
    }

    fn with_port(
        &self,
        addresses: Vec<IpAddr>,
        transport: Transport,
        port: u16,
    ) -> Vec<(Transport, SocketAddr)> {
        let usable = |address: &IpAddr| {
            self.usable
                .iter()
                .any(|(spoken, local)| *spoken == transport && local.is_ipv4() == address.is_ipv4())
        };
        let addresses = addresses.into_iter().filter(usable);
        addresses
            .map(|address| (transport, SocketAddr::new(address, port)))
            .collect()
    }
}

/// Addresses that need no DNS: literals, `localhost` (RFC 6761 section 6.3), and what the operator wrote into `/etc/hosts`.
async fn known_addresses(host: &str) -> Vec<IpAddr> {
    if let Ok(address) = host.parse() {
        return vec![address];
    }
    if host.eq_ignore_ascii_case("localhost") {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    match tokio::fs::read_to_string("/etc/hosts").await {
        Ok(text) => addresses_in_hosts(&text, host),
        Err(_) => Vec::new(),
    }
}

fn addresses_in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|name| name.eq_ignore_ascii_case(host))
            .then_some(address)
    });
    lines.collect()
}

/// By priority; within one priority by weight, the choice among them at random (RFC 2782).
fn ordered(mut records: Vec<SRV>) -> Vec<SRV> {
    let mut random = crate::system_random();
    let mut order = Vec::with_capacity(records.len());
    while let Some(priority) = records.iter().map(|record| record.priority).min() {
        let same = || {
            records
                .iter()
                .enumerate()
                .filter(move |(_, record)| record.priority == priority)
        };
        let total: u32 = same().map(|(_, record)| u32::from(record.weight)).sum();
        let mut point = random.u32() % (total + 1);
        let chosen = same().find(|(_, record)| {
            let weight = u32::from(record.weight);
            let hit = point <= weight;
            point = point.saturating_sub(weight);
            hit
        });
        let index = chosen.map_or(0, |(index, _)| index);
        order.push(records.remove(index));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::rr::Name;

    fn usable(text: &[(&str, Transport)]) -> Lookup {
        let usable = text
            .iter()
            .map(|(addr, transport)| (*transport, addr.parse().unwrap()))
            .collect();
        Lookup {
            dns: None,
            usable,
            running: Semaphore::new(1),
        }
    }

    async fn targets(
        lookup: &Lookup,
        host: &str,
        port: Option<u16>,
        transport: Option<Transport>,
    ) -> Vec<String> {
        let (addresses, fixed) = (
            known_addresses(host).await,
            transport.unwrap_or(Transport::Udp),
        );
        let found = lookup.with_port(addresses, fixed, port.unwrap_or(SIP_PORT));
        found
            .iter()
            .map(|(transport, addr)| format!("{} {addr}", transport.as_str()))
            .collect()
    }

    #[tokio::test]
    async fn literals_and_localhost_need_no_dns_and_keep_to_our_families() {
        let both = usable(&[
            ("127.0.0.1:5060", Transport::Udp),
            ("[::1]:5060", Transport::Tcp),
        ]);
        assert_eq!(
            targets(&both, "192.0.2.7", None, None).await,
            ["UDP 192.0.2.7:5060"]
        );
        assert_eq!(
            targets(&both, "localhost", Some(5070), None).await,
            ["UDP 127.0.0.1:5070"]
        );
        assert_eq!(
            targets(&both, "localhost", None, Some(Transport::Tcp)).await,
            ["TCP [::1]:5060"]
        );
        assert!(targets(&both, "2001:db8::1", None, None).await.is_empty());
    }

    #[test]
    fn hosts_file_lines_may_have_aliases_and_comments() {
        let text = "# 10.0.0.9 pbx\n10.0.0.1 pbx.example PBX # 2\n::1 ip6\n10.0.0.2 other pbx\n";
        let found = addresses_in_hosts(text, "pbx");
        assert_eq!(
            found,
            [
                "10.0.0.1".parse::<IpAddr>().unwrap(),
                "10.0.0.2".parse().unwrap()
            ]
        );
    }

    #[test]
    fn srv_records_go_by_priority_and_each_is_tried() {
        let record = |priority, weight, port| SRV::new(priority, weight, port, Name::root());
        for _ in 0..50 {
            let order = ordered(vec![record(20, 0, 1), record(10, 60, 2), record(10, 0, 3)]);
            let ports: Vec<_> = order.iter().map(|record| record.port).collect();
            assert!(ports == [2, 3, 1] || ports == [3, 2, 1], "{ports:?}");
        }
    }
}
