//! Packed (ragged) batches: sequences of different lengths without padding, shared prefixes once.
//!
//! Sequences with a shared prefix, such as prompts of one template, are paths of one tree. Causal
//! attention computes the same for the tokens of the prefix in each of them, if their adapters are
//! equal, so all operations on rows run once for these tokens:
//!
//! ```text
//! sequences           rows                          token_rows
//! 7 8 9               7 8 9 5 9                     0 1 2
//! 7 8 5 9             └─┴─ shared prefix            0 1 3 4
//! ```

use std::collections::HashMap;

use burn::tensor::{Int, Tensor};

use super::forward_context::ForwardContext;

/// Whole sequences, ready for one pass.
#[derive(Debug, Clone)]
pub struct PackedBatch {
    /// `[1, rows]` if packed, `[sequences, longest]` if padded.
    pub tokens: Tensor<2, Int>,
    /// What all layers share.
    pub context: ForwardContext,
    /// The row of each token of each sequence, counted over all rows of `tokens`.
    pub token_rows: Vec<Vec<usize>>,
}

/// Which sequences of a packed batch may share the rows of a common prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrefixSharing {
    /// All of them: the adapter is the same for all.
    All,
    /// Those in the same group; one group number per sequence. Adapters within a group are equal.
    Groups(Vec<usize>),
}

impl PrefixSharing {
    fn group(&self, sequence: usize) -> usize {
        match self {
            Self::All => 0,
            Self::Groups(groups) => groups[sequence],
        }
    }
}

/// Prefix tree of sequences: one row per node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PrefixTree {
    /// Token of each row.
    pub(super) tokens: Vec<u32>,
    /// Position of each row in its sequence.
    pub(super) position_ids: Vec<usize>,
    /// Rows of each sequence.
    pub(super) token_rows: Vec<Vec<usize>>,
}

impl PrefixTree {
    pub(super) fn new(sequences: &[&[u32]], sharing: &PrefixSharing) -> Self {
        let (mut tokens, mut position_ids) = (Vec::new(), Vec::new());
        let mut nodes = HashMap::new();
        let token_rows = sequences.iter().enumerate().map(|(index, sequence)| {
            let group = sharing.group(index);
            let mut parent = None;
            let path = sequence.iter().enumerate().map(|(position, &token)| {
                let row = *nodes.entry((group, parent, token)).or_insert_with(|| {
                    tokens.push(token);
                    position_ids.push(position);
                    tokens.len() - 1
                });
                parent = Some(row);
                row
            });
            path.collect()
        });
        let token_rows = token_rows.collect();
        Self { tokens, position_ids, token_rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_with_a_shared_prefix_share_rows() {
        let sequences: [&[u32]; 4] = [&[7, 8, 9], &[7, 8, 5, 9], &[8, 9], &[7, 8, 9]];
        let expected = PrefixTree {
            tokens: vec![7, 8, 9, 5, 9, 8, 9],
            position_ids: vec![0, 1, 2, 2, 3, 0, 1],
            token_rows: vec![vec![0, 1, 2], vec![0, 1, 3, 4], vec![5, 6], vec![0, 1, 2]],
        };
        assert_eq!(PrefixTree::new(&sequences, &PrefixSharing::All), expected);
    }

    #[test]
    fn sequences_of_different_adapters_share_no_rows() {
        let sequences: [&[u32]; 3] = [&[7, 8], &[7, 8, 9], &[7, 9]];
        let expected = PrefixTree {
            tokens: vec![7, 8, 7, 8, 9, 9],
            position_ids: vec![0, 1, 0, 1, 2, 1],
            token_rows: vec![vec![0, 1], vec![2, 3, 4], vec![0, 5]],
        };
        assert_eq!(PrefixTree::new(&sequences, &PrefixSharing::Groups(vec![4, 2, 4])), expected);
    }
}
