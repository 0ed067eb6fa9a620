//! Good and bad texts, and that example, defaults and README say the same.

use super::*;

fn refused(text: &str) -> String {
    match Config::parse("c.toml", text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_example_is_the_defaults() {
    let example = Config::parse("causeway.toml", EXAMPLE).unwrap();
    assert_eq!(example, Config::parse("defaults", "").unwrap());
}

/// Every key of the example, as `section.key`.
fn example_keys() -> Vec<String> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name;
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.push(format!("{section}.{key}"));
        }
    }
    keys
}

#[test]
fn the_example_has_every_key() {
    let keys = example_keys();
    for section in [
        "http", "tokens", "web", "sip", "rtp", "media", "datapath", "flood", "limits", "log",
    ] {
        let error = refused(&format!("[{section}]\nno_such_key = 1\n"));
        let known = error
            .split_once(" has ")
            .expect("the error lists the keys")
            .1;
        let known: Vec<_> = known
            .split(", ")
            .map(|key| format!("{section}.{key}"))
            .collect();
        let mut shown: Vec<_> = keys
            .iter()
            .filter(|key| key.starts_with(&format!("{section}.")))
            .collect();
        let mut known: Vec<_> = known.iter().collect();
        shown.sort();
        known.sort();
        assert_eq!(shown, known);
    }
}

#[test]
fn the_readme_table_names_only_keys_that_exist() {
    // The README stands at the workspace root; it may be missing in a packaged crate.
    let Ok(readme) = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))
    else {
        return;
    };
    let keys = example_keys();
    let sections: Vec<_> = keys
        .iter()
        .filter_map(|key| key.split('.').next())
        .collect();
    for line in readme.lines().filter(|line| line.starts_with("| `")) {
        let name = line
            .trim_start_matches("| `")
            .split('`')
            .next()
            .unwrap_or_default();
        let Some((section, _)) = name.split_once('.') else {
            continue;
        };
        assert!(
            !sections.contains(&section) || keys.iter().any(|key| key == name),
            "README.md names `{name}`, which is no key"
        );
    }
}

