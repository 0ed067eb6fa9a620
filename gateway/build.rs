//! Embeds the XDP object that `CAUSEWAY_BPF_OBJECT` names; without it an empty one, and the daemon says so.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    const VARIABLE: &str = "CAUSEWAY_BPF_OBJECT";
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let embedded = out.join("causeway-xdp");
    match env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        Some(object) => {
            let object = PathBuf::from(object);
            println!("cargo::rerun-if-changed={}", object.display());
            fs::copy(&object, &embedded)
                .unwrap_or_else(|error| panic!("{VARIABLE}={}: {error}", object.display()));
        }
        None => fs::write(&embedded, []).expect("OUT_DIR is writable"),
    }
}
