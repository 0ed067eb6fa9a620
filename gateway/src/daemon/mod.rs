//! The daemon from start to stop: binds everything, starts the event loop and the HTTP shell, waits for the end.

mod event_loop;

use crate::config::Config;
use crate::http::serve::{self, Listener};
use crate::http::{self, Sessions, Shell};
use crate::media::Media;
use crate::metrics::Metrics;
use crate::resolver::Resolver;
use crate::sip::{self, Transports};
use crate::{certificate, system_random};
use anyhow::{Context as _, Result, bail};
use event_loop::{EventLoop, Sources};
use gateway_core::gateway::Gateway;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::info;

/// Requests that may wait for the event loop; more get 503.
const ASKS: usize = 1024;

/// Runs until a signal stops it or something fails that it cannot go on without.
pub(crate) async fn run(config: Config) -> Result<()> {
    let mut signals = Signals::new()?;
    let mut random = system_random();
    let certificate =
        certificate::load_or_make(config.web.certificate_dir.as_deref(), &mut random)?;
    let (media, media_events) = Media::start(config.media()).context("starting the media plane")?;
    let media = Arc::new(media);
    let settings = sip::Settings {
        udp: config.sip.listen_udp,
        tcp: config.sip.listen_tcp,
        connections: config.limits.sip_connections,
    };
    let (transports, sip_events) = Transports::bind(&settings).await?;
    let (resolver, resolved) = Resolver::new(transports.bound());
    let core = config.core(media.web_addresses(), &transports.bound());
    let gateway = Gateway::new(
        core,
        random,
        Arc::new(certificate),
        Instant::now(),
        SystemTime::now(),
    );

    let metrics = Arc::new(Metrics::new());
    let report = Arc::downgrade(&media);
    metrics.set_datapath(Box::new(move || {
        report.upgrade().map(|media| media.report())
    }));
    let (loop_, asks) = mpsc::channel(ASKS);
    let shell = Shell {
        loop_,
        sessions: Arc::new(Sessions::default()),
        metrics,
        standing: Arc::default(),
    };
    let (stop, stopped) = watch::channel(false);
    let serving = serve_http(&config, &shell, &stopped).await?;

    announce(&media, &transports.bound());
    shell.standing.set_ready();
    let sources = Sources {
        media: media_events,
        sip: sip_events,
        resolved,
        asks,
    };
    let event_loop = EventLoop::new(gateway, media, transports, resolver, &shell);
    let outcome = tokio::select! {
        outcome = event_loop.run(sources, &mut signals) => outcome,
        _ = serving.ended() => Err(anyhow::anyhow!("an HTTP listener ended")),
    };
    stop.send_replace(true);
    serving.finish().await;
    outcome
}

/// Says what runs where, once.
fn announce(media: &Media, sip: &[(gateway_core::sip::Transport, std::net::SocketAddr)]) {
    for address in media.web_addresses() {
        info!(%address, "browsers: ICE, DTLS and media");
    }
    for (transport, address) in sip {
        info!(%address, transport = transport.as_str(), "SIP");
    }
}

/// The tasks of the HTTP listeners.
struct Serving(Vec<tokio::task::JoinHandle<()>>);

impl Serving {
    /// Waits until one of them ends, which none does by itself.
    async fn ended(&self) {
        while self.0.iter().all(|task| !task.is_finished()) {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }

    async fn finish(self) {
        for task in self.0 {
            // A panic has been reported by the panic hook.
            let _ = task.await;
        }
    }
}

async fn serve_http(
    config: &Config,
    shell: &Shell,
    stopped: &watch::Receiver<bool>,
) -> Result<Serving> {
    let tls = match &config.http.tls {
        Some(tls) => Some(serve::tls(&tls.certificate, &tls.key)?),
        None => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let limit = config.limits.http_connections;
    let public = Listener::bind(config.http.listen, tls, limit).await?;
    let admin = Listener::bind(config.http.admin_listen, None, limit).await?;
    info!("pages and API: {scheme}://{}/", public.local()?);
    info!("admin and metrics: http://{}/", admin.local()?);
    let settings = http::Settings {
        cors_origins: config.http.cors_origins.clone(),
        requests_per_second: config.limits.requests_per_second,
        request_burst: config.limits.request_burst,
    };
    let public = public.serve(http::public(shell.clone(), &settings), stopped.clone());
    let admin = admin.serve(http::administration(shell.clone()), stopped.clone());
    Ok(Serving(vec![tokio::spawn(public), tokio::spawn(admin)]))
}

/// The signals that stop the daemon.
pub(crate) struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Result<Self> {
        let all = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let [Ok(interrupt), Ok(terminate), Ok(hangup)] = all.map(signal) else {
            bail!("cannot wait for signals");
        };
        Ok(Self([interrupt, terminate, hangup]))
    }

    /// Waits for the next.
    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
