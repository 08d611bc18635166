//! What every kind of GGUF tokenizer is built from.

use checkpoint::gguf::Metadata;

use crate::error::Result;
use crate::vocabulary::Vocabulary;

/// A tokenizer and its defaults for special tokens.
pub(super) struct Parts {
    pub(super) inner: tokenizers::Tokenizer,
    /// Whether BOS is added by default.
    pub(super) add_bos: bool,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
}

/// `tokenizer.ggml.{name}`, which must be a valid token id.
pub(super) fn special_id(
    metadata: &Metadata,
    vocabulary: &Vocabulary<'_>,
    name: &str,
) -> Result<Option<u32>> {
    let Some(id) = metadata.optional::<usize>(&format!("tokenizer.ggml.{name}"))? else {
        return Ok(None);
    };
    vocabulary.check_id(metadata.path(), name, id).map(Some)
}
