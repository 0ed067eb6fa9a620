//! `causeway-bench rtp`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bench::load::{LoadConfig, MasterKey, Side};
use flow::Suite;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the packets go; several by commas, one for each stream.
    #[arg(long, value_delimiter = ',', required = true)]
    target: Vec<SocketAddr>,
    /// Instead of one target for all: stream n goes to the target's port plus this, n times.
    #[arg(long, default_value_t = 0)]
    port_step: u16,
    /// Where they arrive.
    #[arg(long)]
    sink: SocketAddr,
    /// From where they leave; port 0 takes any.
    #[arg(long, default_value = "0.0.0.0:0")]
    source: SocketAddr,
    /// Each stream leaves from a port of its own: source port plus 2, n times.
    #[arg(long)]
    source_ports: bool,
    /// Network namespace of the sender (a name of `ip netns`, or a file).
    #[arg(long)]
    source_ns: Option<String>,
    /// Network namespace of the sink.
    #[arg(long)]
    sink_ns: Option<String>,
    /// CPU of the sender.
    #[arg(long)]
    source_cpu: Option<usize>,
    /// CPU of the sink.
    #[arg(long)]
    sink_cpu: Option<usize>,
    /// Streams, each with an SSRC of its own.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Packets per second of all streams; 50 per stream without it.
    #[arg(long)]
    pps: Option<f64>,
    /// Length in seconds, the warm-up included.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds at the beginning that do not count.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Payload bytes.
    #[arg(long, default_value_t = 160)]
    payload: usize,
    /// RTP payload type.
    #[arg(long, default_value_t = 0)]
    payload_type: u8,
    /// Packets sent at once.
    #[arg(long, default_value_t = 16)]
    burst: usize,
    /// Milliseconds after which a packet counts as late.
    #[arg(long, default_value_t = 200)]
    late_ms: u64,
    /// Sends SRTP (AES_CM_128_HMAC_SHA1_80) under this `inline:` key (base64 of 30 bytes); `test` is a known one.
    #[arg(long)]
    send_key: Option<String>,
    /// SRTP arrives, under this key.
    #[arg(long)]
    receive_key: Option<String>,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

fn run_options(options: &Options) -> anyhow::Result<LoadConfig> {
    let mut targets = options.target.clone();
    if let ([first], 1..) = (targets.as_slice(), options.port_step) {
        let first = *first;
        targets = (0..options.streams)
            .map(|stream| {
                let port = usize::from(first.port()) + stream * usize::from(options.port_step);
                let port = u16::try_from(port).context("more streams than ports")?;
                Ok(SocketAddr::new(first.ip(), port))
            })
            .collect::<anyhow::Result<_>>()?;
    }
    let side = |address, namespace: &Option<String>, cpu| Side {
        namespace: namespace.as_ref().map(|name| {
            if name.contains('/') {
                PathBuf::from(name)
            } else {
                PathBuf::from("/run/netns").join(name)
            }
        }),
        address,
        cpu,
    };
    let source = side(options.source, &options.source_ns, options.source_cpu);
    let sink = side(options.sink, &options.sink_ns, options.sink_cpu);
    let mut config = LoadConfig::g711(options.streams, source, targets, sink);
    config.pps = options.pps.unwrap_or(config.pps);
    config.seconds = options.seconds;
    config.warm_up_s = options.warm_up;
    config.payload_bytes = options.payload;
    config.payload_type = options.payload_type;
    config.burst = options.burst;
    config.late = Duration::from_millis(options.late_ms);
    config.source_port_per_stream = options.source_ports;
    config.send_key = options.send_key.as_deref().map(key).transpose()?;
    let receive_key = options.receive_key.as_deref().map(key).transpose()?;
    config.receive_keys = receive_key.into_iter().collect();
    Ok(config)
}

fn key(text: &str) -> anyhow::Result<MasterKey> {
    if text == "test" {
        return Ok(MasterKey::MEASUREMENT);
    }
    let bytes = STANDARD.decode(text).context("the key is no base64")?;
    MasterKey::new(Suite::AesCm128HmacSha1_80, &bytes)
        .context("a key is 30 bytes: 16 of key, 14 of salt")
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let report = bench::load::run(&run_options(options)?)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}
