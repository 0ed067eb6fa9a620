//! The keys, section by section: default, range, and what an error says is allowed.

use super::conflicts::{self, Listeners};
use super::read::{Section, Source};
use super::{Config, ConfigError, Http, Limits, Log, Rtp, Sip, Web};
use crate::datapath::{self, Cpus, Flood, Mode, Rate};
use crate::http::ice_servers::{self, Settings as IceSettings};
use crate::sip::TlsSettings;
use gateway_core::gateway::Latching;
use gateway_core::sip::{OutboundProxy, Transport};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// What an address key allows.
const ADDRESS: &str = "an address and port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"";
/// What a key with a specific address adds.
const SPECIFIC: &str = "a specific address of this host: browsers and SIP peers are told it, so 0.0.0.0 and [::] say nothing";

/// Reads all sections and checks them against each other.
pub(super) fn parse(source: &Source<'_>) -> Result<Config, ConfigError> {
    let names = [
        "http", "tokens", "web", "sip", "rtp", "media", "datapath", "flood", "limits", "log",
    ];
    let (sections, trunks) = source.sections(names, "trunk")?;
    let [
        mut http,
        mut tokens,
        mut web,
        mut sip,
        mut rtp,
        mut media,
        mut datapath,
        mut flood,
        mut limits,
        mut log,
    ] = sections;
    let mut listeners = Listeners::default();
    let config = Config {
        http: self::http(&mut http, &mut listeners)?,
        tokens: super::tokens::parse(&mut tokens)?,
        web: self::web(&mut web, &mut listeners)?,
        trunks: super::trunks::parse(&mut sip, &mut media, trunks)?,
        sip: self::sip(&mut sip, &mut listeners)?,
        rtp: self::rtp(&mut rtp, &mut listeners)?,
        datapath: self::datapath(&mut datapath, &mut flood)?,
        limits: self::limits(&mut limits)?,
        log: self::log(&mut log)?,
    };
    for section in [
        http, tokens, web, sip, rtp, media, datapath, flood, limits, log,
    ] {
        section.finish()?;
    }
    conflicts::check(source, &listeners)?;
    Ok(config)
}

fn http(section: &mut Section<'_>, listeners: &mut Listeners) -> Result<Http, ConfigError> {
    let listen = section.text("listen", local(8080), ADDRESS, address)?;
    listeners.tcp("http.listen", listen.value, &listen.span);
    let allowed = "a list of origins such as \"https://desk.example.org\", or \"*\"";
    let cors_origins = section.list("cors_origins", Vec::new(), allowed, origin)?;
    if cors_origins.value.len() > 1 && cors_origins.value.iter().any(|origin| origin == "*") {
        let what =
            "has to be \"*\" alone or a list of origins: only pages on a list may send cookies";
        return Err(section.error(&cors_origins.span, "cors_origins", what));
    }
    let tls = super::tls::files(section)?;
    let admin = section.text("admin_listen", local(9090), ADDRESS, address)?;
    listeners.tcp("http.admin_listen", admin.value, &admin.span);
    Ok(Http {
        listen: listen.value,
        cors_origins: cors_origins.value,
        tls,
        admin_listen: admin.value,
    })
}

