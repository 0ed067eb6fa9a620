//! The daemon from start to stop: binds everything, starts the event loop and the HTTP shell, waits for the end.

mod event_loop;
#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::http::ice_servers::IceServers;
use crate::http::serve::{self, Listener};
use crate::http::{self, Shell};
use crate::ice_tcp;
use crate::media::Media;
use crate::metrics::Metrics;
use crate::resolver::Resolver;
use crate::sip::{self, Transports};
use crate::{certificate, system_random};
use anyhow::{Context as _, Result, anyhow};
use event_loop::{EventLoop, Sources};
use gateway_core::gateway::Gateway;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::info;

/// Requests that may wait for the event loop; more get 503.
const ASKS: usize = 1024;

/// Connections by TCP that there may be of each call: a page that restarts ICE opens a new one before the old one is gone.
const CONNECTIONS_OF_A_CALL: usize = 2;

/// Runs until a signal stops it or something fails that it cannot go on without.
pub(crate) async fn run(config: Config) -> Result<()> {
    let stop = stop_signals()?;
    Daemon::start(config).await?.serve(stop).await
}

/// Everything bound and ready, before the first event.
struct Daemon {
    event_loop: EventLoop,
    sources: Sources,
    serving: Serving,
    /// Where pages and API, and the admin API, are really served.
    #[cfg(test)]
    addresses: (SocketAddr, SocketAddr),
}

impl Daemon {
    async fn start(config: Config) -> Result<Self> {
        let mut random = system_random();
        let directory = config.web.certificate_dir.as_deref();
        let certificate = certificate::load_or_make(directory, &mut random)?;
        let media = Media::start(config.media()).context("starting the media plane")?;
        let (media, media_events) = (Arc::new(media.0), media.1);
        let settings = sip::Settings {
            udp: config.sip.listen_udp,
            tcp: config.sip.listen_tcp,
            tls: config.sip.tls.clone(),
            connections: config.limits.sip_connections,
        };
        let (transports, sip_events) = Transports::bind(&settings).await?;
        let (resolver, resolved) = Resolver::new(transports.bound(), &config.sip.name_servers);
        let core = config.core(media.web_addresses(), &transports.bound());
        let now = (Instant::now(), SystemTime::now());
        let gateway = Gateway::new(core, random, Arc::new(certificate), now.0, now.1);

        let metrics = Arc::new(Metrics::new());
        let report = Arc::downgrade(&media);
        metrics.set_datapath(Box::new(move || {
            report.upgrade().map(|media| media.report())
        }));
        let (loop_, asks) = mpsc::channel(ASKS);
        let tokens = config.tokens.clone().map(http::token::Tokens::load);
        let shell = Shell {
            loop_,
            sessions: Arc::default(),
            metrics,
            standing: Arc::default(),
            roap: Arc::default(),
            whip: Arc::default(),
            tokens: tokens.transpose()?.map(Arc::new),
            ice: Arc::new(IceServers::load(&config.web.ice)?),
        };
        announce(&media, &transports.bound());
        let serving = Serving::start(&config, &shell, media.web_addresses()).await?;
        shell.standing.set_ready();
        Ok(Self {
            event_loop: EventLoop::new(gateway, media, transports, resolver, &shell),
            sources: Sources {
                media: media_events,
                sip: sip_events,
                resolved,
                asks,
            },
            #[cfg(test)]
            addresses: serving.addresses,
            serving,
        })
    }

    /// Runs until `stop` says so, or until a listener ends, which none does by itself.
    async fn serve(self, mut stop: mpsc::Receiver<()>) -> Result<()> {
        let mut serving = self.serving;
        let outcome = tokio::select! {
            outcome = self.event_loop.run(self.sources, &mut stop) => outcome,
            _ = serving.tasks.join_next() => Err(anyhow!("an HTTP listener ended")),
        };
        serving.finish().await;
        outcome
    }
}

/// Says what runs where, once.
fn announce(media: &Media, sip: &[(gateway_core::sip::Transport, SocketAddr)]) {
    for address in media.web_addresses() {
        info!(%address, "browsers: ICE, DTLS and media");
    }
    for (transport, address) in sip {
        info!(%address, transport = transport.as_str(), "SIP");
    }
}

/// The HTTP listeners.
struct Serving {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    /// Public, admin.
    #[cfg(test)]
    addresses: (SocketAddr, SocketAddr),
}

impl Serving {
    /// `web` is where browsers' UDP sockets are.
    async fn start(config: &Config, shell: &Shell, web: &[SocketAddr]) -> Result<Self> {
        let tls = match &config.http.tls {
            Some(files) => Some(serve::tls(files.clone())?),
            None => None,
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let limit = config.limits.http_connections;
        let public = Listener::bind(config.http.listen, tls, limit).await?;
        let admin = Listener::bind(config.http.admin_listen, None, limit).await?;
        let addresses = (public.local()?, admin.local()?);
        info!("pages and API: {scheme}://{}/", addresses.0);
        info!("admin and metrics: http://{}/", addresses.1);
        let settings = http::Settings {
            cors_origins: config.http.cors_origins.clone(),
            requests_per_second: config.limits.requests_per_second,
            request_burst: config.limits.request_burst,
            sockets: config.limits.http_connections,
        };
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(public.serve(http::public(shell.clone(), &settings), stopped.clone()));
        tasks.spawn(admin.serve(http::administration(shell.clone()), stopped.clone()));
        for address in &config.web.listen_tcp {
            let udp = web.iter().find(|web| web.is_ipv4());
            let udp = *udp.context("`web.listen_tcp` needs an IPv4 address in `web.listen`")?;
            let connections = config.limits.calls.saturating_mul(CONNECTIONS_OF_A_CALL);
            let metrics = Arc::clone(&shell.metrics);
            let listener = ice_tcp::Listener::bind(*address, udp, connections, metrics).await?;
            info!(address = %listener.local()?, "browsers by TCP");
            tasks.spawn(listener.serve(stopped.clone()));
        }
        Ok(Self {
            tasks,
            stop,
            #[cfg(test)]
            addresses,
        })
    }

    /// Closes the listeners and lets open connections finish.
    async fn finish(mut self) {
        self.stop.send_replace(true);
        // A panic of one has been reported by the panic hook.
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Tells of each signal that stops the daemon.
fn stop_signals() -> Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel(4);
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let mut signal = signal(kind).context("waiting for signals")?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signal.recv().await.is_some() && sender.send(()).await.is_ok() {}
        });
    }
    Ok(receiver)
}
