//! Files of other programs, damaged files, and a fake hub.

mod damaged;
#[cfg(feature = "hub")]
mod hub;
mod parquet;

use std::path::PathBuf;

/// A golden file.
fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/data").join(name)
}