fn web(section: &mut Section<'_>, listeners: &mut Listeners) -> Result<Web, ConfigError> {
    let allowed = "a list of addresses with ports, such as [\"192.0.2.1:40000\"]";
    let listen = section.list("listen", vec![local(40_000)], allowed, address)?;
    if listen.value.iter().any(|addr| addr.ip().is_unspecified()) {
        return Err(section.error(&listen.span, "listen", &format!("has to name {SPECIFIC}")));
    }
    let ipv6 = listen.value.iter().filter(|addr| addr.is_ipv6()).count();
    if listen.value.is_empty() || ipv6 > 1 || listen.value.len() - ipv6 > 1 {
        let what = "has to have one IPv4 address, one IPv6 address, or one of each";
        return Err(section.error(&listen.span, "listen", what));
    }
    for addr in &listen.value {
        listeners.udp("web.listen", *addr, &listen.span);
    }
    let advertised = advertised(section, "advertised", "web.listen", listen.value.len())?;
    let listen_tcp = section.list("listen_tcp", Vec::new(), allowed, address)?;
    if listen_tcp
        .value
        .iter()
        .any(|addr| addr.ip().is_unspecified() || addr.port() == 0)
    {
        let what = format!("has to name {SPECIFIC} and a port");
        return Err(section.error(&listen_tcp.span, "listen_tcp", &what));
    }
    if !listen_tcp.value.is_empty() && ipv6 == listen.value.len() {
        let what = "needs an IPv4 address in `web.listen`";
        return Err(section.error(&listen_tcp.span, "listen_tcp", what));
    }
    for addr in &listen_tcp.value {
        listeners.tcp("web.listen_tcp", *addr, &listen_tcp.span);
    }
    let told = listen_tcp.value.len();
    let advertised_tcp = self::advertised(section, "advertised_tcp", "web.listen_tcp", told)?;
    let ice = ice(section)?;
    let directory = section.text("certificate_dir", None, "the name of a directory", |text| {
        Some((!text.is_empty()).then(|| PathBuf::from(text)))
    })?;
    Ok(Web {
        listen: listen.value,
        advertised,
        listen_tcp: listen_tcp.value,
        advertised_tcp,
        connect_timeout: seconds(section, "connect_timeout_s", 15, 1..=120)?,
        srtp_suites: super::srtp::web(section)?,
        dscp: dscp(section)?,
        certificate_dir: directory.value,
        ice,
    })
}

/// What browsers are told instead of the addresses of `of`, of which there are `count`.
fn advertised(
    section: &mut Section<'_>,
    key: &'static str,
    of: &str,
    count: usize,
) -> Result<Vec<SocketAddr>, ConfigError> {
    let allowed = "a list of addresses with ports, such as [\"192.0.2.1:40000\"]";
    let advertised = section.list(key, Vec::new(), allowed, address)?;
    let all = &advertised.value;
    if !all.is_empty() && all.len() != count {
        let what = format!("has to have as many addresses as `{of}`, or none");
        return Err(section.error(&advertised.span, key, &what));
    }
    let cannot_be_reached = |addr: &SocketAddr| addr.ip().is_unspecified() || addr.port() == 0;
    if all.iter().any(cannot_be_reached) {
        let what = "has to name addresses that browsers can send to";
        return Err(section.error(&advertised.span, key, what));
    }
    Ok(advertised.value)
}

/// `ice_servers` and the `turn_*` keys of `[web]`.
fn ice(section: &mut Section<'_>) -> Result<IceSettings, ConfigError> {
    let allowed = "a list of URIs such as \"stun:stun.example.org\" and \"turn:turn.example.org:3478?transport=udp\"";
    let urls = section.list("ice_servers", Vec::new(), allowed, |text| {
        ice_servers::is_server(text).then(|| text.to_owned())
    })?;
    let path = |text: &str| Some(PathBuf::from(text));
    let secret = section.text(
        "turn_secret_file",
        PathBuf::new(),
        "the name of a file",
        path,
    )?;
    let named = !secret.value.as_os_str().is_empty();
    let relays = urls.value.iter().any(|url| url.starts_with("turn"));
    if relays != named {
        let what = if relays {
            "has to be given where `web.ice_servers` names a TURN server"
        } else {
            "is of no use without a TURN server in `web.ice_servers`"
        };
        return Err(section.error(&secret.span, "turn_secret_file", what));
    }
    Ok(IceSettings {
        urls: urls.value,
        secret_file: named.then_some(secret.value),
        lifetime: seconds(section, "turn_lifetime_s", 86_400, 60..=604_800)?,
    })
}

