//! SRTP of both legs: which suites, and whether the SIP side has it at all.

use super::ConfigError;
use super::read::Section;
use flow::Suite;
use gateway_core::sdp::{SrtpPolicy, SrtpUse};
use gateway_core::webrtc::DTLS_SUITES;

/// `sip.srtp` and `sip.srtp_suites`.
pub(super) fn sip(
    section: &mut Section<'_>,
    default: &SrtpPolicy,
) -> Result<SrtpPolicy, ConfigError> {
    let allowed = "\"off\", \"accept\", \"offer\", \"require\" or \"dtls\"";
    let usage = section.text("srtp", default.usage, allowed, |text| match text {
        "off" => Some(SrtpUse::Off),
        "accept" => Some(SrtpUse::Accept),
        "offer" => Some(SrtpUse::Offer),
        "require" => Some(SrtpUse::Require),
        "dtls" => Some(SrtpUse::Dtls),
        _ => None,
    })?;
    Ok(SrtpPolicy {
        usage: usage.value,
        suites: suites(section, &Suite::ALL, &default.suites)?,
    })
}

/// What `[sip]` has where it says nothing.
pub(super) fn usual() -> SrtpPolicy {
    SrtpPolicy {
        usage: SrtpUse::Accept,
        suites: Suite::ALL.to_vec(),
    }
}

/// `web.srtp_suites`.
pub(super) fn web(section: &mut Section<'_>) -> Result<Vec<Suite>, ConfigError> {
    suites(section, &DTLS_SUITES, &DTLS_SUITES)
}

/// `srtp_suites`: a list out of `known`.
fn suites(
    section: &mut Section<'_>,
    known: &[Suite],
    default: &[Suite],
) -> Result<Vec<Suite>, ConfigError> {
    let key = "srtp_suites";
    let names: Vec<&str> = known.iter().map(|suite| suite.name()).collect();
    let allowed = format!("a list of {}", names.join(", "));
    let suites = section.list(key, default.to_vec(), &allowed, |text| {
        known.iter().copied().find(|suite| suite.name() == text)
    })?;
    let repeated = |(index, suite)| suites.value[..index].contains(suite);
    if suites.value.is_empty() || suites.value.iter().enumerate().any(repeated) {
        let what = "has to name each suite once, and at least one";
        return Err(section.error(&suites.span, key, what));
    }
    Ok(suites.value)
}
