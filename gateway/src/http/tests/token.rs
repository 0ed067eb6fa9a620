//! Sign-in tokens: each algorithm, each way of not being valid, rotation, and what reaches the core.

use super::socket::{PROTOCOL, Page};
use super::*;
use crate::http::token::{Config, KeyFile, Tokens};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// A key pair for nothing but these tests.
const RSA: &[u8] = include_bytes!("keys/rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("keys/rsa-public.pem");

/// A file that goes when the test does.
struct KeyPath(PathBuf);

impl KeyPath {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path =
            std::env::temp_dir().join(format!("causeway-token-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for KeyPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn config(keys: KeyFile) -> Config {
    Config {
        keys,
        issuer: "https://sign-in.example.org".into(),
        audience: "causeway".into(),
        required: false,
    }
}

fn tokens(path: &Path) -> Tokens {
    Tokens::load(config(KeyFile::Key(path.to_owned()))).unwrap()
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Claims that are valid; `change` makes them otherwise.
fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = json!({"sub": "alice", "name": "Alice", "exp": now() + 300, "call": ["5*"],
        "iss": "https://sign-in.example.org", "aud": "causeway"});
    change(&mut claims);
    claims
}

fn hs256(claims: &Value) -> String {
    encode(
        &Header::default(),
        claims,
        &EncodingKey::from_secret(SECRET),
    )
    .unwrap()
}

fn detail(result: Result<wire::Grant, Problem>) -> String {
    let problem = result.unwrap_err();
    assert_eq!((problem.status, problem.kind.as_str()), (401, "bad-token"));
    problem.detail.unwrap()
}

#[test]
fn each_algorithm_by_its_own_kind_of_key() {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let ec = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let rsa = EncodingKey::from_rsa_pem(RSA).unwrap();
    let (secret_file, rsa_file, ec_file) = (
        KeyPath::new("hs", SECRET),
        KeyPath::new("rs", RSA_PUBLIC),
        KeyPath::new("es", pair.public_key_pem().as_bytes()),
    );
    let claims = claims(|_| ());
    let signed = [
        (&secret_file, hs256(&claims)),
        (
            &rsa_file,
            encode(&Header::new(Algorithm::RS256), &claims, &rsa).unwrap(),
        ),
        (
            &ec_file,
            encode(&Header::new(Algorithm::ES256), &claims, &ec).unwrap(),
        ),
    ];
    for (place, (file, _)) in signed.iter().enumerate() {
        for (other, (_, token)) in signed.iter().enumerate() {
            let granted = tokens(&file.0).verify(token);
            assert_eq!(
                granted.is_ok(),
                place == other,
                "file {place}, token {other}"
            );
        }
    }
    let granted = tokens(&secret_file.0).verify(&signed[0].1).unwrap();
    assert_eq!(granted.user, "alice");
    assert_eq!(granted.display_name.as_deref(), Some("Alice"));
    assert_eq!(granted.may_call.unwrap()[0].0, "5*");
}

#[test]
fn a_public_key_is_no_secret_and_none_is_no_algorithm() {
    // The attack of RFC 8725 section 2.1: the RSA public key, which all know, as the secret of HS256.
    let file = KeyPath::new("confusion", RSA_PUBLIC);
    let forged = encode(
        &Header::default(),
        &claims(|_| ()),
        &EncodingKey::from_secret(RSA_PUBLIC),
    )
    .unwrap();
    assert!(tokens(&file.0).verify(&forged).is_err());
    let body = hs256(&claims(|_| ()));
    let body = body.split('.').nth(1).unwrap();
    // {"alg":"none","typ":"JWT"}
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}.");
    assert_eq!(detail(tokens(&file.0).verify(&unsigned)), "it is no JWT");
}

#[test]
fn what_makes_a_token_invalid_is_said() {
    let file = KeyPath::new("invalid", SECRET);
    let tokens = tokens(&file.0);
    let refused = |change: fn(&mut Value)| detail(tokens.verify(&hs256(&claims(change))));
    assert!(refused(|claims| claims["exp"] = (now() - 60).into()).contains("Expired"));
    assert!(refused(|claims| claims["nbf"] = (now() + 600).into()).contains("Immature"));
    assert!(refused(|claims| claims["iss"] = "https://elsewhere".into()).contains("Issuer"));
    assert!(refused(|claims| claims["aud"] = "another".into()).contains("Audience"));
    assert!(refused(|claims| claims["sub"] = "".into()).contains("names nobody"));
    assert!(
        refused(|claims| {
            claims.as_object_mut().unwrap().remove("exp");
        })
        .contains("exp")
    );
    assert!(
        refused(|claims| {
            claims.as_object_mut().unwrap().remove("iss");
        })
        .contains("iss")
    );
    assert!(refused(|claims| claims["call"] = vec!["x"; 300].into()).contains("256 entries"));
    let mut token = hs256(&claims(|_| ()));
    token.truncate(token.len() - 2);
    assert!(tokens.verify(&token).is_err());
    assert_eq!(detail(tokens.verify(&"x".repeat(20_000))), "it is too long");
}

#[test]
fn keys_rotate_and_a_broken_file_changes_nothing() {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(SECRET);
    let set = |id: &str| {
        json!({"keys": [
        {"kty": "oct", "kid": id, "k": encoded, "alg": "HS256"},
        {"kty": "oct", "kid": "encryption", "k": encoded, "use": "enc"}]})
        .to_string()
    };
    let file = KeyPath::new("jwks", set("one").as_bytes());
    let tokens = Tokens::load(config(KeyFile::Jwks(file.0.clone()))).unwrap();
    let sign = |id: &str| {
        let header = Header {
            kid: Some(id.to_owned()),
            ..Header::default()
        };
        encode(&header, &claims(|_| ()), &EncodingKey::from_secret(SECRET)).unwrap()
    };
    assert!(tokens.verify(&sign("one")).is_ok());
    assert!(detail(tokens.verify(&sign("two"))).contains("kid"));
    assert!(detail(tokens.verify(&sign("encryption"))).contains("kid"));
    let rewrite = |text: &str, later: u64| {
        std::fs::write(&file.0, text).unwrap();
        let handle = std::fs::File::options().write(true).open(&file.0).unwrap();
        handle
            .set_modified(SystemTime::now() + Duration::from_secs(later))
            .unwrap();
    };
    rewrite(&set("two"), 10);
    assert!(tokens.verify(&sign("two")).is_ok());
    assert!(tokens.verify(&sign("one")).is_err());
    rewrite("{", 20);
    assert!(tokens.verify(&sign("two")).is_ok());
}

#[test]
fn key_files_that_cannot_serve_are_refused_at_start() {
    let load = |bytes: &[u8]| {
        let file = KeyPath::new("start", bytes);
        Tokens::load(config(KeyFile::Key(file.0.clone())))
            .map(|_| ())
            .unwrap_err()
    };
    assert!(format!("{:#}", load(b"short")).contains("at least 32 bytes"));
    assert!(format!("{:#}", load(RSA)).contains("private key"));
    let garbage = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    assert!(format!("{:#}", load(garbage)).contains("neither"));
}

#[tokio::test]
async fn a_sign_in_hands_the_grant_to_the_core() {
    let file = KeyPath::new("sign-in", SECRET);
    let mut bed = bed_with(&settings(), |request| match request {
        wire::Request::CreateSession(_, grant) => {
            let user = grant.map_or_else(|| "nobody".to_owned(), |grant| grant.user);
            Err(Problem::new(418, &user, "the user that came", ""))
        }
        _ => Ok(Reply::Done),
    });
    let required = Config {
        required: true,
        ..config(KeyFile::Key(file.0.clone()))
    };
    bed.shell.tokens = Some(Arc::new(Tokens::load(required).unwrap()));
    let router = public(bed.shell.clone(), &settings());
    let token = hs256(&claims(|_| ()));
    let response = send(&router, json("POST", "/api/v1/sessions", &token, "{}")).await;
    assert_eq!(read(response).await["type"], "alice");
    let response = send(&router, json("POST", "/api/v1/sessions", "", "{}")).await;
    assert_eq!(read(response).await["type"], "no-token");
    let response = send(&router, json("POST", "/api/v1/sessions", "x.y.z", "{}")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(read(response).await["type"], "bad-token");
    // Over a WebSocket it stands in the frame.
    let mut page = Page::open(&router, &[PROTOCOL]).await.ok().unwrap();
    for (token, kind) in [(json!(token), "alice"), (Value::Null, "no-token")] {
        let frame = json!({"id": 1, "method": "POST", "path": "/api/v1/sessions", "body": {}, "token": token});
        assert_eq!(page.ask(&frame.to_string()).await["body"]["type"], kind);
    }
}
