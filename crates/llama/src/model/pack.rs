//! Packing whole sequences of any lengths into one pass, and the pass itself.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};
use kernels::{DeviceTables, Sequence, SequenceLayout};

use super::adapter_hooks::Adapter;
use super::forward_context::ForwardContext;
use super::llama::Llama;
use super::packed_batch::{PackedBatch, PrefixSharing, PrefixTree};
use crate::error::Result;

impl Llama {
    /// Runs the layers from `first` on, on a packed batch, and returns the hidden states of some rows
    /// after the final norm.
    ///
    /// # Shapes
    /// - `hidden`: the input of the layer `first`, `[batch, seq, d_model]`, f32
    /// - `rows`: `[rows]`, as in [`PackedBatch::token_rows`]; at least one
    /// - output: `[1, rows, d_model]`, f32
    pub fn forward_from(
        &self,
        first: usize,
        hidden: Tensor<3>,
        context: &ForwardContext,
        rows: &Tensor<1, Int>,
        adapter: &dyn Adapter,
    ) -> Tensor<3> {
        let hidden = (first..self.layers.len()).fold(hidden, |hidden, index| {
            self.layer_for_rows(index, hidden, context, rows, adapter)
        });
        self.final_norm(hidden, adapter)
    }

    /// One layer of a pass that needs only some rows of the last layer's output. The last layer's
    /// feed-forward network runs for these rows only: it computes each row from itself alone.
    ///
    /// # Shapes
    /// - `hidden`: `[batch, seq, d_model]`, f32
    /// - `rows`: `[rows]`, indices of `batch * seq` rows; at least one
    /// - output: `[1, rows, d_model]` after the last layer, else as `hidden`
    pub fn layer_for_rows(
        &self,
        index: usize,
        hidden: Tensor<3>,
        context: &ForwardContext,
        rows: &Tensor<1, Int>,
        adapter: &dyn Adapter,
    ) -> Tensor<3> {
        let layer = &self.layers[index];
        if index + 1 < self.layers.len() {
            return layer.forward(index, hidden, context, None, adapter);
        }
        let hidden = layer.forward_attention(index, hidden, context, None, adapter);
        let [batch, seq, d_model] = hidden.dims();
        let hidden = hidden.reshape([1, batch * seq, d_model]).select(1, rows.clone());
        layer.forward_feed_forward(index, hidden, adapter)
    }

    /// Packs whole sequences of any lengths for one pass.
    ///
    /// On devices with fused attention the sequences are concatenated without padding, and sequences
    /// with a shared prefix share its rows as far as `sharing` allows. On other devices sequences are
    /// padded on the right to the longest one; the causal mask keeps real tokens from the padding.
    ///
    /// # Errors
    /// [`Error::TokenId`](crate::Error::TokenId), or
    /// [`Error::SequenceTooLong`](crate::Error::SequenceTooLong) if a sequence exceeds the model's
    /// context.
    ///
    /// # Panics
    /// If there are no sequences.
    pub fn pack(&self, sequences: &[&[u32]], sharing: &PrefixSharing) -> Result<PackedBatch> {
        const PADDING: u32 = 0;
        let longest = sequences.iter().map(|tokens| tokens.len()).max();
        let longest = longest.expect("there are sequences");
        self.check_context_length(longest)?;
        if !self.has_fused_attention() {
            let pad = |tokens: &&[u32]| {
                let mut tokens = tokens.to_vec();
                tokens.resize(longest, PADDING);
                tokens
            };
            let token_rows = sequences.iter().enumerate().map(|(index, tokens)| {
                let first = index * longest;
                (first..first + tokens.len()).collect()
            });
            let token_rows = token_rows.collect();
            let tokens = self.tokens(&sequences.iter().map(pad).collect::<Vec<_>>())?;
            let context = self.forward_context(sequences.len(), longest)?;
            return Ok(PackedBatch { tokens, context, token_rows });
        }
        let PrefixTree { tokens, position_ids, token_rows } = PrefixTree::new(sequences, sharing);
        let mut token_count = 0;
        let layout = sequences.iter().map(|tokens| {
            let first_row = token_count;
            token_count += tokens.len();
            Sequence { first_row, len: tokens.len(), past: 0, padding: 0 }
        });
        let layout = SequenceLayout {
            sequences: Arc::new(layout.collect()),
            rotary_table: self.rotary_table(position_ids.iter().copied()),
            token_rows: (tokens.len() < token_count).then(|| Arc::new(token_rows.concat())),
            block_tables: None,
            device_tables: DeviceTables::default(),
        };
        let tokens = self.tokens(&[tokens])?;
        Ok(PackedBatch { tokens, context: self.fused_context(layout, &[position_ids]), token_rows })
    }

    /// Number of rows of the batch that [`pack`](Self::pack) makes of these sequences.
    pub fn packed_rows(&self, sequences: &[&[u32]], sharing: &PrefixSharing) -> usize {
        if self.has_fused_attention() {
            return PrefixTree::new(sequences, sharing).tokens.len();
        }
        sequences.len() * sequences.iter().map(|tokens| tokens.len()).max().unwrap_or(0)
    }
}
