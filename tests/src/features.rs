//! `FEATURES.md` names tests; here is checked that each of them exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const TABLE: &str = include_str!("../FEATURES.md");

/// The names of all functions in the sources below a directory.
fn functions(directory: &Path, names: &mut BTreeSet<String>) {
    let entries = fs::read_dir(directory).expect("the workspace is there");
    for path in entries.map(|entry| entry.expect("readable").path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" {
            functions(&path, names);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("sources are text");
            let heads = text.split("fn ").skip(1);
            let heads = heads.filter_map(|rest| rest.split(['(', '<']).next());
            names.extend(heads.map(str::to_owned));
        }
    }
}

/// Rows: the cells of a line of a table.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    let lines = TABLE.lines().filter(|line| line.starts_with("| "));
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
}

#[test]
fn every_test_that_the_table_names_exists() {
    let mut known = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for part in ["bench", "flow", "gateway", "tests", "xtask"] {
        functions(&root.join(part), &mut known);
    }
    let named = rows().flat_map(|row| {
        let cell = row.last().copied().unwrap_or_default();
        cell.split('`').skip(1).step_by(2)
    });
    let named: BTreeSet<&str> = named.collect();
    assert!(named.len() > 80, "the table is read: {}", named.len());
    let gone: Vec<&&str> = named
        .iter()
        .filter(|name| !known.contains(**name))
        .collect();
    assert!(gone.is_empty(), "no such tests: {gone:#?}");
}

#[test]
fn every_row_has_a_test_or_says_what_is_missing() {
    let mut acceptance = 0;
    for row in rows() {
        let cell = row.last().copied().unwrap_or_default();
        let headline = cell.starts_with("test, or");
        assert!(
            headline || cell.contains('`') || cell.contains("missing"),
            "{row:?}"
        );
        acceptance += usize::from(row[0].starts_with("S-"));
    }
    assert_eq!(acceptance, 40);
}
