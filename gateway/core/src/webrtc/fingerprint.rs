//! Comparing a certificate with the fingerprints that signalling announced (RFC 8122 section 5).

use ring::digest;

use crate::sdp::Fingerprint;

/// Hash functions that we accept, the preferred one first. SHA-1 and MD5 are refused: they no longer bind anything.
const ACCEPTED: [(&str, &digest::Algorithm); 3] = [
    ("sha-512", &digest::SHA512),
    ("sha-384", &digest::SHA384),
    ("sha-256", &digest::SHA256),
];

/// Whether the certificate is the announced one.
///
/// RFC 8122 section 5: of the announced hash functions only the strongest counts, and one match among its
/// fingerprints is enough. Nothing announced with an acceptable function means no match.
pub(super) fn matches(certificate_der: &[u8], announced: &[Fingerprint]) -> bool {
    for (name, algorithm) in ACCEPTED {
        let mut same = announced
            .iter()
            .filter(|f| f.algorithm.eq_ignore_ascii_case(name))
            .peekable();
        if same.peek().is_none() {
            continue;
        }
        let digest = digest::digest(algorithm, certificate_der);
        return same.any(|f| equal(digest.as_ref(), &f.bytes));
    }
    false
}

/// Equality in a time that depends on the lengths only.
fn equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .fold(0, |difference, (l, r)| difference | (l ^ r))
            == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(name: &str, algorithm: &'static digest::Algorithm, content: &[u8]) -> Fingerprint {
        Fingerprint {
            algorithm: name.to_string(),
            bytes: digest::digest(algorithm, content).as_ref().to_vec(),
        }
    }

    #[test]
    fn any_announced_fingerprint_of_the_strongest_function_may_match() {
        let other = announced("sha-256", &digest::SHA256, b"other");
        let right = announced("SHA-256", &digest::SHA256, b"certificate");
        assert!(matches(b"certificate", &[other.clone(), right.clone()]));
        assert!(!matches(b"certificate", std::slice::from_ref(&other)));
        assert!(!matches(b"certificate", &[]));
        let strong = announced("sha-512", &digest::SHA512, b"certificate");
        assert!(matches(b"certificate", &[strong, other]));
        let strong_but_wrong = announced("sha-384", &digest::SHA384, b"other");
        assert!(
            !matches(b"certificate", &[right, strong_but_wrong]),
            "the weaker match must not count"
        );
    }

    #[test]
    fn weak_functions_and_truncated_values_do_not_match() {
        let sha1 = announced("sha-1", &digest::SHA1_FOR_LEGACY_USE_ONLY, b"certificate");
        assert!(!matches(b"certificate", &[sha1]));
        let mut short = announced("sha-256", &digest::SHA256, b"certificate");
        short.bytes.truncate(16);
        assert!(!matches(b"certificate", &[short]));
    }
}
