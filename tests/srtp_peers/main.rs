//! The packet path's SRTP against two implementations that know nothing of it: rtc-srtp in this
//! process, and Debian's libsrtp2 behind a small C program (`libsrtp.c`), both ways, over
//! rollovers, with extensions, CSRCs and padding.

mod libsrtp;

use flow::{
    ActionSpec, Addr, Egress, Endpoint, ExtensionMap, FlowEntry, FlowKey, FlowSpec, FlowState,
    FlowStats, MediumSpec, PayloadMap, Port, Scratch, StreamSource, StreamSpec, Suite,
    forward_payload,
};
use gateway_core::rtp::MasterKeys;
use proptest::prelude::*;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;
use testbed::packet::Rtp;

const SSRC: u32 = 0xcafe_0001;

/// One direction of the packet path, leaving header fields as they are but for the header extension.
struct Path {
    entry: FlowEntry,
    state: FlowState,
    stats: FlowStats,
    scratch: Box<Scratch>,
}

impl Path {
    fn new(action: ActionSpec) -> Self {
        let endpoint = Endpoint {
            addr: Addr::v4([192, 0, 2, 1]),
            port: Port([0x10, 0]),
        };
        let stream = StreamSpec {
            source: StreamSource::Signalled(SSRC),
            medium: 0,
            ssrc_out: SSRC,
            clock_hz: 48_000,
        };
        let spec = FlowSpec {
            key: FlowKey {
                local: endpoint,
                remote: endpoint,
            },
            action,
            streams: [Some(stream), None, None, None],
            payloads: PayloadMap::single((0..128).map(|number| (number, number))),
            media: [
                Some(MediumSpec {
                    egress_local: endpoint,
                    egress_remote: endpoint,
                    dscp: 0,
                    max_packets_per_s: 0,
                }),
                None,
            ],
            extensions: ExtensionMap::EMPTY,
        };
        Self {
            entry: FlowEntry::new(&spec, 1, &[Some(Egress::socket(1500)), None])
                .expect("the spec is in range"),
            state: FlowState::new(),
            stats: FlowStats::new(),
            scratch: Box::default(),
        }
    }

    fn forward(&mut self, packet: &[u8]) -> Vec<u8> {
        self.scratch.bytes_mut()[..packet.len()].copy_from_slice(packet);
        let leaving = forward_payload(
            &self.entry,
            &mut self.state,
            &mut self.stats,
            &mut self.scratch,
            packet.len(),
            1,
        )
        .unwrap_or_else(|why| panic!("{}", why.label()));
        self.scratch.bytes()[..leaving.bytes].to_vec()
    }
}

/// Keys of the suite's lengths out of longer ones.
fn master(suite: Suite, key: &[u8; 32], salt: &[u8; 14]) -> MasterKeys {
    let (key, salt) = (&key[..suite.key_bytes()], &salt[..suite.salt_bytes()]);
    MasterKeys::new(suite, key, salt).expect("lengths of the suite")
}

/// A stream of packets of any shape whose numbers step by a little, over the wrap.
fn packets() -> impl Strategy<Value = Vec<Rtp>> {
    let shape = (
        1u16..100,
        0usize..1300,
        prop::collection::vec(any::<u32>(), 0..4),
        prop::option::of((
            extension_profile(),
            prop::collection::vec(any::<u32>(), 0..9),
        )),
        0u8..20,
        any::<bool>(),
    );
    (0u16..0x8000, prop::collection::vec(shape, 1..900)).prop_map(|(first, shapes)| {
        let mut sequence = first;
        shapes
            .into_iter()
            .map(|(step, payload_bytes, csrcs, extension, padding, marker)| {
                sequence = sequence.wrapping_add(step);
                Rtp {
                    csrcs,
                    extension,
                    padding,
                    marker,
                    ..Rtp::new(SSRC, sequence, payload_bytes)
                }
            })
            .collect()
    })
}

/// Not those of RFC 8285: rtc-srtp reads their elements, which random bytes are not, and then takes another length for the header. The
/// fixed stream has one.
fn extension_profile() -> impl Strategy<Value = u16> {
    any::<u16>().prop_filter("an RFC 8285 profile", |profile| {
        *profile != 0xbede && profile & 0xfff0 != 0x1000
    })
}

