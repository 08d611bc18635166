//! Instruction ─► tokens, and where its labels begin.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use text::Tokenizer;

use super::instruction::Instruction;
use crate::error::{Error, Result};

/// A row ready to learn from: `encode(prompt + output)` and an end token, the labels of the
/// prompt's tokens masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Prompt, output, end.
    pub tokens: Vec<u32>,
    /// First position that is a label; all behind it are labels too.
    pub labels_from: usize,
    /// The picture that the row is about, if any.
    pub image: Option<Arc<str>>,
}

/// What the length limit did to the rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruncationCounts {
    /// Rows that are whole.
    pub complete: usize,
    /// Rows whose output lost its end.
    pub truncated: usize,
    /// Rows left out, because their prompt alone is too long.
    pub dropped: usize,
}

impl Example {
    /// Encodes one row.
    ///
    /// # Errors
    /// [`Error::Model`] if the tokenizer fails or names no end token.
    pub fn encode(row: &Instruction, tokenizer: &Tokenizer) -> Result<Self> {
        let prompt = row.prompt();
        let eos = *tokenizer.eos.first().ok_or_else(|| text::Error::Tokenizer {
            path: "tokenizer".into(),
            reason: "the model's files name no end token, which training needs".into(),
        })?;
        let labels_from = tokenizer.encode(&prompt)?.len();
        let mut tokens = tokenizer.encode(&(prompt + &row.output))?;
        tokens.push(eos);
        // Merging across the border can leave the prompt no shorter than the whole.
        let labels_from = labels_from.min(tokens.len() - 1);
        Ok(Self { tokens, labels_from, image: row.image.as_deref().map(Arc::from) })
    }

    /// Labels of the row.
    pub fn n_labels(&self) -> usize {
        self.tokens.len() - self.labels_from.max(1)
    }

    /// Encodes rows to at most `max_len` tokens each. Too long a row loses the end of its output;
    /// one whose prompt leaves no room for a single label is left out.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), or [`Error::Empty`] if no row is left.
    pub fn encode_all(
        rows: &[Instruction],
        tokenizer: &Tokenizer,
        max_len: usize,
    ) -> Result<(Vec<Self>, TruncationCounts)> {
        let mut examples = Vec::with_capacity(rows.len());
        let mut fitted = TruncationCounts::default();
        for row in rows {
            let mut example = Self::encode(row, tokenizer)?;
            if example.labels_from >= max_len {
                fitted.dropped += 1;
                continue;
            }
            if example.tokens.len() > max_len {
                example.tokens.truncate(max_len);
                fitted.truncated += 1;
            } else {
                fitted.complete += 1;
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
        Ok((examples, fitted))
    }
}
