//! Sets `LLAMA_ADAPTER_COMMIT` for `--version`: the commit, with `+dirty` if the sources differ from
//! it. Not set outside of the project's own repository.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What the program is built from, as patterns of git relative to the root of the repository. Tests
/// and benchmarks are left out: watching them would compile the program anew for each change.
const SOURCES: [&str; 6] = [
    "crates/*/src/*",
    "crates/*/Cargo.toml",
    "crates/cli/build.rs",
    "crates/built-in/assets/*",
    "Cargo.toml",
    "Cargo.lock",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // In a repository of another project this folder has another place.
    if git(&["rev-parse", "--show-prefix"]).as_deref() != Some("crates/cli/") {
        return;
    }
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return };
    let changes = git(&[&["-C", "../..", "status", "--porcelain", "--"], &SOURCES[..]].concat());
    let dirty = if changes.is_some_and(|changes| !changes.is_empty()) { "+dirty" } else { "" };
    println!("cargo::rustc-env=LLAMA_ADAPTER_COMMIT={commit}{dirty}");
    watch_head();
    watch_sources();
}

/// Runs again when HEAD names another commit: HEAD itself changes with the branch, the branch's file
/// or `packed-refs` with its commits.
fn watch_head() {
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            watch(Path::new(&path));
        }
    }
}

/// Runs again when one of the [`SOURCES`] changes.
fn watch_sources() {
    let crates = fs::read_dir("..").into_iter().flatten().flatten().map(|entry| entry.path());
    for folder in crates {
        watch(&folder.join("src"));
        watch(&folder.join("Cargo.toml"));
    }
    for name in ["crates/built-in/assets", "Cargo.toml", "Cargo.lock"] {
        watch(&Path::new("../..").join(name));
    }
}

/// Cargo takes a missing path for a changed one.
fn watch(path: &Path) {
    if path.exists() {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
