//! Hugging Face folders: `config.json`, `*.safetensors` or `pytorch_model*.bin`, `tokenizer.json`.

mod save;
mod source;

use std::path::Path;

pub use save::{check_saveable, save};
pub use source::HuggingFaceSource;

use crate::architecture;
use crate::config::LlamaConfig;
use crate::error::Result;

/// Parses `config.json`.
///
/// # Errors
/// [`Error::Architecture`](crate::Error::Architecture), [`Error::Config`](crate::Error::Config), or
/// [`checkpoint::Error::Format`] for invalid JSON.
pub fn parse_config(path: &Path, text: &str) -> Result<LlamaConfig> {
    architecture::parse(path, text)
}
