//! `[tokens]`: the keys of sign-in tokens.

use super::ConfigError;
use super::read::Section;
use crate::http::token::{Config, KeyFile};
use std::path::PathBuf;

/// Reads the section; `None` where no key file is named.
pub(super) fn parse(section: &mut Section<'_>) -> Result<Option<Config>, ConfigError> {
    let path = |text: &str| Some(PathBuf::from(text));
    let named = |path: &PathBuf| !path.as_os_str().is_empty();
    let key = section.text("key_file", PathBuf::new(), "the name of a file", path)?;
    let jwks = section.text("jwks_file", PathBuf::new(), "the name of a file", path)?;
    let text = |text: &str| (text.len() <= 256).then(|| text.to_owned());
    let allowed = "a string of at most 256 bytes";
    let issuer = section.text("issuer", String::new(), allowed, text)?;
    let audience = section.text("audience", String::new(), allowed, text)?;
    let required = section.flag("required", false)?;
    let keys = match (named(&key.value), named(&jwks.value)) {
        (true, true) => {
            let what = "and `tokens.key_file` cannot both be given";
            return Err(section.error(&jwks.span, "jwks_file", what));
        }
        (true, false) => KeyFile::Key(key.value),
        (false, true) => KeyFile::Jwks(jwks.value),
        (false, false) if required || !issuer.value.is_empty() || !audience.value.is_empty() => {
            let what = "has to be given, or `tokens.jwks_file`, where the section asks for tokens";
            return Err(section.error(&key.span, "key_file", what));
        }
        (false, false) => return Ok(None),
    };
    Ok(Some(Config {
        keys,
        issuer: issuer.value,
        audience: audience.value,
        required,
    }))
}
