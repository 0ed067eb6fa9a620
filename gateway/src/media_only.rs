//! `causeway media`: the media plane alone, with flows from standard input, for the comparisons of `causeway-bench`.
//!
//! Why in the daemon: what is measured must be the datapath as it is deployed, with its thread, sockets, routes and maps, and not
//! a copy of it. The first line of standard input is a [`Setup`], answered by one line of [`Ready`] when every flow is where
//! it will stay; at the end of the input one line of [`Finished`] follows. Hidden from the help: it is no interface for operators.

use crate::datapath::{self, Mode};
use crate::media::{Media, MediaConfig, MediaEvent};
use anyhow::{Context as _, Result, bail};
use flow::{
    ActionSpec, ExtensionMap, FlowKey, FlowSnapshot, FlowSpec, MediumSpec, PayloadMap, STREAMS,
    StreamSource, StreamSpec, Suite,
};
use gateway_core::api::{CallId, PathView};
use gateway_core::gateway::{FlowId, MediaPorts};
use gateway_core::rtp::{MasterKeys, split_dtls_export};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Write};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// How long ports and counters may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Flows that wait for a neighbour move within this time; a path that has not changed for so long is final.
const SETTLE: Duration = Duration::from_millis(500);

/// What is to be measured.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setup {
    mode: Mode,
    pin_dir: PathBuf,
    keystream_mib: u32,
    cpus: datapath::Cpus,
    web: SocketAddr,
    rtp_address: IpAddr,
    rtp_ports: RangeInclusive<u16>,
    /// SRTP on the browser's side; without it that is RTP.
    dtls_export: Option<Keys>,
    /// SRTP that leaves on the SIP side; without it that is RTP.
    sdes: Option<Keys>,
    direction: Direction,
    calls: Vec<Call>,
    /// RTP ports to open on the SIP side, at least one; calls share them by turns where there are fewer than calls.
    ports: usize,
}

/// Keys of one side.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// The suite's name in SDP.
    suite: String,
    /// What DTLS exported, where it was the browser that began; or master key and salt of SDES.
    key: Vec<u8>,
}

/// Which flow of each call is installed: the other way would not be used, and then all calls may share one address.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Direction {
    ToSip,
    ToBrowser,
}

/// One call: the browser's and the SIP side's address, and the SSRC, which is kept.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    browser: SocketAddr,
    sip: SocketAddr,
    ssrc: u32,
}

/// The flows are installed.
#[derive(Serialize)]
struct Ready {
    /// RTP port of each call on the SIP side.
    ports: Vec<u16>,
    /// Flows by path and reason.
    paths: BTreeMap<String, usize>,
}

/// Sums over all flows.
#[derive(Default, Serialize)]
struct Finished {
    packets: u64,
    dropped: u64,
}

/// Runs until standard input ends.
pub(crate) fn run() -> Result<ExitCode> {
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    input.read_line(&mut line)?;
    let setup: Setup = serde_json::from_str(&line).context("the first line is no setup")?;
    let (media, mut events) = Media::start(MediaConfig {
        web_listen: vec![setup.web],
        rtp_addresses: vec![setup.rtp_address],
        rtp_ports: setup.rtp_ports.clone(),
        port_rest: Duration::from_secs(1),
        calls: setup.calls.len().max(1),
        datapath: datapath::Config {
            mode: setup.mode,
            interfaces: Vec::new(),
            pin_dir: setup.pin_dir.clone(),
            keystream_mib: setup.keystream_mib,
            cpus: setup.cpus.clone(),
            ..datapath::Config::default()
        },
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let ready = runtime.block_on(prepare(&setup, &media, &mut events))?;
    answer(&ready)?;
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            break;
        }
    }
    let finished = runtime.block_on(finish(setup.calls.len(), &media, &mut events))?;
    answer(&finished)?;
    Ok(ExitCode::SUCCESS)
}

fn answer(value: &impl Serialize) -> Result<()> {
    let mut output = std::io::stdout().lock();
    serde_json::to_writer(&mut output, value)?;
    output.write_all(b"\n")?;
    Ok(output.flush()?)
}

/// Opens the ports, then installs the flows and waits until their paths rest.
async fn prepare(setup: &Setup, media: &Media, events: &mut Receiver<MediaEvent>) -> Result<Ready> {
    let ports = open_ports(setup, media, events).await?;
    for (index, (call, ports)) in setup.calls.iter().zip(ports.iter().cycle()).enumerate() {
        media.install(FlowId(index as u64), spec(setup, call, ports)?);
    }
    let mut views: HashMap<FlowId, PathView> = HashMap::new();
    loop {
        match tokio::time::timeout(SETTLE, events.recv()).await {
            Ok(Some(MediaEvent::FlowPath(flow, view))) => {
                views.insert(flow, view);
            }
            Ok(Some(_)) => {}
            Ok(None) => bail!("the media thread has ended"),
            Err(_) if views.len() == setup.calls.len() => break,
            Err(_) => bail!("only {} flows were installed", views.len()),
        }
    }
    let mut paths = BTreeMap::new();
    for view in views.values() {
        let path = format!("{:?}: {}", view.path, view.reason);
        *paths.entry(path).or_default() += 1;
    }
    let ports = ports.iter().map(|ports| ports.rtp.port()).collect();
    Ok(Ready { ports, paths })
}

