//! Which compiler and linker build the XDP program on this host.
//!
//! BPF needs a rustc whose standard library source is there (`-Z build-std=core`) and a bpf-linker that reads that
//! rustc's LLVM bitcode. Two routes give both: rustup's nightly with rust-src, or Debian's rustc-web with its library
//! source. The first that is complete is taken; Debian's packages and bpf-linker are fetched where that is possible.

use crate::host::{self, execute, output};
use crate::packages;
use anyhow::{Context as _, Result, bail, ensure};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// bpf-linker 0.13 reads the bitcode of LLVM 21, 22 and 23, one of them per build.
const LINKER_VERSION: &str = "0.13.0";
const LINKER_LLVM: std::ops::RangeInclusive<u32> = 21..=23;
/// Debian's compiler for packages that need a newer rustc than the release has.
const DEBIAN_COMPILER: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];
/// LLVM of that compiler.
const DEBIAN_LLVM: u32 = 22;

/// A complete way to build for BPF.
pub(crate) struct Route {
    /// One line for people.
    pub(crate) about: String,
    compiler: Compiler,
    linker: PathBuf,
}

/// A rustc with its cargo and library source.
#[derive(Clone)]
struct Compiler {
    about: &'static str,
    rustc: PathBuf,
    cargo: PathBuf,
    /// Whether `-Z` flags need `RUSTC_BOOTSTRAP`.
    stable: bool,
    llvm: u32,
}

impl Route {
    /// Finds a complete route; with `fetch` completes one where none is: builds bpf-linker, and installs Debian's
    /// packages where root allows it.
    pub(crate) fn find(fetch: bool) -> Result<Self> {
        let first = |fetch: bool| {
            let mut gaps = Vec::new();
            for compiler in [nightly(), debian()] {
                match compiler.and_then(|compiler| Self::with_linker(compiler, fetch)) {
                    Ok(route) => return Ok(route),
                    Err(gap) => gaps.push(format!("{gap:#}")),
                }
            }
            bail!("{}", gaps.join("; "))
        };
        let gap = match first(false) {
            Err(gap) if fetch => gap,
            other => return other,
        };
        if let Ok(route) = first(true) {
            return Ok(route);
        }
        if !packages::can_install() {
            bail!("{gap:#}; as root on Debian `cargo xtask setup` installs what is missing");
        }
        packages::install(DEBIAN_COMPILER)?;
        packages::install(&[&format!("llvm-{DEBIAN_LLVM}-dev")])?;
        Self::with_linker(debian()?, true)
    }

