//! The subcommands: options in, a library call, a table or JSON out.

pub(crate) mod calls;
pub(crate) mod figures;
pub(crate) mod rtp;
pub(crate) mod setup;
pub(crate) mod sip;
pub(crate) mod testrun;
pub(crate) mod timing;
pub(crate) mod veth;
