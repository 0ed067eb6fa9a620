//! What a driver says of itself (SIOCETHTOOL): its name, and the offloads that XDP minds.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::ffi::{c_char, c_ulong};
use std::io;
use std::os::fd::AsRawFd;

const SIOCETHTOOL: c_ulong = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const FLAG_LRO: u32 = 1 << 15;
const FLAG_RXVLAN: u32 = 1 << 8;

/// Offloads and queues of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offloads {
    /// Large receive offload: forbids native XDP.
    pub(crate) lro: bool,
    /// Generic receive offload: with generic XDP packets may come merged.
    pub(crate) gro: bool,
    /// VLAN tags are taken off before XDP sees the frame.
    pub(crate) rx_vlan: bool,
    /// Combined channels in use and at most, where the driver says.
    pub(crate) channels: Option<(u32, u32)>,
    /// Receive queues in use, where the driver says.
    pub(crate) receive: Option<u32>,
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max: [u32; 3],
    max_combined: u32,
    now: [u32; 3],
    combined: u32,
}

/// Name of the driver.
///
/// # Errors
/// The interface has none (loopback on some kernels), or does not exist.
pub(crate) fn driver(interface: &str) -> io::Result<String> {
    let mut info = DriverInfo {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        rest: [0; 160],
    };
    ethtool(interface, &mut info)?;
    let name = info
        .driver
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// The offloads of an interface; what the driver does not tell counts as off.
pub(crate) fn offloads(interface: &str) -> Offloads {
    let value = |command| {
        let mut value = Value { command, data: 0 };
        ethtool(interface, &mut value).map_or(0, |()| value.data)
    };
    let mut channels = Channels {
        command: ETHTOOL_GCHANNELS,
        ..Channels::default()
    };
    let told = ethtool(interface, &mut channels).is_ok();
    let known = told && channels.max_combined > 0;
    let receive = channels.combined + channels.now[0];
    let flags = value(ETHTOOL_GFLAGS);
    Offloads {
        lro: flags & FLAG_LRO != 0,
        gro: value(ETHTOOL_GGRO) != 0,
        rx_vlan: flags & FLAG_RXVLAN != 0,
        channels: known.then_some((channels.combined, channels.max_combined)),
        receive: (told && receive > 0).then_some(receive),
    }
}

/// `struct ifreq` with a pointer in its union.
#[repr(C)]
struct Request {
    name: [c_char; libc::IFNAMSIZ],
    data: *mut libc::c_void,
    rest: [u8; 16],
}

fn ethtool<T>(interface: &str, argument: &mut T) -> io::Result<()> {
    let any = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let argument: *mut T = argument;
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        data: argument.cast(),
        rest: [0; 16],
    };
    // One place stays zero: the name ends there.
    for (place, byte) in request.name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(interface.bytes())
    {
        *place = byte.cast_signed() as c_char;
    }
    // SAFETY: `request` has the size and layout of `struct ifreq`; its pointer leads to the structure of the command that stands
    // first in it, which is as long as the kernel's and outlives the call.
    let answer = unsafe { libc::ioctl(any.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());
const _: () = assert!(size_of::<DriverInfo>() == 196 && size_of::<Channels>() == 36);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_no_lro() {
        assert!(!offloads("lo").lro);
        assert!(driver("no such interface").is_err());
    }
}
