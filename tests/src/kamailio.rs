//! Kamailio as the SIP server: registrar with digest, proxy with record-routing, no database.

use crate::authority::KeyPair;
use crate::files::Directory;
use crate::netns::{Line, Namespace};
use crate::process::{Process, Program};
use std::time::Duration;

/// A running Kamailio; every user `NAME` has the password `password-NAME`.
pub struct Kamailio {
    _process: Process,
    _directory: Directory,
}

const ROUTES: &str = r#"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("usrloc", "db_mode", 0)
modparam("registrar", "min_expires", 5)

request_route {
    if (!mf_process_maxfwd_header("20")) {
        sl_send_reply("483", "Too Many Hops");
        exit;
    }
    if (has_totag()) {
        route(DIALOG);
        exit;
    }
    if (is_method("CANCEL")) {
        if (t_check_trans()) t_relay();
        exit;
    }
    if (is_method("OPTIONS")) {
        sl_send_reply("200", "OK");
        exit;
    }
    t_check_trans();
    if (is_method("REGISTER")) {
        if (!pv_www_authenticate("$td", "password-$au", "0")) {
            www_challenge("$td", "0");
            exit;
        }
        save("location");
        exit;
    }
    if (!is_method("INVITE")) {
        sl_send_reply("405", "Method Not Allowed");
        exit;
    }
    if (!pv_proxy_authenticate("$fd", "password-$au", "0")) {
        proxy_challenge("$fd", "0");
        exit;
    }
    consume_credentials();
    record_route();
    if (!lookup("location")) {
        sl_send_reply("404", "Not Found");
        exit;
    }
    if (!t_relay()) sl_reply_error();
}

route[DIALOG] {
    if (loose_route()) {
        if (!t_relay()) sl_reply_error();
    } else if (is_method("ACK")) {
        if (t_check_trans()) t_relay();
    } else {
        sl_send_reply("404", "Not Here");
    }
}
"#;

impl Kamailio {
    /// SIP domain that it serves.
    pub const DOMAIN: &str = "causeway.test";

    /// Starts it at the SIP side's address, port 5060, UDP and TCP.
    pub fn start(namespace: &Namespace) -> Self {
        Self::listening(namespace, 5060, None)
    }

    /// Starts it with TLS, too, on that port and with that certificate and key.
    pub fn secured(namespace: &Namespace, port: u16, tls_port: u16, pair: &KeyPair) -> Self {
        Self::listening(namespace, port, Some((tls_port, pair)))
    }

    fn listening(namespace: &Namespace, port: u16, tls: Option<(u16, &KeyPair)>) -> Self {
        let directory = Directory::new("kamailio");
        let address = Line::SIP;
        let head = format!(
            r#"#!KAMAILIO
debug=2
log_stderror=yes
children=2
tcp_children=2
auto_aliases=no
alias="{}"
listen=udp:{address}:{port}
listen=tcp:{address}:{port}
"#,
            Self::DOMAIN
        );
        let tls = tls.map_or_else(String::new, |(port, pair)| {
            format!(
                r#"enable_tls=yes
listen=tls:{address}:{port}
loadmodule "tls.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "certificate", "{}")
modparam("tls", "private_key", "{}")
"#,
                pair.certificate.display(),
                pair.key.display()
            )
        });
        let config = directory.write("kamailio.cfg", head + &tls + ROUTES);
        let run = directory.path().to_string_lossy().into_owned();
        let mut process = Program::new("kamailio")
            .inside(Some(namespace))
            .args([
                "-f",
                &config.to_string_lossy(),
                "-DD",
                "-E",
                "-m",
                "64",
                "-M",
                "4",
            ])
            .args(["-Y", &run, "-P", &format!("{run}/kamailio.pid")])
            .start();
        process.wait_for_line("INFO: <core> [core/tcp_main.c", Duration::from_secs(15));
        Self {
            _process: process,
            _directory: directory,
        }
    }

    /// Password of a user.
    pub fn password(user: &str) -> String {
        format!("password-{user}")
    }
}
