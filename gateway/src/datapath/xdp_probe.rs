//! The smallest XDP program, `return XDP_PASS`, to find out what an interface takes.
//!
//! Written as two instructions for bpf(2) directly: the question is about the driver, not about our object. The privileged tests
//! also keep it on the far ends of their veth pairs, which deliver no XDP_TX otherwise.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE` and `XDP_FLAGS_DRV_MODE`.
const SKB_MODE: u32 = 1 << 1;
const DRV_MODE: u32 = 1 << 2;
/// `r0 = XDP_PASS; exit`.
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];

/// The first members of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The same for BPF_LINK_CREATE.
#[repr(C)]
struct LinkAttributes {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches the program until what it answers is dropped.
///
/// # Errors
/// What bpf(2) says: no permission, or no XDP in that mode.
pub(crate) fn attach_pass(ifindex: u32, native: bool) -> io::Result<OwnedFd> {
    let program = load_pass()?;
    let attributes = LinkAttributes {
        prog_fd: u32::try_from(program.as_raw_fd()).expect("descriptors are not negative"),
        target_ifindex: ifindex,
        attach_type: BPF_XDP,
        flags: if native { DRV_MODE } else { SKB_MODE },
    };
    bpf(BPF_LINK_CREATE, &attributes)
}

fn load_pass() -> io::Result<OwnedFd> {
    let license = c"MIT";
    let attributes = LoadAttributes {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: 2,
        insns: PASS.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"causeway_probe\0\0",
        prog_ifindex: 0,
        expected_attach_type: BPF_XDP,
    };
    bpf(BPF_PROG_LOAD, &attributes)
}

/// A command of bpf(2) that answers a descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    let attributes: *const T = attributes;
    // SAFETY: `attributes` points to that many initialised bytes, padding-free by its layout, and whatever it points to in turn
    // outlives the call; the kernel only reads them for the two commands used here.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
