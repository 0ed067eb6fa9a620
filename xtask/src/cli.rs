//! The command line of `cargo xtask`.

use clap::{Args, Parser, Subcommand};

/// Builds, runs, tests and measures Causeway.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Finds or installs what the XDP program is built with; the other commands call it.
    Setup {
        /// Also installs the peers of the tests: Chromium, SIPp, Kamailio, baresip, tshark (Debian, as root).
        #[arg(long)]
        tests: bool,
    },
    /// Builds the XDP program, the daemon with it inside, and the bench tools.
    Build {
        /// Optimised.
        #[arg(long)]
        release: bool,
    },
    /// Builds and runs the daemon: `cargo xtask run -- --config causeway.toml`.
    Run {
        /// Optimised.
        #[arg(long)]
        release: bool,
        /// Arguments of `causeway run`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Starts the gateway with a SIP peer on loopback and prints the URL of the page.
    Demo(Demo),
    /// Runs the test levels, all or the named ones, and prints what could not run and why.
    Test {
        /// Levels, see --list.
        levels: Vec<String>,
        /// Lists the levels.
        #[arg(long)]
        list: bool,
    },
    /// Formatting, lints, documentation, tidy, licences, then all tests.
    Ci,
    /// Prints what this host can do (`causeway check`).
    Check {
        /// Arguments of `causeway check`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Checks line and file lengths, module headers and links.
    Tidy,
    /// Compares kernel and host on mutated and random packets, as root; what they differ on is written out for tests/corpus.
    Fuzz {
        /// How many packets; ten million take some four minutes.
        #[arg(default_value_t = 1_000_000)]
        packets: u64,
        /// Where the random numbers begin: another one finds other things, the same one the same again.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Measures: nanoseconds per packet in the kernel, then CPU, delay, rates and memory over veth beside rtpengine; a quarter of an
    /// hour. `--write-readme` puts the figures into docs/ and README; `figures` does so from docs/bench.json without measuring.
    Bench {
        /// `testrun`, `veth` (with `--quick`: two minutes), `setup` (calls per second), `timing` (whether times tell of secrets),
        /// `figures`, with their options; testrun and veth
        /// when absent.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// Options of the demo.
#[derive(Args)]
pub(crate) struct Demo {
    /// Interface whose first address carries the media; XDP is attached to it where root and kernel allow.
    #[arg(long, default_value = "lo")]
    pub(crate) interface: String,
    /// HTTP port of the page; the next free one is taken where it is in use.
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// Keeps the media in userspace even where XDP could be had.
    #[arg(long)]
    pub(crate) userspace: bool,
    /// Optimised build.
    #[arg(long)]
    pub(crate) release: bool,
}
