//! Instruction ─► token ids, and the position of the first label.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use text::Tokenizer;

use super::instruction::Instruction;
use crate::error::{Error, Result};

/// A tokenized row: `encode(prompt + output)` and an end token. The label mask covers the tokens of
/// the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids of the prompt, the output and the end.
    pub tokens: Vec<u32>,
    /// Position of the first label; all tokens from it on are labels.
    pub labels_from: usize,
    /// Name of the image that the row is about, if any.
    pub image: Option<Arc<str>>,
}

/// How many rows the maximum length truncated or dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruncationCounts {
    /// Rows that are complete.
    pub complete: usize,
    /// Rows whose output was truncated.
    pub truncated: usize,
    /// Rows that were dropped because their prompt alone is too long.
    pub dropped: usize,
}

impl Example {
    /// Tokenizes one row.
    ///
    /// # Errors
    /// [`Error::Model`] if the tokenizer fails or has no end token.
    pub fn encode(row: &Instruction, tokenizer: &Tokenizer) -> Result<Self> {
        let prompt = row.prompt();
        let eos = *tokenizer.eos.first().ok_or_else(|| text::Error::Tokenizer {
            path: "tokenizer".into(),
            reason: "the model's files name no end token, which training needs".into(),
        })?;
        let labels_from = tokenizer.encode(&prompt)?.len();
        let mut tokens = tokenizer.encode(&(prompt + &row.output))?;
        tokens.push(eos);
        // Tokens may merge across the end of the prompt, so that the whole row is no longer than it.
        let labels_from = labels_from.min(tokens.len() - 1);
        Ok(Self { tokens, labels_from, image: row.image.as_deref().map(Arc::from) })
    }

    /// Number of labels of the row.
    pub fn n_labels(&self) -> usize {
        self.tokens.len() - self.labels_from.max(1)
    }

    /// Tokenizes rows to at most `max_len` tokens each. A longer row loses the end of its output; a
    /// row whose prompt leaves no space for a label is dropped.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), or [`Error::NoRows`] if all rows are dropped.
    pub fn encode_all(
        rows: &[Instruction],
        tokenizer: &Tokenizer,
        max_len: usize,
    ) -> Result<(Vec<Self>, TruncationCounts)> {
        let mut examples = Vec::with_capacity(rows.len());
        let mut counts = TruncationCounts::default();
        for row in rows {
            let mut example = Self::encode(row, tokenizer)?;
            if example.labels_from >= max_len {
                counts.dropped += 1;
                continue;
            }
            if example.tokens.len() > max_len {
                example.tokens.truncate(max_len);
                counts.truncated += 1;
            } else {
                counts.complete += 1;
            }
            examples.push(example);
        }
        if examples.is_empty() {
            return Err(Error::NoRows {
                name: "data".into(),
                purpose: "use",
                reason: format!("no prompt leaves room for an answer in {max_len} tokens"),
            });
        }
        Ok((examples, counts))
    }
}
