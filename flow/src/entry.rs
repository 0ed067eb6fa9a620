//! The entry of a flow as it stands in the map: what is done to its packets and with what they leave.
//!
//! Why tags and not enums: the entry lies in shared memory, where any byte can stand; tags start at
//! 1 and are checked into an enum on every read, because an array map answers zeros for what was
//! never written. The headers that leave are kept as ready bytes with their checksum sums, so that
//! per packet only lengths, hop limit and checksums are set. Built by the datapaths from a
//! [`FlowSpec`], read by [`crate::forward()`].

use crate::keys::{KeyBlock, family, tag_bytes, wipe};
use crate::payload::{EventClocks, PayloadEntry};
use crate::rate::packet_ns;
use crate::spec::EXTENSION_IDS;
use crate::template::{HEADER_WORDS, Template};
use crate::{
    ActionSpec, Family, FlowSpec, MEDIA, MediumSpec, PayloadMap, STREAMS, SrtpKeys, StreamSource,
};

const STREAM_SIGNALLED: u8 = 1;
const STREAM_LEARNT: u8 = 2;
const EXIT_TX: u8 = 1;
const EXIT_REDIRECT: u8 = 2;
const EXIT_HAIRPIN: u8 = 3;

/// What is done to the packets of a flow.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// RTP in, RTP out.
    Relay = 1,
    /// SRTP in, RTP out.
    Unprotect = 2,
    /// RTP in, SRTP out.
    Protect = 3,
    /// SRTP in, SRTP out.
    Transcrypt = 4,
}

impl Action {
    /// Whether SRTP arrives.
    #[inline(always)]
    pub(crate) const fn unprotects(self) -> bool {
        matches!(self, Self::Unprotect | Self::Transcrypt)
    }

    /// Whether SRTP leaves.
    #[inline(always)]
    pub(crate) const fn protects(self) -> bool {
        matches!(self, Self::Protect | Self::Transcrypt)
    }
}

/// By which way packets leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// By the interface they came in by; also for the userspace datapath, which sends by a socket.
    Tx,
    /// By the interface with this index.
    Redirect(u32),
    /// Not at all: the destination is an address of this host, where another call's flow takes the
    /// packet over.
    Hairpin,
}

/// The leaving side below UDP, as the daemon resolved it from routes and neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Egress {
    /// Which interface.
    pub exit: Exit,
    /// MAC address of that interface.
    pub source_mac: [u8; 6],
    /// MAC address of the next hop.
    pub destination_mac: [u8; 6],
    /// Tag control information of the 802.1Q tag, where the side is tagged.
    pub vlan: Option<u16>,
    /// Highest time to live or hop limit of packets that leave; an arriving one that is lower, less
    /// one, goes before it.
    pub ttl: u8,
    /// Largest IP packet of that side in bytes.
    pub mtu: u16,
}

impl Egress {
    /// For the userspace datapath, where the kernel makes the headers.
    pub const fn socket(mtu: u16) -> Self {
        Self {
            exit: Exit::Tx,
            source_mac: [0; 6],
            destination_mac: [0; 6],
            vlan: None,
            ttl: 64,
            mtu,
        }
    }
}

/// Why a spec cannot become an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryError {
    /// Generation zero is what an empty slot shows.
    Generation,
    /// The leaving side's two addresses are of different families.
    AddressFamilies,
    /// A payload type above 127, or more telephone-event clocks than there is room for.
    PayloadType,
    /// DSCP above 63.
    Dscp,
    /// Two streams to be encrypted under one key leave with one SSRC: their packets would share a keystream.
    SharedSsrc,
    /// A payload type or a stream of a medium that goes nowhere.
    Medium,
    /// Interface index, time to live, or MTU (at least 576) out of range.
    Egress,
}

impl core::fmt::Display for EntryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Generation => "generation number zero",
            Self::AddressFamilies => "addresses of different families on the leaving side",
            Self::PayloadType => "payload type above 127, or too many telephone-event clocks",
            Self::Dscp => "DSCP above 63",
            Self::SharedSsrc => "two protected streams that leave with one SSRC",
            Self::Medium => "a payload type or a stream of a medium that goes nowhere",
            Self::Egress => "interface index, time to live or MTU of the leaving side out of range",
        })
    }
}

impl core::error::Error for EntryError {}

/// A flow in the map. Holds session keys: no `Debug`; call [`FlowEntry::wipe`] on every copy that
/// is done with.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FlowEntry {
    /// All but the keys.
    pub head: FlowHead,
    /// The keys as this crate's own code reads them.
    pub keys: FlowKeys,
}