    /// `cargo` of this route, ready to build for BPF in `directory`.
    pub(crate) fn cargo(&self, directory: &Path) -> Command {
        let mut command = Command::new(&self.compiler.cargo);
        host::foreign_cargo(&mut command)
            .current_dir(directory)
            .env("RUSTC", &self.compiler.rustc)
            // Debug info and --btf give the object its BTF: spin locks and map definitions need it.
            // v3 has 32-bit arithmetic: SHA-1 takes a sixth fewer instructions. Every kernel since 5.1 has it.
            .env(
                "RUSTFLAGS",
                "-C debuginfo=2 -C link-arg=--btf -C target-cpu=v3",
            )
            .env("PATH", self.path());
        if self.compiler.stable {
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    fn with_linker(compiler: Compiler, fetch: bool) -> Result<Self> {
        let linker = match linker(compiler.llvm) {
            Some(found) => found,
            None if fetch => build_linker(compiler.llvm)?,
            None => bail!(
                "{}: no bpf-linker for LLVM {}",
                compiler.about,
                compiler.llvm
            ),
        };
        let about = format!("{} with {}", compiler.about, linker.display());
        Ok(Self {
            about,
            compiler,
            linker,
        })
    }

    /// PATH with the linker first, since rustc looks for it there by name.
    fn path(&self) -> OsString {
        let own = self.linker.parent().map(Path::to_path_buf);
        let inherited = env::var_os("PATH").unwrap_or_default();
        let parts = own.into_iter().chain(env::split_paths(&inherited));
        env::join_paths(parts).unwrap_or(inherited)
    }
}

/// rustup's nightly, where it has the library source.
fn nightly() -> Result<Compiler> {
    let rustup = host::which("rustup").context("no rustup")?;
    let which = |tool: &str| -> Result<PathBuf> {
        let mut command = Command::new(&rustup);
        command.args(["which", "--toolchain", "nightly", tool]);
        let path = output(&mut command).context("rustup has no nightly")?;
        Ok(PathBuf::from(path.trim()))
    };
    complete("rustup's nightly", which("rustc")?, which("cargo")?, false)
}

/// The compiler of the distribution, where it is new enough and has the library source.
fn debian() -> Result<Compiler> {
    let (rustc, cargo) = (
        PathBuf::from("/usr/bin/rustc"),
        PathBuf::from("/usr/bin/cargo"),
    );
    ensure!(
        rustc.exists() && cargo.exists(),
        "no rustc of the distribution"
    );
    complete("the distribution's rustc", rustc, cargo, true)
}

fn complete(about: &'static str, rustc: PathBuf, cargo: PathBuf, stable: bool) -> Result<Compiler> {
    let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"]))?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    ensure!(source.exists(), "{about} has no library source (rust-src)");
    let version = output(Command::new(&rustc).arg("-vV"))?;
    let llvm =
        llvm_major(&version).with_context(|| format!("{about} does not say its LLVM version"))?;
    ensure!(
        LINKER_LLVM.contains(&llvm),
        "{about} has LLVM {llvm}, bpf-linker {LINKER_VERSION} takes {} to {}",
        LINKER_LLVM.start(),
        LINKER_LLVM.end()
    );
    Ok(Compiler {
        about,
        rustc,
        cargo,
        stable,
        llvm,
    })
}

/// `LLVM version: 22.1.4` -> 22.
fn llvm_major(version: &str) -> Option<u32> {
    let line = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.parse().ok()
}

/// A bpf-linker that reads bitcode of that LLVM: our own build, or the one on PATH.
fn linker(llvm: u32) -> Option<PathBuf> {
    let own = tools().join("bin/bpf-linker");
    [Some(own), host::which("bpf-linker")]
        .into_iter()
        .flatten()
        .find(|candidate| candidate.is_file() && links_llvm(candidate, llvm))
}

/// Whether the binary is linked to that libLLVM (soname `libLLVM.so.22.1`, formerly `libLLVM-22.so`), or to none at
/// all: then LLVM is inside and only trying would tell.
fn links_llvm(linker: &Path, llvm: u32) -> bool {
    let Ok(libraries) = output(Command::new("ldd").arg(linker)) else {
        return false;
    };
    !libraries.contains("not found")
        && (!libraries.contains("libLLVM")
            || libraries.contains(&format!("libLLVM.so.{llvm}"))
            || libraries.contains(&format!("libLLVM-{llvm}.")))
}

fn tools() -> PathBuf {
    host::own_target().join("bpf-tools")
}

/// Builds bpf-linker against the LLVM of the distribution.
fn build_linker(llvm: u32) -> Result<PathBuf> {
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    if !prefix.join("bin/llvm-config").exists() {
        let package = format!("llvm-{llvm}-dev");
        ensure!(
            packages::can_install(),
            "no bpf-linker for LLVM {llvm}, and no {package} to build one"
        );
        packages::install(&[&package])?;
    }
    let build = tools().join("build");
    let mut command = host::cargo();
    command
        .args([
            "install",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
            "--no-default-features",
        ])
        .arg(format!("--features=llvm-{llvm}"))
        .arg("--root")
        .arg(tools())
        .env(format!("LLVM_SYS_{llvm}1_PREFIX"), &prefix)
        // llvm-sys prints the library's name but not the directory it lies in.
        .env("RUSTFLAGS", format!("-L native={}/lib", prefix.display()))
        .env("CARGO_TARGET_DIR", &build);
    println!("building bpf-linker {LINKER_VERSION} for LLVM {llvm}, once, some minutes");
    execute(&mut command)?;
    fs::remove_dir_all(&build).context("removing the build directory of bpf-linker")?;
    linker(llvm).context("bpf-linker was built but does not run")
}

#[cfg(test)]
mod tests {
    use super::llvm_major;

    #[test]
    fn reads_the_llvm_version_of_rustc() {
        let version = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        assert_eq!(llvm_major(version), Some(22));
        assert_eq!(llvm_major("rustc 1.63.0\n"), None);
    }
}
