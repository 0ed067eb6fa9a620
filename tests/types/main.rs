//! `causeway.d.ts` by the TypeScript compiler: `causeway.js` keeps what its comments say, the declarations promise no more than it has, and
//! a page in TypeScript can use all of it and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const WEB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../web");
const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/types");

/// The module with its comments as its types, and the declarations alone: side by side the compiler would see the latter only.
fn laid_out(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let copy = |from: String, to: &str| {
        let to = directory.join(to);
        fs::create_dir_all(to.parent().expect("a file is in a directory"))
            .expect("the directory is ours");
        fs::copy(from, to).expect("both are ours");
    };
    copy(format!("{WEB}/causeway.js"), "written/causeway.js");
    copy(format!("{WEB}/socket.js"), "written/socket.js");
    copy(format!("{WEB}/causeway.d.ts"), "declared/causeway.d.ts");
    copy(format!("{HERE}/agrees.ts"), "agrees.ts");
    copy(format!("{HERE}/uses.ts"), "uses.ts");
    directory
}

/// What the compiler finds.
fn errors(directory: &Path, file: &str) -> String {
    // Fetched by the set-up, as the libraries of the test pages are.
    let mut tsc = Command::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/clients/node_modules/.bin/tsc"
    ));
    tsc.args(["--noEmit", "--strict", "--allowJs", "--checkJs"])
        .args(["--target", "es2022", "--module", "esnext"])
        .args(["--moduleResolution", "node"])
        .args(["--lib", "es2022,dom,dom.iterable"]);
    let output = tsc
        .arg(file)
        .current_dir(directory)
        .output()
        .expect("the compiler starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

#[test]
#[ignore = "needs TypeScript: cargo xtask test"]
fn the_module_is_as_its_types_say() {
    let directory = laid_out("types-agree");
    assert_eq!(errors(&directory, "agrees.ts"), "");
    assert_eq!(errors(&directory, "uses.ts"), "");
}

#[test]
#[ignore = "needs TypeScript: cargo xtask test"]
fn a_promise_that_the_module_does_not_keep_is_found() {
    let directory = laid_out("types-broken");
    let file = directory.join("declared/causeway.d.ts");
    let declared = fs::read_to_string(&file).unwrap();
    let more = declared.replace(
        "hold(): Promise<void>;",
        "hold(): Promise<void>;\n  park(): Promise<void>;",
    );
    assert_ne!(more, declared);
    fs::write(&file, more).unwrap();
    let said = errors(&directory, "agrees.ts");
    assert!(said.contains("park"), "{said}");
}
