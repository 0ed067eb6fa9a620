//! `causeway flows`: the running gateway's flows as a table, from its admin API.

use crate::metrics::path_word;
use anyhow::{Context as _, Result};
use gateway_core::api::FlowView;
use std::process::ExitCode;
use std::time::Duration;

const COLUMNS: [&str; 12] = [
    "CALL",
    "DIRECTION",
    "PATH",
    "ACTION",
    "LOCAL",
    "REMOTE",
    "EGRESS",
    "PACKETS",
    "LOST",
    "DROPPED",
    "JITTER",
    "IDLE",
];

/// Prints the flows of the gateway whose admin listener is at `admin`.
pub(crate) fn print(admin: &str, json: bool) -> Result<ExitCode> {
    let url = format!("{}/admin/v1/flows", admin.trim_end_matches('/'));
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(5)))
        .build()
        .new_agent();
    let mut response = agent
        .get(&url)
        .call()
        .with_context(|| format!("no answer from the gateway at {url}"))?;
    let flows: Vec<FlowView> = response
        .body_mut()
        .read_json()
        .context("the answer is not a list of flows")?;
    if json {
        println!("{}", serde_json::to_string_pretty(&flows)?);
    } else {
        print!("{}", table(&flows));
    }
    Ok(ExitCode::SUCCESS)
}

/// Columns as wide as their widest cell; each distinct reason once, below.
fn table(flows: &[FlowView]) -> String {
    if flows.is_empty() {
        return "no flows\n".to_owned();
    }
    let rows: Vec<[String; 12]> = flows.iter().map(row).collect();
    let mut widths = COLUMNS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let line = |cells: [&str; 12]| {
        let padded: Vec<_> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(COLUMNS);
    for row in &rows {
        text.push_str(&line(row.each_ref().map(String::as_str)));
    }
    let mut reasons: Vec<_> = flows
        .iter()
        .map(|flow| (path_word(flow.path.path), flow.path.reason.as_str()))
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    for (path, reason) in reasons {
        text.push_str(&format!("{path}: {reason}\n"));
    }
    text
}

fn row(flow: &FlowView) -> [String; 12] {
    let counts = &flow.statistics;
    [
        flow.call.0.clone(),
        flow.direction.clone(),
        path_word(flow.path.path).to_owned(),
        flow.action.clone(),
        flow.local.clone(),
        flow.remote.clone(),
        flow.egress.clone(),
        counts.packets.to_string(),
        counts.lost.to_string(),
        counts.dropped.to_string(),
        format!("{:.1} ms", counts.jitter_ms),
        flow.idle_ms
            .map_or_else(|| "-".to_owned(), |idle| format!("{idle} ms")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_core::api::{CallId, DirectionStatistics, Path, PathView};

    fn flow(direction: &str, packets: u64) -> FlowView {
        FlowView {
            call: CallId("abc".into()),
            direction: direction.into(),
            local: "127.0.0.1:40000".into(),
            remote: "127.0.0.1:5".into(),
            media: "audio".into(),
            egress: "127.0.0.1:6".into(),
            action: "protect".into(),
            path: PathView {
                path: Path::Userspace,
                reason: "configured".into(),
            },
            statistics: DirectionStatistics {
                packets,
                ..DirectionStatistics::default()
            },
            idle_ms: None,
        }
    }

    #[test]
    fn columns_stand_below_each_other_and_a_reason_stands_once() {
        let text = table(&[flow("to_sip", 7), flow("to_browser", 123_456_789)]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        let column = lines[0].find("LOST").unwrap();
        assert!(
            lines[1..3]
                .iter()
                .all(|line| line[column..].starts_with("0 "))
        );
        assert!(lines[2].contains("123456789"));
        assert_eq!(lines[3], "userspace: configured");
        assert_eq!(table(&[]), "no flows\n");
    }
}
