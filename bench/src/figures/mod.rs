//! All figures of `cargo xtask bench`: kept as JSON, held against the targets, and shown as tables, as a picture and in README.

mod readme;
mod svg;
mod targets;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

pub use targets::Target;

use crate::veth::Comparison;
use crate::{setup, testrun};

/// Where the figures that README shows are kept, from the repository's root.
const JSON: &str = "docs/bench.json";
const PAGE: &str = "docs/bench.md";
const PICTURE: &str = "docs/bench.svg";
const README: &str = "README.md";

/// The figures of one run of everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// The XDP program alone.
    pub testrun: testrun::Report,
    /// On the veth bed, beside others.
    pub veth: Comparison,
    /// Calls set up and torn down.
    #[serde(default)]
    pub setup: Option<setup::Report>,
}

impl Figures {
    /// Reads what [`Figures::save`] has written.
    ///
    /// # Errors
    /// There is no such file, or it is none of this version's.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let name = || path.display().to_string();
        let text = fs::read_to_string(path).with_context(name)?;
        serde_json::from_str(&text).with_context(name)
    }

    /// Writes JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        write(path, &text)
    }

    /// Writes JSON, page, picture and README's section into a repository.
    ///
    /// # Errors
    /// A file cannot be written, or README has no such section.
    pub fn publish(&self, root: &Path) -> anyhow::Result<()> {
        self.save(&root.join(JSON))?;
        self.illustrate(root)
    }

    /// Writes page, picture and README's section anew from the JSON that is there.
    ///
    /// # Errors
    /// As [`Figures::publish`].
    pub fn republish(root: &Path) -> anyhow::Result<()> {
        Self::load(&root.join(JSON))?.illustrate(root)
    }

    fn illustrate(&self, root: &Path) -> anyhow::Result<()> {
        write(&root.join(PICTURE), &svg::picture(&self.veth))?;
        write(&root.join(PAGE), &readme::page(self))?;
        let path = root.join(README);
        let readme = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        write(&path, &readme::with_section(&readme, self)?)
    }

    /// The targets, each with its figure.
    pub fn targets(&self) -> Vec<Target> {
        targets::of(self)
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let name = || path.display().to_string();
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(name)?;
    }
    fs::write(path, text).with_context(name)
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", self.testrun, self.veth)?;
        if let Some(setup) = &self.setup {
            writeln!(f, "{setup}")?;
        }
        writeln!(f, "{:<72} {:>14} {:>14}", "target", "wanted", "measured")?;
        for target in self.targets() {
            writeln!(
                f,
                "{:<72} {:>14} {:>14}  {}",
                target.about,
                target.wanted,
                target.measured,
                target.verdict()
            )?;
            if let (Some(false), Some(limit)) = (target.met, target.limit) {
                writeln!(f, "    limited by: {limit}")?;
            }
        }
        Ok(())
    }
}

/// Made-up figures for the tests of what shows them.
#[cfg(test)]
fn example() -> Figures {
    let text = include_str!("example.json");
    serde_json::from_str(text).expect("the example is kept in step with the types")
}