/// Session keys of an entry, expanded for this crate's own ciphers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FlowKeys {
    /// Keys of the arriving side.
    pub(crate) unprotect: KeyBlock,
    /// Keys of the leaving side.
    pub(crate) protect: KeyBlock,
}

/// What is done to the packets of a flow and with what they leave, but for the keys.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FlowHead {
    generation: u32,
    action: u8,
    /// 1 if there are header extension elements to be kept.
    extends: u8,
    /// [`Suite`] of the arriving and of the leaving side as numbers; 0 = plain.
    suites: [u8; 2],
    streams: [StreamEntry; STREAMS],
    payloads: PayloadMap,
    /// Header extension identifiers that leave, by those that arrive; 0 = removed.
    extensions: [u8; EXTENSION_IDS],
    egress: [EgressEntry; MEDIA],
    /// Number of the keys in the keystream ring; 0 = no ring.
    keystream_epoch: u32,
    /// Which ring. Also without one it names a ring that exists.
    keystream_ring: u32,
    room: [u64; 3],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct StreamEntry {
    kind: u8,
    medium: u8,
    reserved: [u8; 2],
    ssrc_in: u32,
    ssrc_out: u32,
    clock_hz: u32,
}

/// The leaving headers as ready bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct EgressEntry {
    exit: u8,
    pub(crate) ttl: u8,
    pub(crate) mtu: u16,
    ifindex: u32,
    /// Sum of the IPv4 header without length, time to live and checksum, in memory order; 0 for IPv6.
    pub(crate) network_sum: u32,
    /// Sum of the pseudo header without length, and of the ports, in memory order.
    pub(crate) transport_sum: u32,
    /// Bytes of the whole header.
    pub(crate) header_bytes: u32,
    /// Bytes before the IP header.
    pub(crate) network_offset: u32,
    /// Nanoseconds between packets at the highest rate; 0 = no limit.
    packet_ns: u32,
    reserved: u32,
    /// The header, lengths and checksums zero.
    pub(crate) header: [u32; HEADER_WORDS],
}

const _: () = assert!(size_of::<StreamEntry>() == 16);
const _: () = assert!(size_of::<EgressEntry>() == 104);
const _: () = assert!(
    size_of::<FlowHead>() == 8 + 64 + size_of::<PayloadMap>() + EXTENSION_IDS + MEDIA * 104 + 32
);
const _: () = assert!(size_of::<FlowEntry>() == size_of::<FlowHead>() + 2 * size_of::<KeyBlock>());
const _: () = assert!(STREAMS.is_power_of_two() && MEDIA.is_power_of_two());
const _: () = assert!(align_of::<FlowEntry>() == 8);

/// How a stream of the entry knows its packets; the checked form of the tag.
pub(crate) enum StreamKind {
    Signalled(u32),
    Learnt,
}

impl FlowKeys {
    /// None: for plain packets, and where the ciphers are those of the CPU.
    pub const EMPTY: Self = Self {
        unprotect: KeyBlock::EMPTY,
        protect: KeyBlock::EMPTY,
    };

    fn new(action: &ActionSpec) -> Self {
        let block = |keys: Option<&SrtpKeys>| keys.map_or(KeyBlock::EMPTY, SrtpKeys::block);
        Self {
            unprotect: block(action.arriving()),
            protect: block(action.leaving()),
        }
    }
}

impl FlowEntry {
    /// What an unused slot holds.
    pub const EMPTY: Self = Self {
        head: FlowHead::EMPTY,
        keys: FlowKeys::EMPTY,
    };

    /// Makes the entry of a spec; `egress` is where each of its media leaves.
    ///
    /// # Errors
    /// What of the spec is outside its range.
    pub fn new(
        spec: &FlowSpec,
        generation: u32,
        egress: &[Option<Egress>; MEDIA],
    ) -> Result<Self, EntryError> {
        Ok(Self {
            head: FlowHead::new(spec, generation, egress)?,
            keys: FlowKeys::new(&spec.action),
        })
    }

    /// Overwrites keys and everything else with zeros.
    pub fn wipe(&mut self) {
        wipe(core::slice::from_mut(self), Self::EMPTY);
    }
}

