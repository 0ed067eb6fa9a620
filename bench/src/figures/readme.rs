//! README's section with the figures.

use std::fmt::Write as _;

use anyhow::Context as _;

use super::svg::rounded;
use super::{Figures, JSON, PICTURE};
use crate::veth::{Comparison, Forwarder, Work};

const BEGIN: &str = "<!-- bench: written by cargo xtask bench --write-readme -->";
const END: &str = "<!-- bench ends -->";
const BYTES: usize = 160;
/// Sizes of the program's own table.
const SIZES: [usize; 3] = [80, 160, 1100];

/// README with the section between its two marks made anew.
pub(super) fn with_section(readme: &str, figures: &Figures) -> anyhow::Result<String> {
    let (before, rest) = readme
        .split_once(BEGIN)
        .context("README has no mark where the figures begin")?;
    let (_, after) = rest
        .split_once(END)
        .context("README has no mark where the figures end")?;
    Ok(format!("{before}{BEGIN}\n{}{END}{after}", section(figures)))
}

fn section(figures: &Figures) -> String {
    let machine = &figures.veth.machine;
    let mut text = format!(
        "![CPU per packet, highest rate and delay beside rtpengine]({PICTURE})\n\n\
         {} x {}, Linux {}; no physical NIC: veth, fed with XDP frames, the whole device on one core with its softirqs. Medians of one\n\
         `cargo xtask bench`; all figures and the method in [{JSON}]({JSON}).\n\n",
        machine.cpus, machine.cpu, machine.kernel
    );
    bed(&mut text, &figures.veth);
    program(&mut text, figures);
    targets(&mut text, figures);
    text
}

/// The table of the bed.
fn bed(text: &mut String, veth: &Comparison) {
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "| G.711 | CPU us/packet at 20 / 50 kpps | p50 us at 1 kpps | p99.9 us at 10 kpps | loss-free kpps |\n|---|---|---|---|---|"
    );
    for work in Work::ALL {
        for forwarder in [
            Forwarder::XdpNative,
            Forwarder::Userspace,
            Forwarder::Rtpengine,
        ] {
            let at = |pps| veth.at(work, forwarder, BYTES, pps);
            let cpu = |pps| show(at(pps).map(|row| row.cpu_ns / 1e3));
            let highest = veth.highest(work, forwarder);
            let bound = if highest.is_some_and(|row| row.at_least) {
                "≥ "
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "| {}: {} | {} / {} | {} | {} | {bound}{} |",
                work.name().replace("->", "to"),
                forwarder.name(),
                cpu(20_000.0),
                cpu(50_000.0),
                show(at(1_000.0).map(|row| row.latency.p50_us)),
                show(at(10_000.0).map(|row| row.latency.p999_us)),
                show(highest.and_then(|row| row.pps).map(|pps| pps / 1e3)),
            );
        }
    }
    let memory: Vec<_> = [
        Forwarder::XdpNative,
        Forwarder::Userspace,
        Forwarder::Rtpengine,
    ]
    .into_iter()
    .filter_map(|forwarder| {
        let bytes = veth.memory_per_call(Work::Unprotect, forwarder)?;
        Some(format!(
            "{} {} KiB",
            forwarder.name(),
            rounded(bytes / 1024.0)
        ))
    })
    .collect();
    if !memory.is_empty() {
        let _ = writeln!(
            text,
            "\nMemory for each further call: {}.",
            memory.join(", ")
        );
    }
}

/// The table of the program alone.
fn program(text: &mut String, figures: &Figures) {
    let _ = writeln!(
        text,
        "\nThe XDP program alone (BPF_PROG_TEST_RUN), ns per packet; the verifier processes {} instructions:\n\n\
         | RTP payload, bytes | {} |\n|---|{}",
        figures.testrun.verified_instructions,
        SIZES.map(|bytes| bytes.to_string()).join(" | "),
        "---|".repeat(SIZES.len())
    );
    let mut seen = Vec::new();
    for row in &figures.testrun.rows {
        let name = (&row.suite, &row.direction);
        // The round trip is both directions once more, and short tags cost what long ones do.
        if row.direction == "round" || row.suite.ends_with("_32") || seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let cells = SIZES.map(|bytes| {
            let ns = figures.testrun.median_ns(&row.suite, &row.direction, bytes);
            ns.map_or_else(|| "-".into(), |ns| ns.to_string())
        });
        let direction = row.direction.replace('+', ", keystream ahead");
        let name = if row.suite == "none" {
            direction
        } else {
            format!("{} {direction}", row.suite)
        };
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
}

/// Targets in one line each.
fn targets(text: &mut String, figures: &Figures) {
    let targets = figures.targets();
    let met = targets.iter().filter(|target| target.met == Some(true));
    let _ = writeln!(
        text,
        "\n{} of {} targets are met. The others (wanted, measured; what limits them):\n",
        met.count(),
        targets.len()
    );
    for target in targets.iter().filter(|target| target.met != Some(true)) {
        let limit = match (target.met, target.limit) {
            (Some(false), Some(limit)) => format!("; {limit}"),
            (None, _) => "; not measured".into(),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "- {}: {}, {}{limit}",
            target.about, target.wanted, target.measured
        );
    }
}

fn show(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_is_written_anew() {
        let figures = crate::figures::example();
        let readme = format!("# Title\n{BEGIN}\nold\n{END}\nrest\n");
        let written = with_section(&readme, &figures).unwrap();
        assert!(written.starts_with("# Title\n") && written.ends_with("\nrest\n"));
        assert!(!written.contains("old"));
        assert!(written.contains("| RTP to RTP: causeway XDP native | 1.00 / - |"));
        assert!(written.contains("userspace: CPU/packet of rtpengine's"));
        assert_eq!(with_section(&written, &figures).unwrap(), written);
        assert!(with_section("nothing", &figures).is_err());
    }
}
