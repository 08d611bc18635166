//! Whether the output head is tied to the embedding: the config compared with the weights.
//!
//! Source: transformers 5, `modeling_utils.py`, `tie_weights`.

use checkpoint::TensorSource;

use crate::config::LlamaConfig;
use crate::error::Result;

pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(super) const HEAD: &str = "lm_head.weight";

/// The config with `tied_head` set to false if the weights contain a head that differs from the
/// embedding. An equal copy of the embedding, as in PyTorch's files, stays tied.
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
