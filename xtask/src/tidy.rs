//! `cargo xtask tidy`: what rustfmt and clippy do not look at.
//!
//! Lines of at most 140 characters, files of at most 800 lines, functions of at most 70 (110 where a test tells a whole
//! story), a `//!` header in every module, and links in the Markdown files that lead somewhere.

use crate::host::{self, output};
use anyhow::Result;
use std::path::Path;
use std::process::{Command, ExitCode};

const LINE_CHARACTERS: usize = 140;
const FILE_LINES: usize = 800;
const FUNCTION_LINES: usize = 70;
const TEST_FUNCTION_LINES: usize = 110;

/// Checks all files that git knows or would add.
pub(crate) fn run() -> Result<ExitCode> {
    let mut git = Command::new("git");
    git.current_dir(host::root())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = output(&mut git)?;
    let mut finds = Vec::new();
    for name in listed.lines() {
        let Ok(text) = std::fs::read_to_string(host::root().join(name)) else {
            continue;
        };
        let mut found = Vec::new();
        if name.ends_with(".rs") {
            let test = name.contains("/tests/") || name.ends_with("tests.rs");
            let function_lines = if test {
                TEST_FUNCTION_LINES
            } else {
                FUNCTION_LINES
            };
            check_rust(&text, function_lines, &mut found);
        } else if name.ends_with(".md") {
            check_links(&text, host::root().join(name).as_path(), &mut found);
        }
        finds.extend(
            found
                .into_iter()
                .map(|(line, find)| format!("{name}:{line}: {find}")),
        );
    }
    for find in &finds {
        println!("{find}");
    }
    println!("tidy: {} to mend", finds.len());
    Ok(if finds.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

type Finds = Vec<(usize, String)>;

fn check_rust(text: &str, most_function_lines: usize, finds: &mut Finds) {
    if !text.starts_with("//!") {
        finds.push((1, "no //! header".to_owned()));
    }
    let lines: Vec<_> = text.lines().collect();
    if lines.len() > FILE_LINES {
        finds.push((lines.len(), format!("{} lines in one file", lines.len())));
    }
    for (index, line) in lines.iter().enumerate() {
        let characters = line.chars().count();
        if characters > LINE_CHARACTERS {
            finds.push((index + 1, format!("{characters} characters in a line")));
        }
        let length = function_lines(&lines[index..]);
        if length > most_function_lines {
            finds.push((index + 1, format!("{length} lines in one function")));
        }
    }
}

/// Lines of the function that starts in the first line, 0 where none does. rustfmt puts its closing brace under its
/// start.
fn function_lines(lines: &[&str]) -> usize {
    let Some(first) = lines.first() else { return 0 };
    let code = first.trim_start();
    let indent = &first[..first.len() - code.len()];
    let starts = [
        "fn ",
        "pub fn ",
        "pub(crate) fn ",
        "pub(super) fn ",
        "async fn ",
        "pub async fn ",
        "const fn ",
    ];
    if !starts.iter().any(|start| code.starts_with(start))
        || first.ends_with('}')
        || first.ends_with(';')
    {
        return 0;
    }
    let closing = format!("{indent}}}");
    lines
        .iter()
        .position(|line| *line == closing)
        .map_or(0, |end| end + 1)
}

/// `](target)` of links into the repository.
fn check_links(text: &str, file: &Path, finds: &mut Finds) {
    let directory = file.parent().expect("a file lies in a directory");
    for (index, line) in text.lines().enumerate() {
        for rest in line.split("](").skip(1) {
            let Some((target, _)) = rest.split_once(')') else {
                continue;
            };
            let path = target.split('#').next().unwrap_or_default();
            let outside = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
            if !outside && !directory.join(path).exists() {
                finds.push((index + 1, format!("link to {path}, which is not there")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_functions_by_their_indentation() {
        let text = "    fn short() {\n        if x {\n        }\n    }\n}\n";
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(function_lines(&lines), 4);
        assert_eq!(function_lines(&["fn one() {}"]), 0);
        assert_eq!(function_lines(&["fn declared();", "}"]), 0);
    }

    #[test]
    fn finds_what_is_to_mend() {
        let mut finds = Finds::new();
        check_rust(
            &format!("//! Header.\n// {}\n", "x".repeat(LINE_CHARACTERS)),
            FUNCTION_LINES,
            &mut finds,
        );
        assert_eq!(finds, [(2, "143 characters in a line".to_owned())]);
        finds.clear();
        check_rust("use std::fmt;\n", FUNCTION_LINES, &mut finds);
        assert_eq!(finds, [(1, "no //! header".to_owned())]);
        finds.clear();
        let file = host::root().join("README.md");
        check_links(
            "[a](Cargo.toml) [b](https://example.org) [c](nowhere.md#x)",
            &file,
            &mut finds,
        );
        assert_eq!(
            finds,
            [(1, "link to nowhere.md, which is not there".to_owned())]
        );
    }
}
