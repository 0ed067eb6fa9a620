//! `cargo xtask fuzz`: the run of mutated and random packets of `tests/xdp_table`, as long and from where one likes.

use crate::host::{self, execute};
use crate::{needs, run};
use anyhow::{Result, bail};
use std::process::ExitCode;

const TEST: &str = "fuzz::mutated_and_random_packets_in_the_kernel_and_on_the_host";

/// Runs so many packets from a seed on.
pub(crate) fn run(packets: u64, seed: u64) -> Result<ExitCode> {
    let built = run::build(false)?;
    if let Some(gap) = needs::xdp_gap(&built) {
        bail!("the kernel cannot be compared with: {gap}");
    }
    let mut command = built.cargo();
    command
        .args(["test", "--workspace", "--test=xdp_table", "--"])
        .args(["--ignored", "--nocapture", "--exact", TEST])
        .env("CAUSEWAY_FUZZ_PACKETS", packets.to_string())
        .env("CAUSEWAY_FUZZ_SEED", seed.to_string())
        .env("CAUSEWAY_ROOT", host::root());
    execute(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