fn sip(section: &mut Section<'_>, listeners: &mut Listeners) -> Result<Sip, ConfigError> {
    let (listen_udp, listen_tcp, tls, advertised) = sip_addresses(section, listeners)?;
    let allowed = "1 to 64 printable ASCII characters";
    let user_agent = section.text("user_agent", "Causeway".to_owned(), allowed, |text| {
        let printable = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        (printable && (1..=64).contains(&text.len())).then(|| text.to_owned())
    })?;
    let allowed = "a list of addresses with ports, such as [\"192.0.2.53:53\"]";
    let name_servers = section.list("name_servers", Vec::new(), allowed, address)?;
    let allowed = "a host name or address";
    let domain = section.text("domain", "localhost".to_owned(), allowed, |text| {
        is_host(text).then(|| text.to_owned())
    })?;
    let allowed = "a header name of 3 to 32 characters that ends in a hyphen";
    let data_prefix = section.text("data_prefix", "X-Data-".to_owned(), allowed, |text| {
        let name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = (3..=32).contains(&text.len()) && text.ends_with('-') && text.bytes().all(name);
        fits.then(|| text.to_owned())
    })?;
    Ok(Sip {
        listen_udp,
        listen_tcp,
        tls,
        advertised,
        domain: domain.value,
        name_servers: name_servers.value,
        guests: section.flag("guests", true)?,
        registration_expires: seconds(section, "registration_expires_s", 600, 60..=86_400)?,
        session_expires: seconds(section, "session_expires_s", 1800, 0..=86_400)?,
        reliable_provisional: section.flag("reliable_provisional", true)?,
        gruu: section.flag("gruu", false)?,
        max_redirects: count(section, "max_redirects", 5, 0..=20)?,
        user_agent: user_agent.value,
        data_prefix: data_prefix.value,
    })
}

/// `listen_udp`, `listen_tcp`, `listen_tls` with its keys, `advertised`.
type SipAddresses = (
    Option<SocketAddr>,
    Option<SocketAddr>,
    Option<TlsSettings>,
    Option<(String, Option<u16>)>,
);

fn sip_addresses(
    section: &mut Section<'_>,
    listeners: &mut Listeners,
) -> Result<SipAddresses, ConfigError> {
    let optional = |text: &str| or_empty(text, address);
    let allowed = format!("{ADDRESS}, or empty for none");
    let udp = section.text("listen_udp", Some(local(5062)), &allowed, optional)?;
    let tcp = section.text("listen_tcp", Some(local(5062)), &allowed, optional)?;
    let tls = super::tls::sip(section, &allowed)?;
    let allowed = "\"host\" or \"host:port\"";
    let read = |text: &str| or_empty(text, host_port);
    let advertised = section.text("advertised", None, allowed, read)?.value;
    let tls_addr = tls.value.as_ref().map(|tls| tls.listen);
    for (key, listen, span) in [
        ("listen_udp", udp.value, &udp.span),
        ("listen_tcp", tcp.value, &tcp.span),
        ("listen_tls", tls_addr, &tls.span),
    ] {
        let wildcard = listen.is_some_and(|addr| addr.ip().is_unspecified());
        if wildcard && advertised.is_none() {
            let what =
                "is a wildcard address: `sip.advertised` has to say what stands in Via and Contact";
            return Err(section.error(span, key, what));
        }
    }
    if udp.value.is_none() && tcp.value.is_none() && tls_addr.is_none() {
        let what = "cannot be empty together with `sip.listen_tcp` and `sip.listen_tls`";
        return Err(section.error(&udp.span, "listen_udp", what));
    }
    if let Some(addr) = udp.value {
        listeners.udp("sip.listen_udp", addr, &udp.span);
    }
    if let Some(addr) = tcp.value {
        listeners.tcp("sip.listen_tcp", addr, &tcp.span);
    }
    if let Some(addr) = tls_addr {
        listeners.tcp("sip.listen_tls", addr, &tls.span);
    }
    Ok((udp.value, tcp.value, tls.value, advertised))
}

/// An empty string for none, else what `read` makes of it.
pub(super) fn or_empty<T>(text: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if text.is_empty() {
        Some(None)
    } else {
        read(text).map(Some)
    }
}

fn rtp(section: &mut Section<'_>, listeners: &mut Listeners) -> Result<Rtp, ConfigError> {
    let default = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let parse = |text: &str| text.parse().ok();
    let address = section.text(
        "address",
        default,
        "an address such as \"192.0.2.1\"",
        parse,
    )?;
    if address.value.is_unspecified() {
        return Err(section.error(&address.span, "address", &format!("has to be {SPECIFIC}")));
    }
    let allowed = "\"first-last\", first even, last odd, 1024..=65535, such as \"20000-29999\"";
    let ports = section.text("ports", 20_000..=29_999, allowed, port_range)?;
    listeners.rtp(address.value, ports.value.clone());
    let allowed = "\"signalled\", \"subnet\" or \"symmetric\"";
    let latching = section.text(
        "latching",
        Latching::Signalled,
        allowed,
        |text| match text {
            "signalled" => Some(Latching::Signalled),
            "subnet" => Some(Latching::Subnet),
            "symmetric" => Some(Latching::Symmetric),
            _ => None,
        },
    )?;
    Ok(Rtp {
        address: address.value,
        ports: ports.value,
        dscp: dscp(section)?,
        latching: latching.value,
    })
}

