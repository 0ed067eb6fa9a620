//! Finds a SIP server by its name (RFC 3263): IP literals, `/etc/hosts`, NAPTR, SRV, A and AAAA records.
//!
//! A name with neither port nor transport: its NAPTR records say which transports it has and in which order; without any, the SRV
//! records of each transport that we speak are asked; without those, its addresses. Called by the event loop for each `SipResolve`; the
//! answer comes back as an event.

use anyhow::{Result, anyhow};
use gateway_core::sip::{QueryId, Resolve, Transport};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::{NAPTR, SRV};
use hickory_resolver::proto::rr::{RData, RecordType};
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
/// Transports in the order in which they are asked where nothing else says one, with the label of their SRV records and the service
/// of their NAPTR records (RFC 3263 section 4.1).
const TRANSPORTS: [(Transport, &str, &str); 3] = [
    (Transport::Udp, "_sip._udp", "SIP+D2U"),
    (Transport::Tcp, "_sip._tcp", "SIP+D2T"),
    (Transport::Tls, "_sips._tcp", "SIPS+D2T"),
];

/// The answer to one look-up.
pub(crate) struct Resolved {
    pub(crate) query: QueryId,
    /// The name that was asked for.
    pub(crate) host: String,
    /// Where it is, best first.
    pub(crate) targets: Result<Vec<(Transport, SocketAddr)>, String>,
}

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
    /// A resolver that asks these servers, or without any those of the host's DNS configuration, for the addresses that SIP is spoken
    /// from.
    pub(crate) fn new(
        usable: Vec<(Transport, SocketAddr)>,
        servers: &[SocketAddr],
    ) -> (Self, mpsc::Receiver<Resolved>) {
        let builder = if servers.is_empty() {
            TokioResolver::builder_tokio()
        } else {
            let servers = servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            let provider = TokioRuntimeProvider::default();
            Ok(TokioResolver::builder_with_config(config, provider))
        };
        let dns = builder.and_then(|mut builder| {
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
                tokio::time::timeout(
                    LOOKUP_LIMIT,
                    lookup.targets(&question.host, question.port, question.transport),
                )
                .await?
            };
            let targets = answer
                .await
                .map_err(|error| format!("{}: {error:#}", question.host));
            let host = question.host;
            let resolved = Resolved {
                query,
                host,
                targets,
            };
            // The loop is gone when the daemon stops.
            let _ = answers.send(resolved).await;
        });
    }
}

impl Lookup {
    async fn targets(
        &self,
        host: &str,
        port: Option<u16>,
        transport: Option<Transport>,
    ) -> Result<Vec<(Transport, SocketAddr)>> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let fixed = transport.unwrap_or_else(|| self.usual());
        let number = port.unwrap_or_else(|| fixed.default_port());
        let addresses = known_addresses(host).await;
        let targets = if !addresses.is_empty() {
            self.with_port(addresses, fixed, number)
        } else if port.is_some() {
            self.with_port(self.addresses(host).await?, fixed, number)
        } else {
            let mut targets = self.by_records(host, transport).await;
            if targets.is_empty() {
                targets = self.with_port(self.addresses(host).await?, fixed, number);
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

    /// The first transport that we speak.
    fn usual(&self) -> Transport {
        let spoken = TRANSPORTS
            .iter()
            .find(|(transport, ..)| self.speaks(*transport));
        spoken.map_or(Transport::Udp, |(transport, ..)| *transport)
    }

    fn speaks(&self, transport: Transport) -> bool {
        self.usable.iter().any(|(usable, _)| *usable == transport)
    }

    /// Targets by NAPTR and SRV, or by SRV alone, with their addresses.
    async fn by_records(
        &self,
        host: &str,
        transport: Option<Transport>,
    ) -> Vec<(Transport, SocketAddr)> {
        let Some(dns) = &self.dns else {
            return Vec::new();
        };
        let mut names = match transport {
            None => self.naptr(dns, host).await,
            Some(_) => Vec::new(),
        };
        if names.is_empty() {
            let asked = TRANSPORTS.iter().filter(|(candidate, ..)| {
                self.speaks(*candidate) && transport.is_none_or(|fixed| fixed == *candidate)
            });
            names = asked
                .map(|(candidate, label, _)| (*candidate, format!("{label}.{host}.")))
                .collect();
        }
        let mut targets = Vec::new();
        for (candidate, name) in names {
            targets.extend(self.by_srv(dns, candidate, name).await);
        }
        targets
    }

    /// Transports and SRV names that the NAPTR records of a host give, those that we speak, best first (RFC 3403 section 4.1).
    async fn naptr(&self, dns: &TokioResolver, host: &str) -> Vec<(Transport, String)> {
        let Ok(found) = dns.lookup(format!("{host}."), RecordType::NAPTR).await else {
            return Vec::new();
        };
        let records = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::NAPTR(record) => Some(record.clone()),
                _ => None,
            });
        self.services(records.collect())
    }

