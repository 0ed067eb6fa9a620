//! Directories and programs of a test.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// A directory of our own, removed on drop.
pub struct Directory(PathBuf);

impl Directory {
    /// Makes one below the system's directory for temporary files.
    pub fn new(purpose: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!(
            "causeway-{purpose}-{}-{number}",
            std::process::id()
        ));
        fs::create_dir_all(&path).expect("a directory for temporary files can be made");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it and gives the file's path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("our own directory can be written");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Helpers of a dying browser go on writing for a moment.
        for _ in 0..20 {
            if fs::remove_dir_all(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            sleep(Duration::from_millis(100));
        }
    }
}

/// A file of `web/`.
pub fn web(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../web")
        .join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Path of the daemon: what xtask names, else beside this test's own binary.
pub fn daemon() -> PathBuf {
    program("CAUSEWAY_BIN", "causeway")
}

/// Path of the bench tools.
pub fn bench() -> PathBuf {
    program("CAUSEWAY_BENCH_BIN", "causeway-bench")
}

/// Path of xtask.
pub fn xtask() -> PathBuf {
    program("CAUSEWAY_XTASK_BIN", "xtask")
}

fn program(variable: &str, name: &str) -> PathBuf {
    let beside = || {
        let test = env::current_exe().ok()?;
        Some(test.parent()?.parent()?.join(name))
    };
    let path = env::var_os(variable).map(PathBuf::from).or_else(beside);
    path.filter(|path| path.exists())
        .unwrap_or_else(|| panic!("no {name}: run this through `cargo xtask test`"))
}
