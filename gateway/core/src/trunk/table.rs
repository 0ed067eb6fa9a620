//! All trunks with what goes on at them: which one a call takes, how many there are, and which targets are alive.

use super::{Network, Trunk};
use crate::api::{TargetView, TrunkView};
use crate::sdp::SrtpUse;
use crate::sip::{self, OutboundProxy, Stack, Transport, WatchHandle};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// See the module. The last one is the default.
pub(crate) struct Trunks {
    all: Vec<Standing>,
}

struct Standing {
    trunk: Arc<Trunk>,
    sources: Vec<Network>,
    calls: usize,
    rate: Rate,
    watch: Option<WatchHandle>,
    targets: BTreeMap<(Transport, SocketAddr), bool>,
}

/// A bucket of calls that fills up with the time, for one second at most.
struct Rate {
    left: f64,
    at: Instant,
}

/// A limit of a trunk is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Calls at once.
    Calls,
    /// Calls per second.
    Rate,
}

impl Trunks {
    /// Begins to watch those that are to be watched.
    pub(crate) fn new(now: Instant, all: Vec<Trunk>, domain: &str, stack: &mut Stack) -> Self {
        let standing = |mut trunk: Trunk| {
            if trunk.srtp.usage == SrtpUse::Dtls {
                // Its media are audio alone.
                trunk.codecs.video.clear();
            }
            let watch = trunk.watch.filter(|_| !trunk.proxies.is_empty());
            let watch = watch.map(|every| {
                let host = trunk.domain.as_deref().unwrap_or(domain);
                let watch = sip::Watch {
                    proxies: Arc::clone(&trunk.proxies),
                    uri: format!("sip:{host}"),
                    every,
                };
                stack.watch(now, watch)
            });
            Standing {
                sources: sources(&trunk),
                rate: Rate {
                    left: trunk.calls_per_second.unwrap_or_default().into(),
                    at: now,
                },
                calls: 0,
                watch,
                targets: BTreeMap::new(),
                trunk: Arc::new(trunk),
            }
        };
        Self {
            all: all.into_iter().map(standing).collect(),
        }
    }

    /// The trunk over which an address (`sip:user@host`) is called; `domain` is that of patterns without a host.
    pub(crate) fn to(&self, address: &str, domain: &str) -> Arc<Trunk> {
        let (_, place) = address.split_once(':').unwrap_or(("", address));
        let (default, others) = self.all.split_last().expect("there is a default trunk");
        let covers = |standing: &&Standing| {
            let mut destinations = standing.trunk.destinations.iter();
            destinations.any(|callee| callee.covers(place, domain))
        };
        let found = others.iter().find(covers).unwrap_or(default);
        Arc::clone(&found.trunk)
    }

    /// The trunk that calls come from at an address.
    pub(crate) fn from(&self, source: IpAddr) -> Option<Arc<Trunk>> {
        let has = |standing: &&Standing| standing.sources.iter().any(|network| network.has(source));
        self.all
            .iter()
            .find(has)
            .map(|found| Arc::clone(&found.trunk))
    }

    /// Counts a call, if the trunk's limits allow another one; [`Self::release`] takes it back.
    pub(crate) fn admit(&mut self, now: Instant, trunk: &Arc<Trunk>) -> Result<(), Over> {
        let Some(standing) = self.standing(trunk) else {
            return Ok(());
        };
        if trunk.calls.is_some_and(|most| standing.calls >= most) {
            return Err(Over::Calls);
        }
        if let Some(rate) = trunk.calls_per_second
            && !standing.rate.take(now, rate)
        {
            return Err(Over::Rate);
        }
        standing.calls += 1;
        Ok(())
    }

    /// A call that was admitted is over.
    pub(crate) fn release(&mut self, trunk: &Arc<Trunk>) {
        if let Some(standing) = self.standing(trunk) {
            standing.calls = standing.calls.saturating_sub(1);
        }
    }

    /// A target answers, or does not any more.
    pub(crate) fn target(
        &mut self,
        watch: WatchHandle,
        target: (Transport, SocketAddr),
        alive: Option<bool>,
    ) {
        let Some(standing) = self
            .all
            .iter_mut()
            .find(|standing| standing.watch == Some(watch))
        else {
            return;
        };
        let (name, addr) = (&standing.trunk.name, target.1);
        match alive {
            Some(true) => tracing::info!(trunk = name, %addr, "SIP server answers"),
            Some(false) => tracing::warn!(trunk = name, %addr, "SIP server does not answer"),
            None => tracing::info!(trunk = name, %addr, "SIP server is not named by DNS any more"),
        }
        match alive {
            Some(alive) => standing.targets.insert(target, alive),
            None => standing.targets.remove(&target),
        };
    }

    /// For the admin side and metrics, in the order of the configuration, the default last.
    pub(crate) fn views(&self) -> Vec<TrunkView> {
        let views = self.all.iter().map(|standing| TrunkView {
            name: standing.trunk.name.clone(),
            calls: standing.calls,
            targets: standing
                .targets
                .iter()
                .map(|((transport, addr), alive)| TargetView {
                    transport: transport.as_str().to_ascii_lowercase(),
                    address: addr.to_string(),
                    alive: *alive,
                })
                .collect(),
        });
        views.collect()
    }

    fn standing(&mut self, trunk: &Arc<Trunk>) -> Option<&mut Standing> {
        let mut all = self.all.iter_mut();
        all.find(|standing| Arc::ptr_eq(&standing.trunk, trunk))
    }
}

impl Rate {
    fn take(&mut self, now: Instant, per_second: u32) -> bool {
        let passed = now
            .saturating_duration_since(self.at)
            .min(Duration::from_secs(1));
        let most = f64::from(per_second);
        self.left = (self.left + passed.as_secs_f64() * most).min(most);
        self.at = now;
        let has = self.left >= 1.0;
        if has {
            self.left -= 1.0;
        }
        has
    }
}

/// What is configured, and the proxies that are addresses.
fn sources(trunk: &Trunk) -> Vec<Network> {
    let address = |proxy: &OutboundProxy| {
        let host = proxy.host.trim_start_matches('[').trim_end_matches(']');
        host.parse().ok().map(Network::host)
    };
    let proxies = trunk.proxies.iter().filter_map(address);
    trunk.sources.iter().copied().chain(proxies).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_a_second_s_worth_through_at_once_and_then_its_share() {
        let start = Instant::now();
        let mut rate = Rate {
            left: 2.0,
            at: start,
        };
        let taken: Vec<bool> = [0, 0, 0, 400, 600, 700, 10_000, 10_000, 10_000]
            .map(|ms| rate.take(start + Duration::from_millis(ms), 2))
            .to_vec();
        assert_eq!(
            taken,
            [true, true, false, false, true, false, true, true, false]
        );
    }
}
