//! `[[trunk]]`: the SIP servers beside the one of `[sip]`, and what `[sip]` and `[media]` say as a trunk. What a trunk does not say is
//! as it is there.

use super::ConfigError;
use super::read::{Placed, Section};
use super::sections::{codecs, count, is_host, or_empty, outbound_proxy, seconds, small};
use gateway_core::api::Callee;
use gateway_core::sdp::CodecPolicy;
use gateway_core::sip::{Credentials, OutboundProxy};
use gateway_core::trunk::{HeaderPolicy, Network, Numbers, ReferPolicy, Rewrite, Trunk};
use std::path::PathBuf;

/// Codecs that pass through without transcoding.
const CODECS: [&str; 4] = ["PCMU", "PCMA", "G722", "opus"];
/// The same for video.
const VIDEO_CODECS: [&str; 4] = ["VP8", "H264", "VP9", "AV1"];
/// Name of the trunk that `[sip]` makes.
pub(super) const DEFAULT: &str = "default";
/// More trunks are refused.
const MAX_TRUNKS: usize = 64;
/// How a proxy is written.
const PROXY: &str = "\"host\", \"host:port\" or \"host:port;transport=tcp\" (or tls)";

/// All trunks, the default one last.
pub(super) fn parse(
    sip: &mut Section<'_>,
    media: &mut Section<'_>,
    others: Vec<Section<'_>>,
) -> Result<Vec<Trunk>, ConfigError> {
    let default = default(sip, media)?;
    let mut trunks: Vec<Trunk> = Vec::with_capacity(others.len() + 1);
    for mut section in others {
        let name = section.text("name", String::new(), "a name of a-z, 0-9 and -", |text| {
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            ((1..=32).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
        })?;
        let taken = name.value == DEFAULT || trunks.iter().any(|other| other.name == name.value);
        if name.value.is_empty() || taken || trunks.len() == MAX_TRUNKS {
            let what = format!(
                "has to be given, unlike that of every other trunk and `{DEFAULT}`, for {MAX_TRUNKS} trunks at most"
            );
            return Err(section.error(&name.span, "name", &what));
        }
        trunks.push(trunk(&mut section, name.value, &default)?);
        section.finish()?;
    }
    trunks.push(default);
    Ok(trunks)
}

/// A trunk in one line, for `causeway check`.
pub(crate) fn summary(trunk: &Trunk) -> String {
    let proxy = |proxy: &OutboundProxy| {
        let port = proxy
            .port
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let transport = proxy.transport.map(|transport| {
            let token = transport.as_str().to_ascii_lowercase();
            format!(";transport={token}")
        });
        format!("{}{port}{}", proxy.host, transport.unwrap_or_default())
    };
    let list = |items: Vec<String>, none: &str| match items.is_empty() {
        true => none.to_owned(),
        false => items.join(", "),
    };
    let servers = list(
        trunk.proxies.iter().map(proxy).collect(),
        "the called domain",
    );
    let destinations = trunk.destinations.iter().map(|callee| callee.0.clone());
    let destinations = match trunk.name.as_str() {
        DEFAULT => "whatever no other trunk takes".to_owned(),
        _ => list(destinations.collect(), "no calls"),
    };
    let sources = list(
        trunk.sources.iter().map(Network::to_string).collect(),
        "its proxies",
    );
    let watch = trunk.watch.map_or_else(
        || "not asked for signs of life".to_owned(),
        |every| format!("asked for signs of life every {} s", every.as_secs()),
    );
    let most = trunk
        .calls
        .map(|calls| format!("; at most {calls} calls at once"));
    let rate = trunk
        .calls_per_second
        .map(|rate| format!("; at most {rate} a second"));
    format!(
        "trunk {}: {destinations} to {servers}, {watch}; from {sources}; {}; SRTP {:?}{}{}",
        trunk.name,
        trunk.codecs.audio.join(", "),
        trunk.srtp.usage,
        most.unwrap_or_default(),
        rate.unwrap_or_default(),
    )
}

fn default(sip: &mut Section<'_>, media: &mut Section<'_>) -> Result<Trunk, ConfigError> {
    let all = |names: [&str; 4]| names.map(str::to_owned).to_vec();
    let proxy = sip.text("outbound_proxy", None, PROXY, |text| {
        or_empty(text, outbound_proxy)
    })?;
    Ok(Trunk {
        name: DEFAULT.to_owned(),
        proxies: proxy.value.into_iter().collect(),
        domain: None,
        credentials: None,
        destinations: Vec::new(),
        sources: Vec::new(),
        codecs: CodecPolicy {
            audio: codecs(media, "codecs", CODECS, &all(CODECS), 1)?,
            video: codecs(media, "video_codecs", VIDEO_CODECS, &all(VIDEO_CODECS), 0)?,
        },
        srtp: super::srtp::sip(sip, &super::srtp::usual())?,
        headers: headers(sip, &HeaderPolicy::default())?,
        numbers: Numbers::default(),
        calls: None,
        calls_per_second: None,
        refer: refer(sip, ReferPolicy::Refuse)?,
        watch: watch(sip, 0)?,
    })
}

fn trunk(section: &mut Section<'_>, name: String, default: &Trunk) -> Result<Trunk, ConfigError> {
    let proxies = section.list(
        "proxies",
        Vec::new(),
        &format!("a list of {PROXY}"),
        outbound_proxy,
    )?;
    let domain = section.text("domain", None, "a host name or address", |text| {
        or_empty(text, |text| is_host(text).then(|| text.to_owned()))
    })?;
    let allowed = "a list of addresses such as \"+49*\" or \"*@pbx.example.org\"";
    let destinations = section.list("destinations", Vec::new(), allowed, callee)?;
    let allowed = "a list of networks such as \"192.0.2.0/24\"";
    let sources = section.list("sources", Vec::new(), allowed, Network::parse)?;
    if destinations.value.is_empty() && sources.value.is_empty() {
        let what = "and `trunk.sources` cannot both be empty: nothing would use the trunk";
        return Err(section.error(&destinations.span, "destinations", what));
    }
    if !destinations.value.is_empty() && proxies.value.is_empty() && domain.value.is_none() {
        let what = "has to name a server, or `trunk.domain` has to, for `trunk.destinations`";
        return Err(section.error(&proxies.span, "proxies", what));
    }
    let (audio, video) = (&default.codecs.audio, &default.codecs.video);
    Ok(Trunk {
        name,
        proxies: self::proxies(proxies, domain.value.as_deref()),
        domain: domain.value,
        credentials: credentials(section)?,
        destinations: destinations.value,
        sources: sources.value,
        codecs: CodecPolicy {
            audio: codecs(section, "codecs", CODECS, audio, 1)?,
            video: codecs(section, "video_codecs", VIDEO_CODECS, video, 0)?,
        },
        srtp: super::srtp::sip(section, &default.srtp)?,
        headers: headers(section, &default.headers)?,
        numbers: numbers(section)?,
        calls: Some(count(section, "calls", 0, 0..=100_000)?).filter(|most| *most > 0),
        calls_per_second: Some(small(section, "calls_per_second", 0, 0..=100_000)?)
            .filter(|most| *most > 0),
        refer: refer(section, default.refer)?,
        watch: watch(section, 30)?,
    })
}

/// A trunk without proxies goes to its domain.
fn proxies(
    proxies: Placed<Vec<OutboundProxy>>,
    domain: Option<&str>,
) -> std::sync::Arc<[OutboundProxy]> {
    let by_domain = proxies.value.is_empty().then_some(domain).flatten();
    let by_domain = by_domain.map(|host| OutboundProxy {
        host: host.to_owned(),
        port: None,
        transport: None,
    });
    proxies.value.into_iter().chain(by_domain).collect()
}

/// `user` and `password_file`: both or neither.
fn credentials(section: &mut Section<'_>) -> Result<Option<Credentials>, ConfigError> {
    let user = section.text(
        "user",
        String::new(),
        "a user name of at most 128 characters",
        |text| (text.len() <= 128 && !text.contains(char::is_control)).then(|| text.to_owned()),
    )?;
    let file = section.text(
        "password_file",
        PathBuf::new(),
        "the name of a file",
        |text| Some(PathBuf::from(text)),
    )?;
    match (user.value.is_empty(), file.value.as_os_str().is_empty()) {
        (true, true) => return Ok(None),
        (true, false) => {
            return Err(section.error(&file.span, "password_file", "needs `trunk.user`, too"));
        }
        (false, true) => {
            return Err(section.error(&user.span, "user", "needs `trunk.password_file`, too"));
        }
        (false, false) => {}
    }
    let text = std::fs::read_to_string(&file.value);
    let password = text.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
    match password {
        Ok(password) if !password.is_empty() => Ok(Some(Credentials {
            user: user.value,
            password,
        })),
        Ok(_) => Err(section.error(&file.span, "password_file", "names an empty file")),
        Err(error) => {
            let what = format!("names a file that cannot be read: {error}");
            Err(section.error(&file.span, "password_file", &what))
        }
    }
}

fn headers(section: &mut Section<'_>, default: &HeaderPolicy) -> Result<HeaderPolicy, ConfigError> {
    let allowed = "a list of header names, with * for any rest (\"X-*\")";
    let mut names = |key, default: &[String]| section.list(key, default.to_vec(), allowed, header);
    Ok(HeaderPolicy {
        to_sip: names("headers_to_sip", &default.to_sip)?.value,
        to_page: names("headers_to_page", &default.to_page)?.value,
    })
}

fn numbers(section: &mut Section<'_>) -> Result<Numbers, ConfigError> {
    let allowed = "a list of rules such as \"00* -> +*\", with at most one star on each side";
    let mut rules = |key| section.list(key, Vec::new(), allowed, Rewrite::parse);
    Ok(Numbers {
        callee: rules("callee_rules")?.value,
        caller: rules("caller_rules")?.value,
        incoming_callee: rules("incoming_callee_rules")?.value,
        incoming_caller: rules("incoming_caller_rules")?.value,
    })
}

fn refer(section: &mut Section<'_>, default: ReferPolicy) -> Result<ReferPolicy, ConfigError> {
    let allowed = "\"refuse\", \"page\" or \"follow\"";
    let policy = section.text("refer", default, allowed, |text| match text {
        "refuse" => Some(ReferPolicy::Refuse),
        "page" => Some(ReferPolicy::Page),
        "follow" => Some(ReferPolicy::Follow),
        _ => None,
    })?;
    Ok(policy.value)
}

fn watch(
    section: &mut Section<'_>,
    default: u64,
) -> Result<Option<std::time::Duration>, ConfigError> {
    let every = seconds(section, "options_s", default, 0..=3600)?;
    Ok(Some(every).filter(|every| !every.is_zero()))
}

/// `user`, `user@host`, with stars for any run of characters.
fn callee(text: &str) -> Option<Callee> {
    let text = text.strip_prefix("sip:").unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"<>\";?".contains(&byte);
    let fits = (1..=256).contains(&text.len())
        && text.bytes().all(plain)
        && text.split('@').count() <= 2
        && text.split('@').all(|part| !part.is_empty());
    fits.then(|| Callee(text.to_owned()))
}

/// A header name, or the beginning of one and a star.
fn header(text: &str) -> Option<String> {
    let name = text.strip_suffix('*').unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    ((2..=64).contains(&name.len()) && name.bytes().all(plain)).then(|| text.to_owned())
}
