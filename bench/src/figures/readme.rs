//! README's section with the figures.

use std::fmt::Write as _;

use anyhow::Context as _;

use super::svg::rounded;
use super::{Figures, JSON, PAGE, PICTURE};
use crate::setup;
use crate::veth::{Comparison, Forwarder, Work};
use crate::webrtc::Transport;

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
         {machine}; no physical NIC: veth, fed with XDP frames, the whole device on one core with its softirqs. Medians of one\n\
         `cargo xtask bench`; all figures and the method in [{JSON}]({JSON}).\n\n"
    );
    bed(&mut text, &figures.veth);
    program(&mut text, figures);
    calls(&mut text, figures);
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
        // The round trip is both directions once more; short tags cost what long ones do, and long keys are on the page.
        if row.direction == "round"
            || row.suite.ends_with("_32")
            || row.suite.contains("256")
            || seen.contains(&name)
        {
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

/// What setting calls up takes.
fn calls(text: &mut String, figures: &Figures) {
    let Some(setup) = &figures.setup else {
        return;
    };
    let Some(row) = setup.highest() else {
        return;
    };
    let _ = writeln!(
        text,
        "\nA whole call (sign-in, INVITE, ICE, DTLS, BYE) takes {:.2} ms of the daemon's CPU, and {:.2} ms of the pages\n\
         and the SIP peer that place it; {:.0} calls/s were reached with all of them on the same {} CPUs, connected in\n\
         {:.0} ms (p99 {:.0}). Each standing call takes {:.1} KiB of the daemon's memory{}.",
        row.daemon_ms,
        row.peers_ms,
        row.rate,
        figures.veth.machine.cpus,
        row.p50_ms,
        row.p99_ms,
        setup.memory_per_call / 1024.0,
        page_memory(setup)
    );
    if let Some(signalling) = &setup.signalling {
        let _ = writeln!(
            text,
            "Without media, from INVITE to BYE alone, it is {:.2} ms of the daemon's and {:.2} ms of the others' CPU, {:.0} calls/s.",
            signalling.daemon_ms,
            signalling.peers_ms,
            signalling.per_second()
        );
    }
}

/// What of a call's memory is its page's.
fn page_memory(setup: &setup::Report) -> String {
    let kib = |bytes: f64| bytes / 1024.0;
    match (setup.memory_per_page, setup.memory_per_polling_page) {
        (Some(page), Some(polling)) if setup.transport == Transport::WebSocket => format!(
            ", {:.1} of them for\nits page's session and WebSocket (by HTTP with polls {:.1})",
            kib(page),
            kib(polling)
        ),
        (Some(page), _) => format!(
            ", {:.1} of them for its page's session and connection",
            kib(page)
        ),
        _ => String::new(),
    }
}

/// How many targets are met; the page has them one by one.
fn targets(text: &mut String, figures: &Figures) {
    let targets = figures.targets();
    let met = targets.iter().filter(|target| target.met == Some(true));
    let _ = writeln!(
        text,
        "\n{} of {} targets are met; [{PAGE}]({PAGE}) has each with its figure, and what limits it.",
        met.count(),
        targets.len()
    );
}

/// The page with the targets, one by one, and all tables.
pub(super) fn page(figures: &Figures) -> String {
    let mut text = String::from(
        "# Figures\n\nWritten by `cargo xtask bench --write-readme` from one run of everything.\n\n## Targets\n\n\
         | target | wanted | measured | | limited by |\n|---|---|---|---|---|\n",
    );
    for target in figures.targets() {
        let limit = target.limit.filter(|_| target.met == Some(false));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            target.about,
            target.wanted,
            target.measured,
            target.verdict(),
            limit.unwrap_or_default()
        );
    }
    let _ = write!(
        text,
        "\n## Tables\n\n```\n{}\n{}",
        figures.testrun, figures.veth
    );
    if let Some(setup) = &figures.setup {
        let _ = write!(text, "\n{setup}");
    }
    text + "```\n"
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
        assert!(page(&figures).contains("| userspace: CPU/packet of rtpengine's, RTP -> RTP, 20 kpps | <= 60.0 % | 70.0 % | missed |"));
        assert_eq!(with_section(&written, &figures).unwrap(), written);
        assert!(with_section("nothing", &figures).is_err());
    }
}
