//! Every crate forwards the backend features to the kernels and to Burn.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

type Features = BTreeMap<String, Vec<String>>;

/// The features of every crate of the workspace.
fn features() -> BTreeMap<String, Features> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("a list").iter();
    // Crates depend on each other under the names of their folders.
    let folder = |package: &Value| {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a string"));
        let folder = manifest.parent().and_then(Path::file_name).expect("a folder");
        folder.to_string_lossy().into_owned()
    };
    let of =
        |package: &Value| serde_json::from_value(package["features"].clone()).expect("features");
    packages.map(|package| (folder(package), of(package))).collect()
}

/// All features that a feature enables, through the crates of the workspace.
fn reachable_features(all: &BTreeMap<String, Features>, krate: &str, feature: &str) -> Vec<String> {
    let Some(own) = all.get(krate) else { return vec![format!("{krate}/{feature}")] };
    let next = own.get(feature).unwrap_or_else(|| panic!("{krate} has no feature {feature}"));
    let mut found = vec![format!("{krate}/{feature}")];
    for name in next.iter().filter(|name| !name.starts_with("dep:")) {
        let (krate, feature) = name.split_once('/').unwrap_or((krate, name));
        found.extend(reachable_features(all, krate, feature));
    }
    found
}

#[test]
fn every_crate_forwards_the_backend_features_to_the_kernels() {
    let all = features();
    for krate in [
        "kernels",
        "llama",
        "vision",
        "adaption-prompt",
        "train",
        "memory-plan",
        "device-check",
        "device",
        "built-in",
        "serve",
        "llama-adapter",
        "cli",
    ] {
        for backend in device::BACKENDS {
            let found = reachable_features(&all, krate, backend.name);
            for needed in ["kernels", "burn"] {
                let needed = format!("{needed}/{}", backend.name);
                assert!(found.contains(&needed), "{krate}/{}: {found:?}", backend.name);
            }
        }
    }
}