/// A bad text, and how its error begins.
const REFUSED: [(&str, &str); 38] = [
    ("[http\n", "c.toml:1:6:"),
    (
        "[htp]\n",
        "c.toml:1:2: `htp` unknown section; there are http, tokens,",
    ),
    (
        "http = 3\n",
        "c.toml:1:8: `http` is a section, here it is of type integer",
    ),
    (
        "[http]\n\nlisten = \"nowhere\"\n",
        "c.toml:3:10: `http.listen` has to be an address and port",
    ),
    (
        "[http]\nlisten = 8080\n",
        "c.toml:2:10: `http.listen` has to be an address and port",
    ),
    (
        "[http]\ntls_key = \"k.pem\"\n",
        "c.toml:2:11: `http.tls_key` needs `http.tls_certificate`",
    ),
    (
        "[http]\ncors_origins = [\"desk.example.org\"]\n",
        "c.toml:2:16: `http.cors_origins` has to be a list of origins",
    ),
    (
        "[http]\ncors_origins = [\"https://desk.example.org\", \"*\"]\n",
        "c.toml:2:16: `http.cors_origins` has to be \"*\" alone or a list",
    ),
    (
        "[web]\nlisten = [\"0.0.0.0:40000\"]\n",
        "c.toml:2:10: `web.listen` has to name a specific address",
    ),
    (
        "[web]\nlisten = [\"127.0.0.1:1\", \"127.0.0.2:1\"]\n",
        "c.toml:2:10: `web.listen` has to have one IPv4",
    ),
    (
        "[web]\nadvertised = [\"1.2.3.4:1\", \"1.2.3.4:2\"]\n",
        "c.toml:2:14: `web.advertised` has to have as many",
    ),
    (
        "[web]\ndscp = 64\n",
        "c.toml:2:8: `web.dscp` has to be a whole number 0..=63",
    ),
    (
        "[web]\nconnect_timeout_s = 1.5\n",
        "c.toml:2:21: `web.connect_timeout_s` has to be a whole number 1..=120 s",
    ),
    (
        "[sip]\nlisten_udp = \"0.0.0.0:5060\"\n",
        "c.toml:2:14: `sip.listen_udp` is a wildcard address",
    ),
    (
        "[sip]\nlisten_udp = \"\"\nlisten_tcp = \"\"\n",
        "c.toml:2:14: `sip.listen_udp` cannot be empty together with",
    ),
    (
        "[sip]\noutbound_proxy = \"a;transport=ws\"\n",
        "c.toml:2:18: `sip.outbound_proxy` has to be \"host\"",
    ),
    (
        "[sip]\ndomain = \"a b\"\n",
        "c.toml:2:10: `sip.domain` has to be a host name",
    ),
    (
        "[trunk]\nname = \"a\"\n",
        "c.toml:1:1: `trunk` is written as [[trunk]], once for each",
    ),
    (
        "[[trunk]]\ndestinations = [\"0*\"]\n",
        "c.toml:1:1: `trunk.name` has to be given",
    ),
    (
        "[[trunk]]\nname = \"default\"\n",
        "c.toml:2:8: `trunk.name` has to be given, unlike that of every other",
    ),
    (
        "[[trunk]]\nname = \"a\"\n",
        "c.toml:1:1: `trunk.destinations` and `trunk.sources` cannot both be empty",
    ),
    (
        "[[trunk]]\nname = \"a\"\ndestinations = [\"0*\"]\n",
        "c.toml:1:1: `trunk.proxies` has to name a server",
    ),
    (
        "[[trunk]]\nname = \"a\"\nsources = [\"192.0.2.0/33\"]\n",
        "c.toml:3:11: `trunk.sources` has to be a list of networks",
    ),
    (
        "[[trunk]]\nname = \"a\"\nsources = [\"::1\"]\ncallee_rules = [\"1 -> *\"]\n",
        "c.toml:4:16: `trunk.callee_rules` has to be a list of rules",
    ),
    (
        "[[trunk]]\nname = \"a\"\nsources = [\"::1\"]\nuser = \"u\"\npassword_file = \"/no/such\"\n",
        "c.toml:5:17: `trunk.password_file` names a file that cannot be read",
    ),
    (
        "[rtp]\naddress = \"::\"\n",
        "c.toml:2:11: `rtp.address` has to be a specific address",
    ),
    (
        "[rtp]\nports = \"20001-29999\"\n",
        "c.toml:2:9: `rtp.ports` has to be \"first-last\", first even",
    ),
    (
        "[rtp]\nports = \"20000-20000\"\n",
        "c.toml:2:9: `rtp.ports`",
    ),
    (
        "[media]\ncodecs = [\"GSM\"]\n",
        "c.toml:2:10: `media.codecs` has to be a list of PCMU, PCMA, G722, opus",
    ),
    (
        "[media]\ncodecs = [\"PCMU\", \"pcmu\"]\n",
        "c.toml:2:10: `media.codecs` has to name each codec once",
    ),
    (
        "[media]\ncodecs = []\n",
        "c.toml:2:10: `media.codecs` has to name at least one codec",
    ),
    (
        "[media]\nvideo_codecs = [\"VP8\", \"H265\"]\n",
        "c.toml:2:16: `media.video_codecs` has to be a list of VP8, H264, VP9, AV1",
    ),
    (
        "[datapath]\nmode = \"xdp\"\n",
        "c.toml:2:8: `datapath.mode` has to be \"auto\"",
    ),
    (
        "[limits]\ncalls = 0\n",
        "c.toml:2:9: `limits.calls` has to be a whole number 1..=100000",
    ),
    ("[limits]\n# ä\ncalls = -1\n", "c.toml:3:9: `limits.calls`"),
    (
        "[log]\nlevel = \"loud\"\n",
        "c.toml:2:9: `log.level` has to be \"error\"",
    ),
    (
        "[log]\nlevel = \"info\"\nlevle = \"info\"\n",
        "c.toml:3:1: `log.levle` unknown key; [log] has level, format",
    ),
    ("[log]\nlevel = \"info\"\nlevel = \"info\"\n", "c.toml:3:1:"),
];

#[test]
fn an_error_names_file_line_column_key_and_what_is_allowed() {
    for (text, expected) in REFUSED {
        let error = refused(text);
        assert!(
            error.starts_with(expected),
            "{text:?} gave {error:?}, not {expected:?}"
        );
    }
}

#[test]
fn listeners_in_each_others_way_are_refused() {
    let same = "[http]\nlisten = \"127.0.0.1:9090\"\n";
    assert!(refused(same).starts_with(
        "c.toml:2:10: `http.listen` is the address 127.0.0.1:9090 of `http.admin_listen`"
    ));
    let wildcard = "[http]\nlisten = \"0.0.0.0:5062\"\n";
    assert!(refused(wildcard).contains("is the address 127.0.0.1:5062 of `sip.listen_tcp`"));
    let udp = "[web]\nlisten = [\"127.0.0.1:5062\"]\n";
    assert!(refused(udp).contains("of `sip.listen_udp`"));
    let rtp = "[web]\nlisten = [\"127.0.0.1:20010\"]\n";
    assert!(refused(rtp).contains("`web.listen` lies within `rtp.ports` 20000-29999"));
    // UDP and TCP do not meet, and port 0 is any free one.
    assert!(
        Config::parse(
            "c.toml",
            "[http]\nlisten = \"127.0.0.1:40000\"\nadmin_listen = \"127.0.0.1:0\"\n"
        )
        .is_ok()
    );
}

