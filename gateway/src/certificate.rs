//! The DTLS certificate on disk: made at the first start, loaded at the next, replaced before it expires.
//!
//! Why kept: a browser that saw the fingerprint before a restart finds the same one after it. The key file has mode 0600 from the
//! moment it exists; one that others may read is refused, because whoever has it can be the gateway.

use anyhow::{Context as _, Result, bail};
use gateway_core::Random;
use gateway_core::webrtc::Certificate;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A certificate is valid for 365 days; one of this age is replaced at start.
const RENEW_AFTER: Duration = Duration::from_secs(300 * 24 * 60 * 60);

const CERTIFICATE: &str = "dtls-certificate.der";
const KEY: &str = "dtls-key.der";

/// The certificate of `directory`, made there if there is none; without a directory a new one.
pub(crate) fn load_or_make(directory: Option<&Path>, random: &mut Random) -> Result<Certificate> {
    let now = SystemTime::now();
    let Some(directory) = directory else {
        return Ok(Certificate::generate(random, now)?);
    };
    let (certificate, key) = (directory.join(CERTIFICATE), directory.join(KEY));
    if let Ok(metadata) = fs::metadata(&key) {
        if metadata.mode() & 0o077 != 0 {
            bail!(
                "{} is open to other users: set its mode to 0600, or remove it",
                key.display()
            );
        }
        let age = now.duration_since(metadata.modified()?).unwrap_or_default();
        if age < RENEW_AFTER {
            let der = fs::read(&certificate)
                .with_context(|| format!("reading {}", certificate.display()))?;
            let private = fs::read(&key).with_context(|| format!("reading {}", key.display()))?;
            return Certificate::from_der(der, private).with_context(|| {
                format!("loading the DTLS certificate of {}", directory.display())
            });
        }
    }
    let made = Certificate::generate(random, now)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("creating {}", directory.display()))?;
    // The key comes last: it stands there only beside a whole certificate.
    replace(&certificate, made.der(), 0o644)?;
    replace(&key, made.private_key_der(), 0o600)?;
    Ok(made)
}

/// Writes a file as a whole or not at all.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let new = path.with_extension("new");
    // Left over from a start that was killed; its mode may be another.
    let _ = fs::remove_file(&new);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_random;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn is_made_once_with_a_private_key_file_and_an_open_one_is_refused() {
        let directory =
            std::env::temp_dir().join(format!("causeway-certificate-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let made = load_or_make(Some(&directory), &mut system_random()).unwrap();
        let key = directory.join(KEY);
        assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
        let loaded = load_or_make(Some(&directory), &mut system_random()).unwrap();
        assert_eq!(made.der(), loaded.der());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = load_or_make(Some(&directory), &mut system_random());
        assert!(refused.err().unwrap().to_string().contains("0600"));
        fs::remove_dir_all(&directory).unwrap();
    }
}