impl FlowHead {
    const EMPTY: Self = Self {
        generation: 0,
        action: 0,
        extends: 0,
        suites: [0; 2],
        streams: [StreamEntry {
            kind: 0,
            medium: 0,
            reserved: [0; 2],
            ssrc_in: 0,
            ssrc_out: 0,
            clock_hz: 0,
        }; STREAMS],
        payloads: PayloadMap::EMPTY,
        extensions: [0; EXTENSION_IDS],
        egress: [EgressEntry::EMPTY; MEDIA],
        keystream_epoch: 0,
        keystream_ring: 0,
        room: [0; 3],
    };

    /// Makes the head of a spec's entry; `egress` is where each of its media leaves.
    ///
    /// # Errors
    /// What of the spec is outside its range.
    pub fn new(
        spec: &FlowSpec,
        generation: u32,
        egress: &[Option<Egress>; MEDIA],
    ) -> Result<Self, EntryError> {
        if generation == 0 {
            return Err(EntryError::Generation);
        }
        let mut entry = Self {
            generation,
            ..Self::EMPTY
        };
        for (place, (medium, egress)) in entry.egress.iter_mut().zip(spec.media.iter().zip(egress))
        {
            match (medium, egress) {
                (Some(medium), Some(egress)) => *place = EgressEntry::new(medium, *egress)?,
                (Some(_), None) => return Err(EntryError::Egress),
                (None, _) => {}
            }
        }
        entry.extensions = spec.extensions.out;
        entry.extends = u8::from(entry.extensions != [0; EXTENSION_IDS]);
        entry.action = spec.action.action() as u8;
        entry.suites = [spec.action.arriving(), spec.action.leaving()]
            .map(|keys| keys.map_or(0, |keys| keys.suite() as u8));
        if entry.action().is_some_and(Action::protects) && shares_ssrc(spec) {
            return Err(EntryError::SharedSsrc);
        }
        for (place, stream) in entry.streams.iter_mut().zip(&spec.streams) {
            let Some(stream) = stream else { continue };
            leaves(spec, stream.medium)?;
            let (kind, ssrc_in) = match stream.source {
                StreamSource::Signalled(ssrc) => (STREAM_SIGNALLED, ssrc),
                StreamSource::Learnt => (STREAM_LEARNT, 0),
            };
            *place = StreamEntry {
                kind,
                medium: stream.medium,
                reserved: [0; 2],
                ssrc_in,
                ssrc_out: stream.ssrc_out,
                clock_hz: stream.clock_hz,
            };
        }
        for (_, payload) in spec.payloads.iter() {
            leaves(spec, payload.medium)?;
        }
        entry.payloads = spec.payloads;
        Ok(entry)
    }

    /// Generation of the flow in this slot; 0 = none.
    #[inline(always)]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What is done to the packets; `None` in an unused or damaged slot.
    #[inline(always)]
    pub fn action(&self) -> Option<Action> {
        match self.action {
            1 => Some(Action::Relay),
            2 => Some(Action::Unprotect),
            3 => Some(Action::Protect),
            4 => Some(Action::Transcrypt),
            _ => None,
        }
    }

    /// Length of the authentication tag of packets that arrive, in bytes; `None` if there are no keys of a known suite.
    #[inline(always)]
    pub(crate) fn tag_in(&self) -> Option<u32> {
        tag_bytes(self.suites[0])
    }

    /// The same of packets that leave.
    #[inline(always)]
    pub(crate) fn tag_out(&self) -> Option<u32> {
        tag_bytes(self.suites[1])
    }

    /// Who computes the suite of packets that arrive; `None` if there are no keys of a known one.
    #[inline(always)]
    pub(crate) fn family_in(&self) -> Option<Family> {
        family(self.suites[0])
    }

    /// The same of packets that leave.
    #[inline(always)]
    pub(crate) fn family_out(&self) -> Option<Family> {
        family(self.suites[1])
    }

    /// Where the packets of a medium leave.
    #[inline(always)]
    pub(crate) fn egress(&self, medium: u32) -> &EgressEntry {
        &self.egress[medium as usize & (MEDIA - 1)]
    }

    /// Has the packet path look for keystream in a ring, under the number that these keys have there (not 0).
    pub fn use_keystream(&mut self, ring: u32, epoch: u32) {
        self.keystream_ring = ring;
        self.keystream_epoch = epoch;
    }

    /// Which ring has this flow's keystream, if any has; of no meaning else, but in range.
    #[inline(always)]
    pub fn keystream_ring(&self) -> u32 {
        self.keystream_ring
    }

    #[inline(always)]
    pub(crate) fn keystream_epoch(&self) -> u32 {
        self.keystream_epoch
    }

