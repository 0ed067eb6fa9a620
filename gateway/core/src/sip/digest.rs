//! Digest authentication (RFC 3261 section 22, RFC 7616, RFC 8760): MD5 and SHA-256, with and without `qop=auth`.
//!
//! [`Challenge`] and [`Answer`] serve both sides: the user agent parses challenges and writes answers, the bench
//! crate's registrar writes challenges and checks answers.

use std::fmt;

use sha2::{Digest, Sha256};

use super::event::Credentials;
use super::message::{Method, quote, split_list, unquote};

/// Hash algorithms; the `-sess` forms fold nonce and cnonce into HA1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// MD5, also where the challenge names none.
    Md5,
    /// MD5-sess.
    Md5Sess,
    /// SHA-256.
    Sha256,
    /// SHA-256-sess.
    Sha256Sess,
}

impl Algorithm {
    /// The token on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Md5Sess => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha256Sess => "SHA-256-sess",
        }
    }

    fn from_token(token: &str) -> Option<Self> {
        [Self::Md5, Self::Md5Sess, Self::Sha256, Self::Sha256Sess]
            .into_iter()
            .find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(token))
    }

    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 | Self::Md5Sess => hex::encode(md5::Md5::digest(text)),
            Self::Sha256 | Self::Sha256Sess => hex::encode(Sha256::digest(text)),
        }
    }
}

/// The value of WWW-Authenticate or Proxy-Authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Whose password is asked for.
    pub realm: String,
    /// The server's nonce.
    pub nonce: String,
    /// To be returned unchanged.
    pub opaque: Option<String>,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Whether the answer counts its uses (`qop=auth`).
    pub qop_auth: bool,
    /// Only the nonce was too old, the password was right.
    pub stale: bool,
}