/// A list out of `known`, each once and `least` at least.
pub(super) fn codecs(
    section: &mut Section<'_>,
    key: &'static str,
    known: [&str; 4],
    default: &[String],
    least: usize,
) -> Result<Vec<String>, ConfigError> {
    let allowed = format!("a list of {}", known.join(", "));
    let codecs = section.list(key, default.to_vec(), &allowed, |text| {
        let codec = known
            .into_iter()
            .find(|codec| codec.eq_ignore_ascii_case(text))?;
        Some(codec.to_owned())
    })?;
    let repeated = |(index, codec)| codecs.value[..index].contains(codec);
    let wrong = if codecs.value.iter().enumerate().any(repeated) {
        "has to name each codec once"
    } else if codecs.value.len() < least {
        "has to name at least one codec"
    } else {
        return Ok(codecs.value);
    };
    Err(section.error(&codecs.span, key, wrong))
}

fn datapath(
    section: &mut Section<'_>,
    flood: &mut Section<'_>,
) -> Result<datapath::Config, ConfigError> {
    let default = datapath::Config::default();
    let allowed = "\"auto\", \"xdp-native\", \"xdp-generic\" or \"userspace\"";
    let mode = section.text("mode", default.mode, allowed, |text| match text {
        "auto" => Some(Mode::Auto),
        "xdp-native" => Some(Mode::XdpNative),
        "xdp-generic" => Some(Mode::XdpGeneric),
        "userspace" => Some(Mode::Userspace),
        _ => None,
    })?;
    let allowed = "a list of interface names of 1 to 15 characters";
    let interfaces = section.list("interfaces", default.interfaces, allowed, |text| {
        let fits = (1..=15).contains(&text.len()) && !text.contains(['/', ' ']);
        fits.then(|| text.to_owned())
    })?;
    let pin_dir = section.text(
        "pin_dir",
        default.pin_dir,
        "an absolute directory name",
        |text| text.starts_with('/').then(|| PathBuf::from(text)),
    )?;
    let keystream_mib = small(
        section,
        "keystream_mib",
        default.keystream_mib.into(),
        0..=65_536,
    )?;
    let threads = small(section, "threads", default.threads.into(), 0..=64)?;
    let allowed = "\"off\", \"auto\" or a list of CPU numbers";
    let cpus = section.take("cpus", default.cpus, allowed, cpus)?;
    Ok(datapath::Config {
        mode: mode.value,
        interfaces: interfaces.value,
        pin_dir: pin_dir.value,
        keystream_mib,
        cpus: cpus.value,
        threads,
        flood: self::flood(flood, &default.flood)?,
    })
}

fn cpus(value: &DeValue<'_>) -> Option<Cpus> {
    if let Some(word) = value.as_str() {
        return match word {
            "off" => Some(Cpus::Off),
            "auto" => Some(Cpus::Auto),
            _ => None,
        };
    }
    let numbers = value.as_array()?.iter().map(|number| {
        let integer = number.get_ref().as_integer()?;
        u32::from_str_radix(integer.as_str(), integer.radix()).ok()
    });
    let numbers: Vec<u32> = numbers.collect::<Option<_>>()?;
    (!numbers.is_empty()).then_some(Cpus::List(numbers))
}

fn flood(section: &mut Section<'_>, default: &Flood) -> Result<Flood, ConfigError> {
    let mut rate = |per_second, burst, default: Rate| -> Result<Rate, ConfigError> {
        Ok(Rate {
            per_second: small(
                section,
                per_second,
                default.per_second.into(),
                0..=10_000_000,
            )?,
            burst: small(section, burst, default.burst.into(), 1..=10_000_000)?,
        })
    };
    Ok(Flood {
        stun: rate("stun_per_second", "stun_burst", default.stun)?,
        hello: rate("hello_per_second", "hello_burst", default.hello)?,
        other: rate("other_per_second", "other_burst", default.other)?,
        media_margin: small(
            section,
            "media_margin",
            default.media_margin.into(),
            0..=10_000,
        )?,
    })
}

