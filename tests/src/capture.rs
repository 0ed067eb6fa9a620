//! What the SIP side sees on the wire: captured by tcpdump, read by tshark, decoded here.

use crate::files::Directory;
use crate::netns::Namespace;
use crate::process::{Process, Program};
use crate::tone;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A running capture.
pub struct Capture {
    process: Process,
    file: PathBuf,
    _directory: Directory,
}

/// One RTP packet as tshark reads it.
#[derive(Clone, Debug)]
pub struct Rtp {
    /// `address:port` of the sender.
    pub from: String,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Payload type.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// Payload.
    pub payload: Vec<u8>,
    /// Identifiers of its header extension elements (RFC 8285).
    pub extensions: Vec<u8>,
}

/// One SIP request as tshark reads it.
#[derive(Clone, Debug)]
pub struct SipRequest {
    /// Address of the sender.
    pub from: String,
    /// Address of the receiver.
    pub to: String,
    /// Method.
    pub method: String,
}

impl Capture {
    /// Starts to capture all UDP on a device.
    pub fn start(namespace: &Namespace, device: &str) -> Self {
        let directory = Directory::new("capture");
        let file = directory.path().join("capture.pcap");
        let mut process = Program::new("tcpdump")
            .inside(Some(namespace))
            .args([
                "-i",
                device,
                "-n",
                "-U",
                "-s",
                "0",
                "-Z",
                "root",
                "-w",
                &file.to_string_lossy(),
                "udp",
            ])
            .start();
        process.wait_for_line("listening on", Duration::from_secs(10));
        Self {
            process,
            file,
            _directory: directory,
        }
    }

    /// Ends it and gives its RTP. Panics on an RTP packet that tshark calls malformed.
    pub fn finish(mut self) -> Vec<Rtp> {
        self.end();
        let malformed = self.read(
            "rtp && (_ws.malformed || _ws.expert.severity >= error)",
            &["frame.number"],
        );
        assert!(malformed.is_empty(), "malformed RTP: {malformed:?}");
        let fields = [
            "ip.src",
            "udp.srcport",
            "rtp.ssrc",
            "rtp.p_type",
            "rtp.seq",
            "rtp.timestamp",
            "rtp.payload",
            "rtp.ext.rfc5285.id",
        ];
        let rows = self.read("rtp.version == 2 && !rtcp", &fields);
        rows.iter()
            .map(|row| packet(row).unwrap_or_else(|| panic!("not as asked for: {row}")))
            .collect()
    }

    /// Ends it and counts its RTP by sender and receiver, and the picture loss indications (RFC 4585 section 6.3.1) by receiver:
    /// all as `address:port`.
    pub fn finish_video(mut self) -> (BTreeMap<(String, String), usize>, BTreeMap<String, usize>) {
        self.end();
        let fields = ["ip.src", "udp.srcport", "ip.dst", "udp.dstport"];
        let mut streams = BTreeMap::new();
        for row in self.read("rtp.version == 2 && !rtcp", &fields) {
            let fields: Vec<&str> = row.split('\t').collect();
            let ends = (fields[..2].join(":"), fields[2..].join(":"));
            *streams.entry(ends).or_default() += 1;
        }
        let mut requests = BTreeMap::new();
        for row in self.read("rtcp.pt == 206 && rtcp.psfb.fmt == 1", &fields[2..]) {
            *requests.entry(row.replace('\t', ":")).or_default() += 1;
        }
        (streams, requests)
    }

    /// Ends it and gives its SIP requests.
    pub fn finish_signalling(mut self) -> Vec<SipRequest> {
        self.end();
        let rows = self.read("sip.Method", &["ip.src", "ip.dst", "sip.Method"]);
        let request = |row: &String| {
            let mut fields = row.split('\t').map(str::to_owned);
            Some(SipRequest {
                from: fields.next()?,
                to: fields.next()?,
                method: fields.next()?,
            })
        };
        rows.iter().filter_map(request).collect()
    }

    fn end(&mut self) {
        // What was captured may still be in tcpdump's buffer.
        std::thread::sleep(Duration::from_millis(300));
        self.process.signal(Signal::SIGINT);
        self.process.wait(Duration::from_secs(10));
    }

    fn read(&self, filter: &str, fields: &[&str]) -> Vec<String> {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(&self.file).args([
            "-n",
            "--enable-heuristic",
            "rtp_udp",
            "-Y",
            filter,
            "-T",
            "fields",
        ]);
        for field in fields {
            command.args(["-e", field]);
        }
        let output = command.output().expect("tshark runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "tshark ended with {}: {errors}",
            output.status
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().map(str::to_owned).collect()
    }
}

fn packet(row: &str) -> Option<Rtp> {
    let mut fields = row.split('\t');
    let (address, port) = (fields.next()?, fields.next()?);
    let ssrc = u32::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()?;
    Some(Rtp {
        from: format!("{address}:{port}"),
        ssrc,
        payload_type: fields.next()?.parse().ok()?,
        sequence: fields.next()?.parse().ok()?,
        timestamp: fields.next()?.parse().ok()?,
        payload: hex::decode(fields.next()?.replace(':', "")).ok()?,
        extensions: fields
            .next()
            .into_iter()
            .flat_map(|ids| ids.split(','))
            .filter_map(|id| id.parse().ok())
            .collect(),
    })
}

/// The packets by their sender.
pub fn by_sender(packets: &[Rtp]) -> BTreeMap<String, Vec<Rtp>> {
    let mut streams = BTreeMap::<String, Vec<Rtp>>::new();
    for packet in packets {
        streams
            .entry(packet.from.clone())
            .or_default()
            .push(packet.clone());
    }
    streams
}

/// Asserts that the packets of one sender are one well-formed G.711 stream: one SSRC, payload types 0 or 8 (and
/// telephone-event), 20 ms each, timestamps that go with the sequence numbers. Gives its decoded samples.
pub fn g711(packets: &[Rtp]) -> Vec<i16> {
    let first = packets.first().expect("there is RTP");
    let mut samples = Vec::with_capacity(packets.len() * 160);
    let mut previous: Option<&Rtp> = None;
    for packet in packets {
        assert_eq!(
            packet.ssrc, first.ssrc,
            "a second SSRC from {}",
            packet.from
        );
        assert!(
            matches!(packet.payload_type, 0 | 8),
            "payload type {} from {}",
            packet.payload_type,
            packet.from
        );
        assert_eq!(
            packet.payload.len(),
            160,
            "payload of 20 ms from {}",
            packet.from
        );
        if let Some(previous) = previous {
            let packets_on = packet.sequence.wrapping_sub(previous.sequence);
            let samples_on = packet.timestamp.wrapping_sub(previous.timestamp);
            assert!(
                (1..100).contains(&packets_on),
                "sequence {} after {}",
                packet.sequence,
                previous.sequence
            );
            assert_eq!(
                samples_on,
                u32::from(packets_on) * 160,
                "timestamp beside sequence {}",
                packet.sequence
            );
        }
        let decode = if packet.payload_type == 0 {
            tone::mu_law
        } else {
            tone::a_law
        };
        samples.extend(packet.payload.iter().map(|byte| decode(*byte)));
        previous = Some(packet);
    }
    samples
}