impl Challenge {
    /// Reads a challenge; `None` if it is not one that we can answer (other scheme, algorithm, or only `auth-int`).
    pub fn parse(value: &str) -> Option<Self> {
        let params = digest_params(value)?;
        let algorithm =
            param(&params, "algorithm").map_or(Some(Algorithm::Md5), Algorithm::from_token)?;
        let qop = param(&params, "qop");
        let qop_auth = qop.is_some_and(|qop| {
            qop.split(',')
                .any(|item| item.trim().eq_ignore_ascii_case("auth"))
        });
        if qop.is_some_and(|qop| !qop.trim().is_empty()) && !qop_auth {
            return None;
        }
        Some(Self {
            realm: param(&params, "realm")?.to_owned(),
            nonce: param(&params, "nonce")?.to_owned(),
            opaque: param(&params, "opaque").map(str::to_owned),
            algorithm,
            qop_auth,
            stale: param(&params, "stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    /// The answer to this challenge; `count` is how often the nonce was used, this time included.
    pub fn answer(
        &self,
        credentials: &Credentials,
        method: &Method,
        uri: &str,
        count: u32,
        cnonce: &str,
    ) -> Answer {
        let mut answer = Answer {
            user: credentials.user.clone(),
            realm: self.realm.clone(),
            nonce: self.nonce.clone(),
            uri: uri.to_owned(),
            opaque: self.opaque.clone(),
            algorithm: self.algorithm,
            qop: self.qop_auth.then_some((count, cnonce.to_owned())),
            response: String::new(),
        };
        answer.response = answer.compute(&credentials.password, method, cnonce);
        answer
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Digest realm={}, nonce={}",
            quote(&self.realm),
            quote(&self.nonce)
        )?;
        if let Some(opaque) = &self.opaque {
            write!(f, ", opaque={}", quote(opaque))?;
        }
        write!(f, ", algorithm={}", self.algorithm.as_str())?;
        if self.qop_auth {
            f.write_str(", qop=\"auth\"")?;
        }
        if self.stale {
            f.write_str(", stale=true")?;
        }
        Ok(())
    }
}

/// The value of Authorization or Proxy-Authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The user name.
    pub user: String,
    /// The realm of the challenge.
    pub realm: String,
    /// The nonce of the challenge.
    pub nonce: String,
    /// The digest URI: the Request-URI as sent.
    pub uri: String,
    /// As in the challenge.
    pub opaque: Option<String>,
    /// As in the challenge.
    pub algorithm: Algorithm,
    /// Nonce count and client nonce, with `qop=auth`.
    pub qop: Option<(u32, String)>,
    /// The hash, in hex.
    pub response: String,
}

impl Answer {
    /// Reads an answer; `None` if it is not a digest one that we could have asked for.
    pub fn parse(value: &str) -> Option<Self> {
        let params = digest_params(value)?;
        let text = |name| param(&params, name).map(str::to_owned);
        let qop = match param(&params, "qop") {
            Some(qop) if qop.eq_ignore_ascii_case("auth") => Some((
                u32::from_str_radix(param(&params, "nc")?, 16).ok()?,
                text("cnonce")?,
            )),
            Some(_) => return None,
            None => None,
        };
        Some(Self {
            user: text("username")?,
            realm: text("realm")?,
            nonce: text("nonce")?,
            uri: text("uri")?,
            opaque: text("opaque"),
            algorithm: param(&params, "algorithm")
                .map_or(Some(Algorithm::Md5), Algorithm::from_token)?,
            qop,
            response: text("response")?,
        })
    }

    /// Whether the hash fits the password. The server checks realm, nonce, age and count of the nonce itself.
    pub fn fits(&self, password: &str, method: &Method) -> bool {
        let cnonce = self.qop.as_ref().map_or("", |(_, cnonce)| cnonce.as_str());
        let expected = self.compute(password, method, cnonce);
        let differing = expected
            .bytes()
            .zip(self.response.bytes())
            .fold(0, |acc, (a, b)| acc | (a ^ b));
        expected.len() == self.response.len() && differing == 0
    }

    fn compute(&self, password: &str, method: &Method, cnonce: &str) -> String {
        let hash = |text: &str| self.algorithm.hash(text);
        let mut secret = hash(&format!("{}:{}:{password}", self.user, self.realm));
        if matches!(self.algorithm, Algorithm::Md5Sess | Algorithm::Sha256Sess) {
            secret = hash(&format!("{secret}:{}:{cnonce}", self.nonce));
        }
        let request = hash(&format!("{method}:{}", self.uri));
        match &self.qop {
            Some((count, cnonce)) => hash(&format!(
                "{secret}:{}:{count:08x}:{cnonce}:auth:{request}",
                self.nonce
            )),
            None => hash(&format!("{secret}:{}:{request}", self.nonce)),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, realm, nonce) = (quote(&self.user), quote(&self.realm), quote(&self.nonce));
        write!(
            f,
            "Digest username={user}, realm={realm}, nonce={nonce}, uri={}",
            quote(&self.uri)
        )?;
        write!(
            f,
            ", response=\"{}\", algorithm={}",
            self.response,
            self.algorithm.as_str()
        )?;
        if let Some((count, cnonce)) = &self.qop {
            write!(f, ", qop=auth, nc={count:08x}, cnonce={}", quote(cnonce))?;
        }
        self.opaque
            .iter()
            .try_for_each(|opaque| write!(f, ", opaque={}", quote(opaque)))
    }
}

fn digest_params(value: &str) -> Option<Vec<(&str, String)>> {
    let (scheme, rest) = value.trim().split_once([' ', '\t'])?;
    if !scheme.eq_ignore_ascii_case("Digest") {
        return None;
    }
    let pairs = split_list(rest, ',')
        .into_iter()
        .filter_map(|item| item.split_once('='));
    Some(
        pairs
            .map(|(name, value)| (name.trim(), unquote(value)))
            .collect(),
    )
}

fn param<'a>(params: &'a [(&str, String)], name: &str) -> Option<&'a str> {
    params
        .iter()
        .find(|(param, _)| param.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 section 3.9.1 (its method is GET).
    const RFC: &str = "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm=ALG, \
        nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";

    fn mufasa() -> Credentials {
        Credentials {
            user: "Mufasa".into(),
            password: "Circle of Life".into(),
        }
    }

    #[test]
    fn the_rfc_7616_examples_come_out() {
        let rows = [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            (
                "SHA-256",
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ];
        for (algorithm, response) in rows {
            let challenge = Challenge::parse(&RFC.replace("ALG", algorithm)).unwrap();
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let answer = challenge.answer(
                &mufasa(),
                &Method::from("GET"),
                "/dir/index.html",
                1,
                cnonce,
            );
            assert_eq!(answer.response, response);
            let read = Answer::parse(&answer.to_string()).unwrap();
            assert_eq!(read, answer);
            assert!(read.fits("Circle of Life", &Method::from("GET")));
            assert!(!read.fits("Circle of life", &Method::from("GET")));
        }
    }

    #[test]
    fn the_rfc_2617_form_without_qop_comes_out() {
        // RFC 2617 section 3.5 without qop: HA1 and HA2 are those of the RFC's example.
        let text =
            r#"Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093""#;
        let challenge = Challenge::parse(text).unwrap();
        let user = Credentials {
            user: "Mufasa".into(),
            password: "Circle Of Life".into(),
        };
        let answer = challenge.answer(&user, &Method::from("GET"), "/dir/index.html", 1, "");
        assert_eq!(answer.response, "670fd8c2df070c60b045671b8b24ff02");
    }

    #[test]
    fn challenges_that_cannot_be_answered_are_not_taken() {
        for text in [
            "Basic realm=\"a\"",
            "Digest realm=\"a\"",
            "Digest realm=\"a\", nonce=\"b\", algorithm=SHA-512-256",
            "Digest realm=\"a\", nonce=\"b\", qop=\"auth-int\"",
            "Digest",
        ] {
            assert_eq!(Challenge::parse(text), None, "{text}");
        }
        let challenge =
            Challenge::parse("Digest nonce=\"n,1\\\"\", REALM=\"r\", stale=TRUE").unwrap();
        assert_eq!((challenge.nonce.as_str(), challenge.stale), ("n,1\"", true));
        assert_eq!(Challenge::parse(&challenge.to_string()).unwrap(), challenge);
    }
}
