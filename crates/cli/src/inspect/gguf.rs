//! A GGUF file: as a model where it is one, and as it is.

use std::fmt;
use std::path::PathBuf;

use checkpoint::gguf::{GgufFile, Summary};
use indicatif::{HumanBytes, HumanCount};
use llama::LlamaConfig;
use serde::Serialize;

use super::model::{Memory, sizes};
use super::tensors::{Table, TensorEntry};

#[derive(Debug, Serialize)]
pub struct GgufReport {
    #[serde(serialize_with = "crate::output::lossy")]
    path: PathBuf,
    version: u32,
    /// `None` for a model of an architecture that cannot be run here.
    config: Option<LlamaConfig>,
    /// Why there is no config.
    unusable: Option<String>,
    parameters: usize,
    bytes: u64,
    memory: Option<Memory>,
    chat_template: bool,
    metadata: serde_json::Map<String, serde_json::Value>,
    tensors: Vec<TensorEntry>,
}

impl GgufReport {
    pub fn new(file: &GgufFile) -> Self {
        let (config, unusable) = match llama::gguf::parse_config(file) {
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
            memory: config.as_ref().map(Memory::of),
            config,
            unusable,
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
            sizes(f, config)?;
        }
        if let Some(reason) = &self.unusable {
            writeln!(f, "unusable    {reason}")?;
        }
        writeln!(f, "parameters  {}", HumanCount(self.parameters as u64))?;
        writeln!(f, "on disk     {}", HumanBytes(self.bytes))?;
        if let Some(memory) = &self.memory {
            memory.fmt(f)?;
        }
        writeln!(f, "for chats   {}", if self.chat_template { "yes" } else { "no chat template" })?;
        writeln!(f, "\nmetadata ({})", self.metadata.len())?;
        for (key, value) in &self.metadata {
            let value = value.as_str().unwrap_or_default();
            writeln!(f, "  {} = {value}", key.escape_debug())?;
        }
        Table(&self.tensors).fmt(f)
    }
}