#[test]
fn a_turn_server_needs_its_secret_and_the_secret_a_turn_server() {
    let relay = "[web]\nice_servers = [\"turn:turn.example.org\"]\n";
    assert!(refused(relay).contains("`web.turn_secret_file` has to be given where"));
    let secret = "[web]\nturn_secret_file = \"/etc/causeway/turn\"\n";
    assert!(refused(secret).contains("is of no use without a TURN server"));
    let wrong = "[web]\nice_servers = [\"https://turn.example.org\"]\n";
    assert!(refused(wrong).contains("`web.ice_servers` "));
}

#[test]
fn good_values_arrive() {
    let text = r#"
[http]
listen = "[::1]:8443"
cors_origins = ["https://desk.example.org", "http://localhost:3000"]
tls_certificate = "/etc/causeway/chain.pem"
tls_key = "/etc/causeway/key.pem"
[web]
listen = ["192.0.2.1:443", "[2001:db8::1]:443"]
advertised = ["198.51.100.1:4443", "[2001:db8::2]:443"]
[sip]
listen_udp = "0.0.0.0:5060"
listen_tcp = ""
advertised = "gw.example.org:5070"
outbound_proxy = "[2001:db8::9]:5061;transport=TCP"
[rtp]
ports = "0x4e20-29999"
"#;
    assert!(refused(text).contains("`rtp.ports`"));
    let config = Config::parse("c.toml", &text.replace("0x4e20", "20000")).unwrap();
    assert_eq!(
        config.http.tls.as_ref().unwrap().key,
        Path::new("/etc/causeway/key.pem")
    );
    assert_eq!(
        config.sip.advertised,
        Some(("gw.example.org".into(), Some(5070)))
    );
    let proxy = config.trunks[0].proxies[0].clone();
    assert_eq!(
        (proxy.host.as_str(), proxy.port),
        ("[2001:db8::9]", Some(5061))
    );
    assert_eq!(proxy.transport, Some(sip::Transport::Tcp));
    let bound = [(sip::Transport::Udp, "0.0.0.0:5060".parse().unwrap())];
    let core = config.core(&config.web.listen, &bound);
    assert_eq!(core.sip.listen[0].sent_by(), "gw.example.org:5070");
}

/// The commented `[[trunk]]` of the example, to be read.
fn example_trunk() -> String {
    let lines = EXAMPLE.lines().filter_map(|line| line.strip_prefix('#'));
    let lines = lines.filter(|line| !line.starts_with(' ') && !line.is_empty());
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_example_s_trunk_has_every_key_and_is_one() {
    let text = example_trunk();
    let config = Config::parse("c.toml", &text).unwrap();
    let trunk = &config.trunks[0];
    assert_eq!((config.trunks.len(), trunk.name.as_str()), (2, "provider"));
    assert_eq!(trunk.proxies[1].transport, Some(sip::Transport::Tls));
    assert_eq!(trunk.codecs.audio, ["PCMA", "PCMU"]);
    assert_eq!(trunk.calls, Some(200));
    let error = refused(&format!("{text}no_such_key = 1\n"));
    let known = error.split_once(" has ").unwrap().1.split(", ");
    let shown = |key: &str| {
        text.lines()
            .any(|line| line.starts_with(&format!("{key} = ")))
    };
    let hidden: Vec<_> = known.filter(|key| !shown(key)).collect();
    assert_eq!(hidden, Vec::<&str>::new());
}

#[test]
fn a_trunk_has_what_it_says_and_the_rest_of_the_default_one() {
    let file = std::env::temp_dir().join(format!("causeway-password-{}", std::process::id()));
    std::fs::write(&file, "s3cret\n").unwrap();
    let text = format!(
        "[sip]\nsrtp = \"off\"\nrefer = \"page\"\n[media]\ncodecs = [\"PCMA\"]\n\
         [[trunk]]\nname = \"a\"\ndestinations = [\"0*\"]\ndomain = \"a.example\"\nuser = \"gw\"\npassword_file = {file:?}\n\
         [[trunk]]\nname = \"b\"\nsources = [\"192.0.2.0/24\"]\nsrtp = \"require\"\noptions_s = 0\n"
    );
    let config = Config::parse("c.toml", &text);
    std::fs::remove_file(&file).unwrap();
    let trunks = config.unwrap().trunks;
    let [a, b, default] = &trunks[..] else {
        panic!("{trunks:?}")
    };
    assert_eq!(a.proxies[0].host, "a.example");
    assert_eq!(a.credentials.as_ref().unwrap().password, "s3cret");
    assert_eq!((&a.codecs, &a.srtp), (&default.codecs, &default.srtp));
    assert_eq!(a.watch, Some(Duration::from_secs(30)));
    assert_ne!(b.srtp, default.srtp);
    assert_eq!((b.watch, b.refer), (None, default.refer));
}