async fn open_ports(
    setup: &Setup,
    media: &Media,
    events: &mut Receiver<MediaEvent>,
) -> Result<Vec<MediaPorts>> {
    for index in 0..setup.ports {
        media.open_ports(CallId(index.to_string()), 1, setup.rtp_address.is_ipv6());
    }
    let mut opened: BTreeMap<usize, MediaPorts> = BTreeMap::new();
    while opened.len() < setup.ports {
        let event = tokio::time::timeout(ANSWER_LIMIT, events.recv());
        let event = event.await.context("ports are not opened in time")?;
        if let MediaEvent::PortsOpened(call, ports) = event.context("the media thread has ended")? {
            let index = call.0.parse().context("a call that was not asked for")?;
            let ports = ports.map_err(|error| anyhow::anyhow!("no port: {error:?}"))?;
            opened.extend(ports.first().map(|ports| (index, *ports)));
        }
    }
    Ok(opened.into_values().collect())
}

fn spec(setup: &Setup, call: &Call, ports: &MediaPorts) -> Result<Box<FlowSpec>> {
    let mut streams = [None; STREAMS];
    streams[0] = Some(StreamSpec {
        source: StreamSource::Learnt,
        medium: 0,
        ssrc_out: call.ssrc,
        clock_hz: 8000,
    });
    let (browser, sip) = ((setup.web, call.browser), (ports.rtp, call.sip));
    let (arriving, leaving) = match setup.direction {
        Direction::ToSip => (browser, sip),
        Direction::ToBrowser => (sip, browser),
    };
    Ok(Box::new(FlowSpec {
        key: FlowKey {
            local: arriving.0.into(),
            remote: arriving.1.into(),
        },
        action: action(setup)?,
        streams,
        payloads: PayloadMap::single((0..128).map(|number| (number, number))),
        media: [
            Some(MediumSpec {
                egress_local: leaving.0.into(),
                egress_remote: leaving.1.into(),
                dscp: 46,
                max_packets_per_s: 0,
            }),
            None,
        ],
        extensions: ExtensionMap::EMPTY,
    }))
}

fn action(setup: &Setup) -> Result<ActionSpec> {
    let dtls = setup.dtls_export.as_ref().map(|keys| {
        split_dtls_export(suite(keys)?, &keys.key, false)
            .context("an export of another suite's length")
    });
    let sdes = setup.sdes.as_ref().map(|keys| {
        let suite = suite(keys)?;
        let (key, salt) = keys.key.split_at(keys.key.len().min(suite.key_bytes()));
        MasterKeys::new(suite, key, salt).context("a key of another suite's length")
    });
    Ok(
        match (setup.direction, dtls.transpose()?, sdes.transpose()?) {
            (Direction::ToSip, Some((_, theirs)), Some(sdes)) => ActionSpec::Transcrypt {
                unprotect: theirs.rtp(),
                protect: sdes.rtp(),
            },
            (Direction::ToSip, Some((_, theirs)), None) => ActionSpec::Unprotect(theirs.rtp()),
            (Direction::ToSip, None, Some(sdes)) => ActionSpec::Protect(sdes.rtp()),
            (Direction::ToBrowser, Some((ours, _)), None) => ActionSpec::Protect(ours.rtp()),
            (_, None, None) => ActionSpec::Relay,
            (Direction::ToBrowser, _, Some(_)) => {
                bail!("SDES keys of what leaves for the SIP side")
            }
        },
    )
}

fn suite(keys: &Keys) -> Result<Suite> {
    let mut suites = Suite::ALL.into_iter();
    let found = suites.find(|suite| suite.name() == keys.suite);
    found.with_context(|| format!("no suite {}", keys.suite))
}

async fn finish(
    calls: usize,
    media: &Media,
    events: &mut Receiver<MediaEvent>,
) -> Result<Finished> {
    // What stood in the channel since the start would fill it up.
    while events.try_recv().is_ok() {}
    let mut finished = Finished::default();
    for flow in 0..calls as u64 {
        media.read(FlowId(flow));
        let snapshot = counters(FlowId(flow), events).await?;
        finished.packets += snapshot.packets;
        finished.dropped += snapshot.dropped;
    }
    Ok(finished)
}

async fn counters(wanted: FlowId, events: &mut Receiver<MediaEvent>) -> Result<FlowSnapshot> {
    loop {
        let event = tokio::time::timeout(ANSWER_LIMIT, events.recv());
        let event = event.await.context("counters are not read in time")?;
        if let MediaEvent::FlowCounters { flow, snapshot, .. } =
            event.context("the media thread has ended")?
            && flow == wanted
        {
            return snapshot.context("a flow is gone");
        }
    }
}