    /// Nanoseconds between the packets of a medium at its highest rate; 0 = no limit.
    #[inline(always)]
    pub(crate) fn packet_ns(&self, medium: u32) -> u32 {
        self.egress(medium).packet_ns
    }

    /// What is done with a payload type that arrives (0..=127).
    #[inline(always)]
    pub(crate) fn payload(&self, arrived: u32) -> Option<PayloadEntry> {
        self.payloads.entry(arrived)
    }

    /// The clocks that [`PayloadEntry::event`] names.
    #[inline(always)]
    pub(crate) fn event_clocks(&self, event: u32) -> EventClocks {
        self.payloads.event_clocks(event)
    }

    /// Whether header extension elements may stay.
    #[inline(always)]
    pub(crate) fn extends(&self) -> bool {
        self.extends != 0
    }

    /// The identifier with which a header extension element leaves; 0 = it is removed.
    #[inline(always)]
    pub(crate) fn extension(&self, id: u32) -> u32 {
        if id < EXTENSION_IDS as u32 {
            u32::from(self.extensions[id as usize & (EXTENSION_IDS - 1)]) & 15
        } else {
            0
        }
    }

    #[inline(always)]
    pub(crate) fn stream(&self, place: usize) -> Option<StreamKind> {
        let stream = &self.streams[place & (STREAMS - 1)];
        match stream.kind {
            STREAM_SIGNALLED => Some(StreamKind::Signalled(stream.ssrc_in)),
            STREAM_LEARNT => Some(StreamKind::Learnt),
            _ => None,
        }
    }

    /// Medium of a stream.
    #[inline(always)]
    pub(crate) fn medium(&self, place: usize) -> u32 {
        u32::from(self.streams[place & (STREAMS - 1)].medium)
    }

    /// SSRC with which the packets of a stream leave.
    #[inline(always)]
    pub(crate) fn ssrc_out(&self, place: usize) -> u32 {
        self.streams[place & (STREAMS - 1)].ssrc_out
    }

    #[inline(always)]
    pub(crate) fn clock_hz(&self, place: usize) -> u32 {
        self.streams[place & (STREAMS - 1)].clock_hz
    }
}

/// Whether a medium has somewhere to go.
fn leaves(spec: &FlowSpec, medium: u8) -> Result<(), EntryError> {
    match spec.media.get(usize::from(medium)) {
        Some(Some(_)) => Ok(()),
        Some(None) | None => Err(EntryError::Medium),
    }
}

/// Whether two streams of the spec leave with the same SSRC.
fn shares_ssrc(spec: &FlowSpec) -> bool {
    let leaving = |place: usize| spec.streams[place].map(|stream| stream.ssrc_out);
    (0..STREAMS).any(|place| {
        (0..place).any(|other| leaving(place).is_some() && leaving(place) == leaving(other))
    })
}

impl EgressEntry {
    const EMPTY: Self = Self {
        exit: 0,
        ttl: 0,
        mtu: 0,
        ifindex: 0,
        network_sum: 0,
        transport_sum: 0,
        header_bytes: 0,
        network_offset: 0,
        packet_ns: 0,
        reserved: 0,
        header: [0; HEADER_WORDS],
    };

    /// By which way packets leave; `None` in an unused or damaged place.
    #[inline(always)]
    pub(crate) fn exit(&self) -> Option<Exit> {
        match self.exit {
            EXIT_TX => Some(Exit::Tx),
            EXIT_REDIRECT => Some(Exit::Redirect(self.ifindex)),
            EXIT_HAIRPIN => Some(Exit::Hairpin),
            _ => None,
        }
    }

