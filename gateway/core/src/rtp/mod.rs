//! RTCP on both legs, SRTCP on the browser's, and the derivation of SRTP keys.
//!
//! RTP itself never comes here: it is forwarded by a datapath (`flow::forward`). What does come is
//! RTCP, a few packets in five seconds: it ends at the gateway, and reports of ours are made from
//! the datapath's counters ([`ReportMaker`]). Callers: `webrtc` splits the DTLS export into
//! [`MasterKeys`]; `bridge` turns these into `flow::SrtpKeys`; `session` of a call drives the
//! reports.

mod interval;
mod keys;
mod report;
mod rtcp;
mod srtcp;
mod srtp;

pub use interval::{ReportInterval, interval};
pub use keys::{MasterKeys, split_dtls_export};
pub use report::{PeerReport, ReportMaker, ReportTime, RoundTrips, SourceReport, ntp_from_unix};
pub use rtcp::{
    Fir, Nack, Pli, ReceiverReport, Remb, ReportBlock, Rtcp, RtcpError, SdesChunk, SenderReport,
    parse_compound, write_compound,
};
pub use srtcp::{SrtcpError, SrtcpReceiver, SrtcpSender};
pub use srtp::is_authentic;