fn suites() -> impl Strategy<Value = Suite> {
    prop::sample::select(&Suite::ALL)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn rtc_srtp_agrees_both_ways(
        suite in suites(),
        key in any::<[u8; 32]>(),
        salt in any::<[u8; 14]>(),
        packets in packets(),
    ) {
        let profile = match suite {
            Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
            Suite::AesCm256HmacSha1_80 => ProtectionProfile::Aes256CmHmacSha1_80,
            Suite::AesCm256HmacSha1_32 => ProtectionProfile::Aes256CmHmacSha1_32,
            Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Suite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        };
        let keys = master(suite, &key, &salt);
        let provider = rtc_srtp::crypto::default_provider().expect("a provider is built in");
        let context = || {
            Context::new(keys.key(), keys.salt(), profile, None, None, provider.crypto()).expect("key lengths are right")
        };
        let (mut sender, mut bare_sender, mut receiver) = (context(), context(), context());
        let mut there = Path::new(ActionSpec::Protect(keys.rtp()));
        let mut back = Path::new(ActionSpec::Unprotect(keys.rtp()));
        for (number, rtp) in packets.iter().enumerate() {
            let (rtp, bare) = (rtp.bytes(), without_extension(rtp).bytes());
            let srtp = sender.encrypt_rtp(&rtp).expect("rtc-srtp encrypts");
            let bare_srtp = bare_sender.encrypt_rtp(&bare).expect("rtc-srtp encrypts");
            // A first number above 2^15 leaves lower: such a stream is compared from the arriving side only.
            if packets[0].sequence < 0x8000 {
                prop_assert_eq!(hex::encode(there.forward(&rtp)), hex::encode(&bare_srtp), "packet {}", number);
            }
            prop_assert_eq!(hex::encode(back.forward(&srtp)), hex::encode(&bare), "packet {}", number);
            prop_assert!(receiver.decrypt_rtp(&srtp).is_ok());
        }
    }
}

/// A fixed stream over two rollovers.
fn long_stream() -> Vec<Rtp> {
    let mut sequence = 30_000u16;
    let mut packets = Vec::new();
    for number in 0..1500u32 {
        sequence = sequence.wrapping_add(1 + (number * 37 % 140) as u16);
        let rtp = Rtp::new(SSRC, sequence, (number * 53 % 1200) as usize);
        let extension = (number % 3 == 0).then(|| (0xbede, vec![number; (number % 7) as usize]));
        let csrcs = vec![number; (number % 5) as usize];
        packets.push(Rtp {
            extension,
            csrcs,
            padding: (number % 9) as u8,
            marker: number % 2 == 0,
            ..rtp
        });
    }
    packets
}

/// As the packet leaves the packet path, which keeps no extension that was not negotiated.
fn without_extension(rtp: &Rtp) -> Rtp {
    Rtp {
        extension: None,
        ..rtp.clone()
    }
}

#[test]
#[ignore = "needs cc and Debian's libsrtp2-dev: cargo xtask test"]
fn libsrtp_agrees_both_ways() {
    let bytes = |packets: Vec<Rtp>| packets.iter().map(Rtp::bytes).collect::<Vec<_>>();
    let plain = bytes(long_stream());
    let bare = bytes(long_stream().iter().map(without_extension).collect());
    for suite in Suite::ALL {
        let keys = master(suite, &[0x5a; 32], &[0xa5; 14]);
        let mut there = Path::new(ActionSpec::Protect(keys.rtp()));
        let mut back = Path::new(ActionSpec::Unprotect(keys.rtp()));
        let theirs = libsrtp::run(&keys, libsrtp::Direction::Protect, &plain);
        let theirs_bare = libsrtp::run(&keys, libsrtp::Direction::Protect, &bare);
        let ours: Vec<_> = plain.iter().map(|rtp| there.forward(rtp)).collect();
        let decrypted = libsrtp::run(&keys, libsrtp::Direction::Unprotect, &ours);
        assert_eq!(theirs.len(), plain.len());
        for (number, rtp) in bare.iter().enumerate() {
            assert_eq!(
                hex::encode(&ours[number]),
                hex::encode(&theirs_bare[number]),
                "{suite:?} packet {number}"
            );
            assert_eq!(
                hex::encode(&decrypted[number]),
                hex::encode(rtp),
                "{suite:?} packet {number}"
            );
            assert_eq!(
                hex::encode(back.forward(&theirs[number])),
                hex::encode(rtp),
                "{suite:?} packet {number}"
            );
        }
    }
}