    fn new(spec: &MediumSpec, egress: Egress) -> Result<Self, EntryError> {
        let (exit, ifindex) = match egress.exit {
            Exit::Tx => (EXIT_TX, 0),
            Exit::Redirect(0) => return Err(EntryError::Egress),
            Exit::Redirect(ifindex) => (EXIT_REDIRECT, ifindex),
            Exit::Hairpin => (EXIT_HAIRPIN, 0),
        };
        if egress.ttl == 0 || egress.mtu < 576 {
            return Err(EntryError::Egress);
        }
        if spec.dscp > 63 {
            return Err(EntryError::Dscp);
        }
        let (local, remote) = (&spec.egress_local, &spec.egress_remote);
        if local.addr.is_v4() != remote.addr.is_v4() {
            return Err(EntryError::AddressFamilies);
        }
        let template = Template::new(spec, &egress);
        Ok(Self {
            exit,
            ttl: egress.ttl,
            mtu: egress.mtu,
            ifindex,
            network_sum: template.network_sum(),
            transport_sum: template.transport_sum(),
            header_bytes: template.length as u32,
            network_offset: template.network_offset as u32,
            packet_ns: packet_ns(spec.max_packets_per_s),
            reserved: 0,
            header: template.words(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Addr, Endpoint, ExtensionMap, FlowKey, PayloadSpec, Port, SessionKey, SrtpKeys, StreamSpec,
        Suite,
    };

    fn spec() -> FlowSpec {
        let endpoint = Endpoint {
            addr: Addr::v4([192, 0, 2, 1]),
            port: Port([1, 2]),
        };
        let session = SessionKey {
            cipher: [1; 32],
            auth: [2; 20],
            salt: [3; 14],
        };
        let stream = StreamSpec {
            source: StreamSource::Learnt,
            medium: 0,
            ssrc_out: 5,
            clock_hz: 8000,
        };
        let medium = MediumSpec {
            egress_local: endpoint,
            egress_remote: endpoint,
            dscp: 0,
            max_packets_per_s: 0,
        };
        FlowSpec {
            key: FlowKey {
                local: endpoint,
                remote: endpoint,
            },
            action: ActionSpec::Protect(SrtpKeys::new(Suite::AesCm128HmacSha1_80, &session)),
            streams: [Some(stream), None, None, None],
            payloads: PayloadMap::EMPTY,
            media: [Some(medium), None],
            extensions: ExtensionMap::EMPTY,
        }
    }

    fn refused(change: impl Fn(&mut FlowSpec, &mut Egress)) -> Option<EntryError> {
        let (mut spec, mut egress) = (spec(), Egress::socket(1500));
        change(&mut spec, &mut egress);
        FlowEntry::new(&spec, 1, &[Some(egress), None]).err()
    }

    fn medium(spec: &mut FlowSpec) -> &mut MediumSpec {
        spec.media[0].as_mut().unwrap()
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        assert_eq!(refused(|_, _| {}), None);
        assert_eq!(
            FlowEntry::new(&spec(), 0, &[Some(Egress::socket(1500)), None]).err(),
            Some(EntryError::Generation)
        );
        assert_eq!(
            refused(|spec, _| medium(spec).dscp = 64),
            Some(EntryError::Dscp)
        );
        assert_eq!(
            refused(|spec, _| medium(spec).egress_remote.addr = Addr([9; 16])),
            Some(EntryError::AddressFamilies)
        );
        let other_medium = PayloadSpec::media(3, 1);
        assert_eq!(
            refused(|spec, _| spec.payloads.set(3, other_medium).unwrap()),
            Some(EntryError::Medium)
        );
        assert_eq!(
            refused(|spec, _| spec.streams[0].as_mut().unwrap().medium = 1),
            Some(EntryError::Medium)
        );
        assert_eq!(
            FlowEntry::new(&spec(), 1, &[None, None]).err(),
            Some(EntryError::Egress)
        );
        assert_eq!(
            refused(|_, egress| egress.exit = Exit::Redirect(0)),
            Some(EntryError::Egress)
        );
        assert_eq!(
            refused(|_, egress| egress.ttl = 0),
            Some(EntryError::Egress)
        );
        assert_eq!(
            refused(|_, egress| egress.mtu = 575),
            Some(EntryError::Egress)
        );
        assert_eq!(
            refused(|spec, _| spec.streams[2] = spec.streams[0]),
            Some(EntryError::SharedSsrc)
        );
    }

    #[test]
    fn zeros_of_an_array_map_are_no_action() {
        assert_eq!(FlowHead::EMPTY.action(), None);
        assert_eq!(FlowHead::EMPTY.egress(0).exit(), None);
        assert_eq!(FlowHead::EMPTY.generation(), 0);
    }

    #[test]
    fn wiping_leaves_no_key() {
        let mut entry = FlowEntry::new(&spec(), 1, &[Some(Egress::socket(1500)), None]).unwrap();
        assert!(
            entry.keys.protect.round_keys != [[0; 8]; 15] && entry.keys.protect.inner != [0; 5]
        );
        entry.wipe();
        assert!(
            entry.keys.protect.round_keys == [[0; 8]; 15] && entry.keys.protect.inner == [0; 5]
        );
        assert!(entry.keys.protect.salt == [0; 4] && entry.keys.protect.outer == [0; 5]);
    }
}