fn limits(section: &mut Section<'_>) -> Result<Limits, ConfigError> {
    Ok(Limits {
        calls: count(section, "calls", 1000, 1..=100_000)?,
        sessions: count(section, "sessions", 1000, 1..=100_000)?,
        calls_per_session: count(section, "calls_per_session", 4, 1..=64)?,
        no_answer: seconds(section, "no_answer_s", 60, 5..=600)?,
        reconnect: seconds(section, "reconnect_s", 15, 0..=300)?,
        // The shortest is more than the time between two signs of life of an open event stream.
        session_idle: seconds(section, "session_idle_s", 60, 15..=86_400)?,
        requests_per_second: small(section, "requests_per_second", 100, 0..=100_000)?,
        request_burst: small(section, "request_burst", 500, 1..=100_000)?,
        http_connections: count(section, "http_connections", 4096, 16..=100_000)?,
        sip_connections: count(section, "sip_connections", 256, 1..=10_000)?,
        sip_requests_per_second: small(section, "sip_requests_per_second", 2000, 0..=1_000_000)?,
    })
}

fn log(section: &mut Section<'_>) -> Result<Log, ConfigError> {
    let allowed = "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
    let level = section.text("level", tracing::Level::INFO, allowed, |text| match text {
        "error" => Some(tracing::Level::ERROR),
        "warn" => Some(tracing::Level::WARN),
        "info" => Some(tracing::Level::INFO),
        "debug" => Some(tracing::Level::DEBUG),
        "trace" => Some(tracing::Level::TRACE),
        _ => None,
    })?;
    let json = section.text("format", false, "\"text\" or \"json\"", |text| match text {
        "text" => Some(false),
        "json" => Some(true),
        _ => None,
    })?;
    Ok(Log {
        level: level.value,
        json: json.value,
    })
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

pub(super) fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

pub(super) fn seconds(
    section: &mut Section<'_>,
    key: &'static str,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<Duration, ConfigError> {
    Ok(Duration::from_secs(
        section.whole(key, default, range, "s")?,
    ))
}

pub(super) fn count(
    section: &mut Section<'_>,
    key: &'static str,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<usize, ConfigError> {
    let number = section.whole(key, default, range, "")?;
    Ok(usize::try_from(number).expect("the range of every count is far below usize::MAX"))
}

pub(super) fn small(
    section: &mut Section<'_>,
    key: &'static str,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<u32, ConfigError> {
    let number = section.whole(key, default, range, "")?;
    Ok(u32::try_from(number).expect("the range of every rate is far below u32::MAX"))
}

fn dscp(section: &mut Section<'_>) -> Result<u8, ConfigError> {
    let number = section.whole("dscp", 46, 0..=63, "")?;
    Ok(u8::try_from(number).expect("63 fits"))
}

/// `scheme://host[:port]` as browsers send it in `Origin` (RFC 6454 section 7), or `*`.
fn origin(text: &str) -> Option<String> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let plain = rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.contains(['/', '*', '?', '#', '@'])
            && rest.bytes().all(|byte| byte.is_ascii_graphic())
    });
    (text == "*" || plain).then(|| text.to_owned())
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first >= 1024 && first % 2 == 0 && last % 2 == 1 && first < last).then_some(first..=last)
}

/// A name (RFC 1123) or an IP literal, IPv6 in brackets.
pub(super) fn is_host(text: &str) -> bool {
    if let Some(inner) = text.strip_prefix('[') {
        return inner
            .strip_suffix(']')
            .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
    }
    (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// `host` or `host:port`.
fn host_port(text: &str) -> Option<(String, Option<u16>)> {
    if is_host(text) {
        return Some((text.to_owned(), None));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    (is_host(host) && port != 0).then(|| (host.to_owned(), Some(port)))
}

pub(super) fn outbound_proxy(text: &str) -> Option<OutboundProxy> {
    let (place, transport) = match text.split_once(';') {
        None => (text, None),
        Some((place, parameter)) => {
            let token = parameter.strip_prefix("transport=")?;
            (place, Some(Transport::from_token(token)?))
        }
    };
    let (host, port) = host_port(place)?;
    Some(OutboundProxy {
        host,
        port,
        transport,
    })
}
