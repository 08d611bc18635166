//! Whether the output head is the embedding table: what the config says, held against the weights.
//!
//! Source: transformers 5, `modeling_utils.py`, `tie_weights`.

use checkpoint::TensorSource;

use crate::config::LlamaConfig;
use crate::error::Result;

pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(super) const HEAD: &str = "lm_head.weight";

/// The config with a head of its own where the weights have one that differs from the embedding,
/// although the config calls them tied. Equal ones are one, as they are in PyTorch's files.
///
/// # Errors
/// As [`TensorSource::read`].
pub fn resolve_tied_head(config: LlamaConfig, source: &dyn TensorSource) -> Result<LlamaConfig> {
    if !config.tied_head {
        return Ok(config);
    }
    let [embedding, head] = [EMBEDDING, HEAD].map(|name| source.shapes().get(name));
    let (Some(embedding), Some(head)) = (embedding, head) else { return Ok(config) };
    let tied_head = embedding == head && source.are_equal(EMBEDDING, HEAD)?;
    Ok(LlamaConfig { tied_head, ..config })
}
