//! SDP fragments of trickle ICE (RFC 8840 section 9), and the whole descriptions that they stand for.

/// Most candidates of a fragment.
const CANDIDATES: usize = 64;
/// Longest line.
const LINE_BYTES: usize = 512;

/// ICE credentials (RFC 8839 section 5.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Credentials {
    pub(super) ufrag: String,
    pub(super) password: String,
}

/// What a PATCH carries.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Fragment {
    /// Of the generation that the candidates belong to.
    pub(super) credentials: Option<Credentials>,
    /// `candidate:...` values; an empty string is the end of candidates.
    pub(super) candidates: Vec<String>,
}

impl Fragment {
    /// Reads a fragment. Attributes other than those of ICE say nothing here and are skipped.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut candidates = Vec::new();
        for line in text.lines() {
            let line = line.trim_end();
            if line.len() > LINE_BYTES {
                return Err("a line is too long");
            }
            let bytes = line.as_bytes();
            let of_sdp = matches!(bytes, [b'a'..=b'z', b'=', ..]);
            if !(of_sdp || line.is_empty()) {
                return Err("a line is none of SDP");
            }
            if let Some(candidate) = line.strip_prefix("a=candidate:") {
                candidates.push(format!("candidate:{candidate}"));
            } else if line == "a=end-of-candidates" {
                candidates.push(String::new());
            }
        }
        if candidates.len() > CANDIDATES {
            return Err("it has over 64 candidates");
        }
        let credentials = credentials(text);
        if let Some(Credentials { ufrag, password }) = &credentials {
            let fits = |text: &str, least| {
                (least..=256).contains(&text.len())
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
            };
            if !fits(ufrag, 4) || !fits(password, 22) {
                return Err("ice-ufrag or ice-pwd is not as RFC 8839 section 5.4 has it");
            }
        }
        Ok(Self {
            credentials,
            candidates,
        })
    }
}

/// The first ICE credentials of a description or fragment; with BUNDLE they are those of all media.
pub(super) fn credentials(text: &str) -> Option<Credentials> {
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    Some(Credentials {
        ufrag: value("a=ice-ufrag:")?.to_owned(),
        password: value("a=ice-pwd:")?.to_owned(),
    })
}

/// The description again with other credentials and candidates, and its version raised (RFC 8866 section 5.2).
pub(super) fn restarted(offer: &str, new: &Credentials, candidates: &[String]) -> String {
    let mut text = String::with_capacity(offer.len());
    let mut media = 0;
    let mut push = |line: &str| {
        text.push_str(line);
        text.push_str("\r\n");
    };
    let close = |media: usize, push: &mut dyn FnMut(&str)| {
        // The candidates of a BUNDLE stand in its first section.
        for candidate in candidates
            .iter()
            .filter(|line| media == 1 && !line.is_empty())
        {
            push(&format!("a={candidate}"));
        }
    };
    for line in offer.lines() {
        let line = line.trim_end();
        if line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
            continue;
        }
        if line.starts_with("m=") {
            close(media, &mut push);
            media += 1;
        }
        if let Some(origin) = line.strip_prefix("o=") {
            push(&format!("o={}", next_version(origin)));
        } else if line.starts_with("a=ice-ufrag:") {
            push(&format!("a=ice-ufrag:{}", new.ufrag));
        } else if line.starts_with("a=ice-pwd:") {
            push(&format!("a=ice-pwd:{}", new.password));
        } else if !line.is_empty() {
            push(line);
        }
    }
    close(media, &mut push);
    text
}

fn next_version(origin: &str) -> String {
    let mut fields: Vec<&str> = origin.split(' ').collect();
    let version = fields
        .get(2)
        .and_then(|version| version.parse::<u64>().ok())
        .map(|version| version.wrapping_add(1).to_string());
    if let (Some(field), Some(version)) = (fields.get_mut(2), &version) {
        *field = version;
    }
    fields.join(" ")
}

/// What of our answer a client needs after a restart: credentials and candidates of the first medium.
pub(super) fn of_answer(answer: &str) -> String {
    let mut text = String::new();
    let mut media = 0;
    for line in answer.lines().map(str::trim_end) {
        media += usize::from(line.starts_with("m="));
        let wanted = [
            "a=ice-lite",
            "a=ice-options:",
            "a=ice-ufrag:",
            "a=ice-pwd:",
            "a=group:",
        ]
        .iter()
        .any(|name| line.starts_with(name));
        let of_medium = media == 1
            && ["m=", "a=mid:", "a=candidate:", "a=end-of-candidates"]
                .iter()
                .any(|name| line.starts_with(name));
        if (wanted && media <= 1) || of_medium {
            text.push_str(line);
            text.push_str("\r\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=- 42 7 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:aaaa\r\na=ice-pwd:bbbbbbbbbbbbbbbbbbbbbb\r\na=candidate:old\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=ice-ufrag:aaaa\r\na=ice-pwd:bbbbbbbbbbbbbbbbbbbbbb\r\n";

    #[test]
    fn a_fragment_with_candidates() {
        let text = "a=ice-ufrag:EsAw\r\na=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
            a=candidate:1 1 UDP 2122 192.0.2.1 61764 typ host\r\na=end-of-candidates\r\n";
        let fragment = Fragment::parse(text).unwrap();
        assert_eq!(fragment.credentials.unwrap().ufrag, "EsAw");
        assert_eq!(
            fragment.candidates,
            ["candidate:1 1 UDP 2122 192.0.2.1 61764 typ host", ""]
        );
    }

    #[test]
    fn a_fragment_that_is_none() {
        assert!(Fragment::parse("{}").is_err());
        assert!(Fragment::parse("a=ice-ufrag:x\r\na=ice-pwd:short\r\n").is_err());
        assert!(Fragment::parse(&"a=candidate:x\r\n".repeat(65)).is_err());
        assert!(Fragment::parse(&"a=".repeat(600)).is_err());
    }

    #[test]
    fn a_restart_changes_credentials_candidates_and_version_only() {
        let new = Credentials {
            ufrag: "cccc".into(),
            password: "dddddddddddddddddddddd".into(),
        };
        let text = restarted(OFFER, &new, &["candidate:new".into(), String::new()]);
        let expected = OFFER
            .replace("aaaa", "cccc")
            .replace("bbbbbbbbbbbbbbbbbbbbbb", "dddddddddddddddddddddd")
            .replace("candidate:old", "candidate:new")
            .replace("42 7", "42 8");
        assert_eq!(text, expected);
        assert_eq!(credentials(&text), Some(new));
    }

    #[test]
    fn the_answers_fragment_has_the_first_medium_alone() {
        let text = of_answer(OFFER);
        assert_eq!(
            text,
            "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:aaaa\r\n\
            a=ice-pwd:bbbbbbbbbbbbbbbbbbbbbb\r\na=candidate:old\r\n"
        );
    }
}
