//! An XDP program that passes everything, for the far ends of veth pairs: without one on its peer, a veth drops what
//! native XDP transmits.

use crate::netns::Namespace;
use aya::programs::{Xdp, xdp::XdpMode};
use aya::{Ebpf, EbpfLoader};

/// Attached until dropped.
pub struct XdpPass {
    _program: Ebpf,
}

impl XdpPass {
    /// Attaches natively to a device inside the namespace.
    pub fn attach(namespace: &Namespace, device: &str) -> Self {
        let object = object();
        namespace.enter(|| {
            let mut loaded = EbpfLoader::new()
                .load(&object)
                .expect("the kernel takes two instructions");
            let program: &mut Xdp = loaded
                .program_mut("pass")
                .expect("the object has it")
                .try_into()
                .expect("it is an XDP program");
            program.load().expect("the verifier takes two instructions");
            program
                .attach(device, XdpMode::Driver)
                .expect("veth has native XDP");
            Self { _program: loaded }
        })
    }
}

/// `mov r0, XDP_PASS; exit` as an ELF object, the form that loaders read.
fn object() -> Vec<u8> {
    const CODE: [u8; 16] = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    const NAMES: &[u8] = b"\0.strtab\0.symtab\0xdp\0license\0pass\0";
    const PROGRAM_SECTION: u16 = 2;
    let name = |text: &str| {
        let at = NAMES
            .windows(text.len())
            .position(|window| window == text.as_bytes());
        u32::try_from(at.expect("the name is in the table")).expect("the table is short")
    };
    let mut symbols = vec![0; 24];
    symbols.extend(name("pass").to_le_bytes());
    symbols.extend([0x12, 0]); // global function
    symbols.extend(PROGRAM_SECTION.to_le_bytes());
    symbols.extend(0_u64.to_le_bytes());
    symbols.extend(16_u64.to_le_bytes());
    // The first section header is empty by definition.
    let mut contents = Vec::new();
    let mut headers = vec![0; 64];
    let mut section =
        |title: &str, kind: u32, flags: u64, content: &[u8], [link, info]: [u32; 2], entry: u64| {
            contents.resize(contents.len().next_multiple_of(8), 0);
            let offset = 64 + contents.len() as u64;
            headers.extend(name(title).to_le_bytes());
            headers.extend(kind.to_le_bytes());
            for value in [flags, 0, offset, content.len() as u64] {
                headers.extend(value.to_le_bytes());
            }
            headers.extend(link.to_le_bytes());
            headers.extend(info.to_le_bytes());
            headers.extend(8_u64.to_le_bytes());
            headers.extend(entry.to_le_bytes());
            contents.extend(content);
        };
    section(".strtab", 3, 0, NAMES, [0, 0], 0);
    section("xdp", 1, 6, &CODE, [0, 0], 0);
    section("license", 1, 2, b"MIT\0", [0, 0], 0);
    section(".symtab", 2, 0, &symbols, [1, 1], 24);
    contents.resize(contents.len().next_multiple_of(8), 0);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(1_u16.to_le_bytes()); // relocatable
    file.extend(247_u16.to_le_bytes()); // BPF
    file.extend(1_u32.to_le_bytes());
    file.extend([0; 16]); // no entry, no program headers
    file.extend((64 + contents.len() as u64).to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    for value in [64_u16, 0, 0, 64, 5, 1] {
        file.extend(value.to_le_bytes());
    }
    file.extend(contents);
    file.extend(headers);
    file
}
