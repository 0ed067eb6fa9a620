//! Certificates: of the HTTPS listener, and of SIP over TLS.

use super::ConfigError;
use super::read::{Placed, Section};
use super::sections::{address, or_empty};
use crate::sip::TlsSettings;
use crate::tls::Files;
use std::path::PathBuf;

/// `tls_certificate` and `tls_key`: both or neither.
pub(super) fn files(section: &mut Section<'_>) -> Result<Option<Files>, ConfigError> {
    let certificate = path(section, "tls_certificate")?;
    let key = path(section, "tls_key")?;
    match (certificate.value, key.value) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(Files { certificate, key })),
        (Some(_), None) => {
            let what = format!("needs `{}.tls_key`, too", section.name());
            Err(section.error(&certificate.span, "tls_certificate", &what))
        }
        (None, Some(_)) => {
            let what = format!("needs `{}.tls_certificate`, too", section.name());
            Err(section.error(&key.span, "tls_key", &what))
        }
    }
}

/// `listen_tls` and what belongs to it; `None` where it is empty.
pub(super) fn sip(
    section: &mut Section<'_>,
    allowed: &str,
) -> Result<Placed<Option<TlsSettings>>, ConfigError> {
    let listen = section.text("listen_tls", None, allowed, |text| or_empty(text, address))?;
    let files = files(section)?;
    let authorities = path(section, "tls_ca")?.value;
    let verify_clients = section.flag("tls_verify_clients", false)?;
    let value = match (listen.value, files) {
        (None, _) => None,
        (Some(_), None) => {
            let what = "needs `sip.tls_certificate` and `sip.tls_key`";
            return Err(section.error(&listen.span, "listen_tls", what));
        }
        (Some(addr), Some(files)) => Some(TlsSettings {
            listen: addr,
            files,
            authorities,
            verify_clients,
        }),
    };
    Ok(Placed {
        value,
        span: listen.span,
    })
}

fn path(
    section: &mut Section<'_>,
    key: &'static str,
) -> Result<Placed<Option<PathBuf>>, ConfigError> {
    section.text(key, None, "the name of a PEM file", |text| {
        Some((!text.is_empty()).then(|| PathBuf::from(text)))
    })
}