    fn services(&self, mut records: Vec<NAPTR>) -> Vec<(Transport, String)> {
        records.sort_by_key(|record| (record.order, record.preference));
        let service = |record: &NAPTR| {
            let (transport, ..) = TRANSPORTS
                .iter()
                .find(|(.., service)| record.services.eq_ignore_ascii_case(service.as_bytes()))?;
            // "s": what stands there is the name of SRV records.
            let leads_on = record.flags.eq_ignore_ascii_case(b"s") && self.speaks(*transport);
            leads_on.then(|| (*transport, record.replacement.to_string()))
        };
        records
            .iter()
            .filter_map(service)
            .take(TRANSPORTS.len())
            .collect()
    }

    async fn by_srv(
        &self,
        dns: &TokioResolver,
        transport: Transport,
        name: String,
    ) -> Vec<(Transport, SocketAddr)> {
        let Ok(found) = dns.srv_lookup(name).await else {
            return Vec::new();
        };
        let records = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(record) => Some(record.clone()),
                _ => None,
            });
        let mut targets = Vec::new();
        for record in ordered(records.collect()) {
            let name = record.target.to_string();
            // A record of a server that is gone must not hide the next one.
            let addresses = match known_addresses(name.trim_end_matches('.')).await {
                known if !known.is_empty() => known,
                _ => self.addresses(&name).await.unwrap_or_default(),
            };
            targets.extend(self.with_port(addresses, transport, record.port));
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

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
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
        let found = lookup
            .targets(host, port, transport)
            .await
            .unwrap_or_default();
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
        let secured = usable(&[("127.0.0.1:5061", Transport::Tls)]);
        assert_eq!(
            targets(&secured, "192.0.2.7", None, None).await,
            ["TLS 192.0.2.7:5061"]
        );
    }

    #[test]
    fn naptr_records_say_which_transports_and_in_which_order() {
        let record = |order, preference, flags: &[u8], services: &[u8], name: &str| {
            let replacement = Name::from_ascii(name).unwrap();
            NAPTR::new(
                order,
                preference,
                flags.into(),
                services.into(),
                Box::default(),
                replacement,
            )
        };
        let records = vec![
            record(50, 50, b"s", b"SIP+D2T", "_sip._tcp.example.org."),
            record(20, 10, b"S", b"SIPS+d2t", "_sips._tcp.example.org."),
            record(10, 10, b"s", b"SIP+D2S", "_sip._sctp.example.org."),
            record(90, 50, b"u", b"SIP+D2U", "_sip._udp.example.org."),
        ];
        let all = usable(&[
            ("127.0.0.1:5060", Transport::Udp),
            ("127.0.0.1:5060", Transport::Tcp),
            ("127.0.0.1:5061", Transport::Tls),
        ]);
        let expected = [
            (Transport::Tls, "_sips._tcp.example.org.".to_owned()),
            (Transport::Tcp, "_sip._tcp.example.org.".to_owned()),
        ];
        assert_eq!(all.services(records.clone()), expected);
        let tcp = usable(&[("127.0.0.1:5060", Transport::Tcp)]);
        assert_eq!(tcp.services(records), expected[1..]);
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
