//! Only two files name backends: the list of Burn's backends, and that of the fused kernels.

use std::path::{Path, PathBuf};

use device::BACKENDS;

const ALLOWED: &str = "crates/device/src/backends.rs";
/// The fused kernels run on one backend.
const KERNELS: &str = "crates/kernels/src/backend.rs";

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The lines of code that name a backend, by Burn's constructor or by a cargo feature.
fn lines_naming_a_backend(code: &str) -> Vec<&str> {
    let names = |line: &&str| {
        let code = line.split("//").next().unwrap_or_default();
        BACKENDS.iter().any(|backend| {
            let name = backend.name;
            code.contains(&format!("Device::{name}("))
                || code.contains(&format!("Device::{name},"))
                || code.contains(&format!("feature = \"{name}\""))
        })
    };
    code.lines().filter(names).collect()
}

#[test]
fn no_other_code_names_a_backend() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let mut files = Vec::new();
    for folder in ["crates", "examples", "tests", "fuzz"] {
        rust_files(&root.join(folder), &mut files);
    }
    assert!(files.len() > 100, "the whole workspace");
    let named = |file: &Path| {
        let code = std::fs::read_to_string(file).unwrap();
        lines_naming_a_backend(&code).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(named(&root.join(ALLOWED)).len() > 9, "the search finds the lines of the allowed file");
    for file in files.iter().filter(|f| !f.ends_with(ALLOWED) && !f.ends_with(KERNELS)) {
        assert_eq!(named(file), [""; 0], "{}", file.display());
    }
}
