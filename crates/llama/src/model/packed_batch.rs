//! Whole texts ─► rows of one pass: side by side where attention is fused, padded elsewhere.

use std::collections::HashMap;
use std::sync::Arc;

use burn::tensor::{Int, Tensor};
use kernels::{Sequence, SequenceLayout};

use crate::attention::ForwardContext;
use crate::error::Result;
use crate::model::Llama;
use crate::seam::Adapter;

/// Whole texts, laid out for one pass.
#[derive(Debug, Clone)]
pub struct PackedBatch {
    /// `[1, rows]`, or `[texts, longest]`.
    pub tokens: Tensor<2, Int>,
    /// What all layers share.
    pub context: ForwardContext,
    /// The row of each token of each text, counted through all rows of `tokens`.
    pub token_rows: Vec<Vec<usize>>,
}

impl Llama {
    /// Runs the model over whole texts and gives the normed hidden states behind its last layer.
    ///
    /// # Shapes
    /// - output: as the tokens of `texts`, with `d_model` behind, f32
    pub fn forward_packed(&self, texts: &PackedBatch, adapter: &dyn Adapter) -> Tensor<3> {
        let mut hidden = self.embed(texts.tokens.clone(), &texts.context);
        for index in 0..self.layers.len() {
            hidden = self.layer(index, hidden, &texts.context, adapter);
        }
        self.final_norm(hidden, adapter)
    }

    /// Lays whole texts of any lengths out for one pass.
    ///
    /// Where attention is fused they lie side by side, and texts that begin alike share the rows of
    /// their common tokens, as far as `sharing` lets them: causal attention gives the same for these,
    /// if their adapters do. Elsewhere texts are padded on the right to the longest one; no real
    /// token sees the padding behind it.
    ///
    /// # Errors
    /// [`Error::TokenId`](crate::Error::TokenId), or [`Error::TooLong`](crate::Error::TooLong) if a
    /// text passes the model's context.
    ///
    /// # Panics
    /// If there are no texts.
    pub fn pack(&self, texts: &[&[u32]], sharing: &PrefixSharing) -> Result<PackedBatch> {
        const PADDING: u32 = 0;
        let longest = texts.iter().map(|text| text.len()).max().expect("there are texts");
        self.check_context_length(longest)?;
        if !self.is_fused() {
            let pad = |text: &&[u32]| {
                let mut text = text.to_vec();
                text.resize(longest, PADDING);
                text
            };
            let tokens = self.tokens(&texts.iter().map(pad).collect::<Vec<_>>())?;
            let rows = texts.iter().enumerate().map(|(index, text)| {
                let first = index * longest;
                (first..first + text.len()).collect()
            });
            let pass = self.forward_context(texts.len(), longest)?;
            return Ok(PackedBatch { tokens, context: pass, token_rows: rows.collect() });
        }
        let Shared { tokens, positions, rows } = Shared::new(texts, sharing);
        let mut next = 0;
        let sequences = texts.iter().map(|text| {
            next += text.len();
            Sequence { first_row: next - text.len(), len: text.len(), past: 0, padding: 0 }
        });
        let texts = SequenceLayout {
            sequences: Arc::new(sequences.collect()),
            rotary_table: self.turns(positions.iter().copied()),
            token_rows: (tokens.len() < next).then(|| Arc::new(rows.concat())),
        };
        let tokens = self.tokens(&[tokens])?;
        Ok(PackedBatch {
            tokens,
            context: self.fused_context(texts, &[positions]),
            token_rows: rows,
        })
    }

    /// Rows that [`pack`](Self::pack) makes of some texts.
    pub fn packed_rows(&self, texts: &[&[u32]], sharing: &PrefixSharing) -> usize {
        if self.is_fused() {
            return Shared::new(texts, sharing).tokens.len();
        }
        texts.len() * texts.iter().map(|text| text.len()).max().unwrap_or(0)
    }
}

/// Which texts of a pass are worked on together as far as they begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrefixSharing {
    /// All of them: the adapter is the same for all.
    All,
    /// Those with the same number, one for each text: their adapters are equal.
    Groups(Vec<usize>),
}

impl PrefixSharing {
    fn group(&self, text: usize) -> usize {
        match self {
            Self::All => 0,
            Self::Groups(groups) => groups[text],
        }
    }
}

/// Texts as paths of one tree: what they have in common from their start is there once.
#[derive(Debug, PartialEq, Eq)]
struct Shared {
    /// One a row.
    tokens: Vec<u32>,
    /// Where in its text each row's token is.
    positions: Vec<usize>,
    /// Rows of each text.
    rows: Vec<Vec<usize>>,
}

impl Shared {
    fn new(texts: &[&[u32]], sharing: &PrefixSharing) -> Self {
        let (mut tokens, mut positions) = (Vec::new(), Vec::new());
        let mut known = HashMap::new();
        let rows = texts.iter().enumerate().map(|(index, text)| {
            let group = sharing.group(index);
            let mut before = None;
            let path = text.iter().enumerate().map(|(position, &token)| {
                let row = *known.entry((group, before, token)).or_insert_with(|| {
                    tokens.push(token);
                    positions.push(position);
                    tokens.len() - 1
                });
                before = Some(row);
                row
            });
            path.collect()
        });
        let rows = rows.collect();
        Self { tokens, positions, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_begin_alike_share_rows() {
        let texts: [&[u32]; 4] = [&[7, 8, 9], &[7, 8, 5, 9], &[8, 9], &[7, 8, 9]];
        let expected = Shared {
            tokens: vec![7, 8, 9, 5, 9, 8, 9],
            positions: vec![0, 1, 2, 2, 3, 0, 1],
            rows: vec![vec![0, 1, 2], vec![0, 1, 3, 4], vec![5, 6], vec![0, 1, 2]],
        };
        assert_eq!(Shared::new(&texts, &PrefixSharing::All), expected);
    }
    #[test]
    fn texts_whose_adapters_differ_share_none() {
        let texts: [&[u32]; 3] = [&[7, 8], &[7, 8, 9], &[7, 9]];
        let expected = Shared {
            tokens: vec![7, 8, 7, 8, 9, 9],
            positions: vec![0, 1, 0, 1, 2, 1],
            rows: vec![vec![0, 1], vec![2, 3, 4], vec![0, 5]],
        };
        assert_eq!(Shared::new(&texts, &PrefixSharing::Groups(vec![4, 2, 4])), expected);
    }
}
