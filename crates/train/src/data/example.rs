//! Row ─► token ids, and which of them are labels.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use text::Tokenizer;

use super::instruction::Instruction;
use crate::error::{Error, Result};

/// A tokenized row, and the spans of its tokens that the model learns to predict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Positions of the labels: ranges in ascending order that do not overlap and end within the
    /// tokens. The first token is never a label, because nothing precedes it.
    pub label_spans: Vec<Range<usize>>,
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
    /// An example without an image whose tokens from position `from` on are labels.
    pub fn with_labels_from(tokens: Vec<u32>, from: usize) -> Self {
        let labels = from.max(1)..tokens.len();
        let label_spans = if labels.is_empty() { Vec::new() } else { vec![labels] };
        Self { tokens, label_spans, image: None }
    }

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
        let image = row.image.as_deref().map(Arc::from);
        Ok(Self { image, ..Self::with_labels_from(tokens, labels_from) })
    }

    /// Positions of the labels, ascending.
    pub fn label_positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.label_spans.iter().flat_map(|span| span.start.max(1)..span.end.min(self.tokens.len()))
    }

    /// Number of labels of the row.
    pub fn n_labels(&self) -> usize {
        let len =
            |span: &Range<usize>| span.end.min(self.tokens.len()).saturating_sub(span.start.max(1));
        self.label_spans.iter().map(len).sum()
    }

    /// Removes the tokens from position `max_len` on, with their labels.
    pub fn truncate(&mut self, max_len: usize) {
        self.tokens.truncate(max_len);
        self.label_spans.retain(|span| span.start < max_len);
        if let Some(last) = self.label_spans.last_mut() {
            last.end = last.end.min(max_len);
        }
    }

    /// Tokenizes rows to at most `max_len` tokens each. A longer row loses its end; a row that has no
    /// label within this length is dropped.
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
            let is_complete = example.tokens.len() <= max_len;
            example.truncate(max_len);
            if example.label_spans.is_empty() {
                counts.dropped += 1;
                continue;
            }
            if is_complete {
                counts.complete += 1;
            } else {
                counts.truncated += 1;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_token_is_never_a_label() {
        let example = Example::with_labels_from(vec![5, 6, 7], 0);
        assert_eq!(example.label_spans, [1..3]);
        let example = Example { label_spans: vec![0..1, 2..3], ..example };
        assert_eq!(example.label_positions().collect::<Vec<_>>(), [2]);
        assert_eq!(example.n_labels(), 1);
        assert!(Example::with_labels_from(vec![5], 0).label_spans.is_empty());
    }

    #[test]
    fn truncation_cuts_the_last_span_and_removes_those_after_it() {
        let tokens = (0..10).collect::<Vec<_>>();
        let example = Example { tokens, label_spans: vec![1..3, 5..8, 9..10], image: None };
        let spans = |max_len| {
            let mut example = example.clone();
            example.truncate(max_len);
            assert_eq!(example.label_positions().count(), example.n_labels());
            example.label_spans
        };
        assert_eq!(spans(20), [1..3, 5..8, 9..10]);
        assert_eq!(spans(9), [1..3, 5..8]);
        assert_eq!(spans(6), [1..3, 5..6]);
        assert_eq!(spans(5), [1..3]);
        assert!(spans(1).is_empty());
    }
}
