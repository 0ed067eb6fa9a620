//! A registrar of few words: it takes every REGISTER that carries credentials, and challenges the others.

/// The answer to a REGISTER.
pub(crate) fn answer(request: &str) -> String {
    let line = |name: &str| {
        request
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default()
            .to_owned()
    };
    let to = line("To:");
    let to = if to.contains(";tag=") {
        to
    } else {
        format!("{to};tag=registrar")
    };
    let authorization = line("Authorization:");
    let (status, extra) = if authorization.is_empty() {
        let challenge = "WWW-Authenticate: Digest realm=\"example.org\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"";
        ("401 Unauthorized", challenge.to_owned())
    } else if authorization.contains("username=\"mallory\"") {
        ("403 Forbidden", "X-Reason: no".to_owned())
    } else {
        (
            "200 OK",
            format!(
                "{};expires=600",
                line("Contact:")
                    .split(";expires")
                    .next()
                    .unwrap_or_default()
            ),
        )
    };
    format!(
        "SIP/2.0 {status}\r\n{}\r\n{}\r\n{to}\r\n{}\r\n{}\r\n{extra}\r\nContent-Length: 0\r\n\r\n",
        line("Via:"),
        line("From:"),
        line("Call-ID:"),
        line("CSeq:"),
    )
}
