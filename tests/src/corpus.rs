//! Packets that were worth keeping: rows of the packet table with frames of their own, as text in `tests/corpus`.
//!
//! A file names the row whose flow takes the frames, and then, a line each, what becomes of a frame and its bytes in hex. The fuzz run
//! writes what it finds in the same form. Replayed on the host (`packet_table`) and in the kernel (`xdp_table`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::table::Case;

/// One file.
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Name of the row.
    pub row: String,
    /// Frames in order, each with the label of the reason of its exit.
    pub frames: Vec<(String, Vec<u8>)>,
}

impl Kept {
    /// The row of its flow, among all.
    ///
    /// # Errors
    /// There is no such row any more.
    pub fn case<'c>(&self, cases: &'c [Case]) -> anyhow::Result<&'c Case> {
        let found = cases.iter().find(|case| case.name == self.row);
        found.with_context(|| format!("{}: there is no row {}", self.name, self.row))
    }
}

/// Where they are kept.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// All of them, by name.
///
/// # Errors
/// A file cannot be read.
pub fn read() -> anyhow::Result<Vec<Kept>> {
    let mut files: Vec<_> = fs::read_dir(directory())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|kind| kind == "txt"));
    files.sort();
    files.iter().map(|file| one(file)).collect()
}

fn one(file: &Path) -> anyhow::Result<Kept> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let text = fs::read_to_string(file).with_context(|| name.clone().into_owned())?;
    parse(&name, &text).with_context(|| name.into_owned())
}

fn parse(name: &str, text: &str) -> anyhow::Result<Kept> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let row = lines.next().and_then(|line| line.strip_prefix("row: "));
    let row = row.context("the first line names no row")?;
    let frames = lines.map(|line| {
        let (label, bytes) = line.split_once(' ').context("no reason and frame")?;
        Ok((label.to_owned(), hex::decode(bytes)?))
    });
    Ok(Kept {
        name: name.to_owned(),
        row: row.to_owned(),
        frames: frames.collect::<anyhow::Result<_>>()?,
    })
}

/// The text of frames of a row, with the labels of their exits.
pub fn text<'a>(row: &str, frames: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut text = format!("row: {row}\n");
    for (label, frame) in frames {
        text += &format!("{label} {}\n", hex::encode(frame));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table;

    #[test]
    fn what_is_written_is_read() {
        let cases = table::cases();
        let case = &cases[0];
        let text = text(&case.name, [("bad_rtp", &[1, 0xff][..]), ("no_flow", &[])]);
        let kept = parse("x", &format!("# found by nobody\n{text}")).expect("it parses");
        assert_eq!(kept.case(&cases).expect("the row is there").name, case.name);
        let frames = [
            ("bad_rtp".to_owned(), vec![1, 0xff]),
            ("no_flow".to_owned(), vec![]),
        ];
        assert_eq!(kept.frames, frames);
        let stray = parse("x", "row: none such\n").expect("it parses");
        assert!(stray.case(&cases).is_err());
        assert!(parse("x", "bad_rtp 00\n").is_err());
    }
}
