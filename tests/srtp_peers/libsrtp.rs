//! Debian's libsrtp2 as a process: `libsrtp.c`, compiled on the spot.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flow::Suite;
use gateway_core::rtp::MasterKeys;

/// What libsrtp does to the packets.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    Protect,
    Unprotect,
}

/// Runs the packets through one libsrtp session, in order.
pub(crate) fn run(keys: &MasterKeys, direction: Direction, packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let direction = match direction {
        Direction::Protect => "protect",
        Direction::Unprotect => "unprotect",
    };
    let suite = match keys.suite() {
        Suite::AesCm128HmacSha1_80 => "cm-128-80",
        Suite::AesCm128HmacSha1_32 => "cm-128-32",
        Suite::AesCm256HmacSha1_80 => "cm-256-80",
        Suite::AesCm256HmacSha1_32 => "cm-256-32",
        Suite::AeadAes128Gcm => "gcm-128",
        Suite::AeadAes256Gcm => "gcm-256",
    };
    let key = hex::encode([keys.key(), keys.salt()].concat());
    let mut child = Command::new(program())
        .args([direction, suite, &key])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let lines: String = packets
        .iter()
        .map(|packet| hex::encode(packet) + "\n")
        .collect();
    let mut input = child.stdin.take().expect("stdin is piped");
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("the program ends");
    writer
        .join()
        .expect("the writer does not panic")
        .expect("the program reads all packets");
    let text = String::from_utf8(output.stdout).expect("hexadecimal");
    text.lines()
        .map(|line| hex::decode(line).unwrap_or_else(|_| panic!("libsrtp: {line}")))
        .collect()
}

/// Compiles the program once per run of the tests.
fn program() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("srtp_peers/libsrtp.c");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libsrtp-peer");
    let compiled = Command::new("cc")
        .arg(source)
        .arg("-o")
        .arg(&out)
        .args(["-O1", "-Wall", "-lsrtp2"])
        .status();
    assert!(
        compiled.is_ok_and(|status| status.success()),
        "cc and libsrtp2-dev (Debian) are needed"
    );
    out
}
