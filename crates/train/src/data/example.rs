//! Row ─► token ids, and which of them are labels.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use text::Tokenizer;

use super::instruction::Instruction;
use super::row_encoder::RowEncoder;
use crate::error::Result;

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
        let labels = from..tokens.len();
        Self::new(tokens, std::iter::once(labels).collect(), None)
    }

    /// An example with some spans of labels. The first token is no label.
    pub fn new(tokens: Vec<u32>, label_spans: Vec<Range<usize>>, image: Option<Arc<str>>) -> Self {
        let label_spans = label_spans.into_iter().map(|span| span.start.max(1)..span.end);
        let label_spans = label_spans.filter(|span| !span.is_empty()).collect();
        Self { tokens, label_spans, image }
    }

    /// Tokenizes a row in the Alpaca format; [`RowEncoder`] has other formats.
    ///
    /// # Errors
    /// As [`RowEncoder::encode`].
    pub fn encode(row: &Instruction, tokenizer: &Tokenizer) -> Result<Self> {
        RowEncoder::alpaca(tokenizer)?.encode(row)
    }

    /// Tokenizes rows in the Alpaca format, to at most `max_len` tokens each. A longer row loses the end
    /// of its output; a row whose prompt leaves no space for a label is dropped.
    ///
    /// # Errors
    /// As [`RowEncoder::encode_all`].
    pub fn encode_all(
        rows: &[Instruction],
        tokenizer: &Tokenizer,
        max_len: usize,
    ) -> Result<(Vec<Self>, TruncationCounts)> {
        RowEncoder::alpaca(tokenizer)?.encode_all(rows, max_len)
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
}

impl TruncationCounts {
    /// Truncates an example to `max_len` tokens and counts it; `None` if no label is left.
    pub fn count(&mut self, mut example: Example, max_len: usize) -> Option<Example> {
        let is_complete = example.tokens.len() <= max_len;
        example.truncate(max_len);
        let counter = match () {
            () if example.label_spans.is_empty() => &mut self.dropped,
            () if is_complete => &mut self.complete,
            () => &mut self.truncated,
        };
        *counter += 1;
        (!example.label_spans.is_empty()).then_some(example)
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
