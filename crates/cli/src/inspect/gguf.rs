//! A GGUF file: its model config if it has a supported one, its metadata and tensors.

use std::fmt;
use std::path::PathBuf;

use checkpoint::gguf::{GgufFile, Summary};
use llama::LlamaConfig;
use serde::Serialize;

use super::lines::{write_chat_template, write_size};
use super::model::{MemoryFootprint, write_config};
use super::tensors::{TensorEntry, TensorTable};

#[derive(Debug, Serialize)]
pub struct GgufReport {
    #[serde(serialize_with = "crate::output::serialize_path_lossy")]
    path: PathBuf,
    version: u32,
    /// `None` for a model of an unsupported architecture.
    config: Option<LlamaConfig>,
    /// Why there is no config; the JSON key is `unusable`.
    #[serde(rename = "unusable")]
    unsupported: Option<String>,
    parameters: usize,
    bytes: u64,
    memory: Option<MemoryFootprint>,
    chat_template: bool,
    metadata: serde_json::Map<String, serde_json::Value>,
    tensors: Vec<TensorEntry>,
}

impl GgufReport {
    pub fn new(file: &GgufFile) -> Self {
        let (config, unsupported) = match llama::gguf::parse_config(file) {
            Ok(config) => (Some(config), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let Summary { version, metadata, tensors, n_parameters, len_bytes } = file.summary();
        let tensors = tensors.into_iter().map(|tensor| TensorEntry {
            name: tensor.name,
            dtype: tensor.block_type.to_lowercase(),
            shape: tensor.shape,
        });
        Self {
            path: file.path().into(),
            version,
            memory: config.as_ref().map(MemoryFootprint::of),
            config,
            unsupported,
            parameters: n_parameters,
            bytes: len_bytes,
            chat_template: file.metadata().get("tokenizer.chat_template").is_some(),
            metadata: metadata.into_iter().map(|(key, value)| (key, value.into())).collect(),
            tensors: tensors.collect(),
        }
    }
}

impl fmt::Display for GgufReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "GGUF        {} (version {})", self.path.display(), self.version)?;
        if let Some(config) = &self.config {
            write_config(f, config)?;
        }
        if let Some(reason) = &self.unsupported {
            writeln!(f, "unsupported {reason}")?;
        }
        write_size(f, self.parameters, self.bytes)?;
        if let Some(memory) = &self.memory {
            memory.fmt(f)?;
        }
        write_chat_template(f, self.chat_template)?;
        writeln!(f, "\nmetadata ({})", self.metadata.len())?;
        for (key, value) in &self.metadata {
            let value = value.as_str().unwrap_or_default();
            writeln!(f, "  {} = {value}", key.escape_debug())?;
        }
        TensorTable(&self.tensors).fmt(f)
    }
}
