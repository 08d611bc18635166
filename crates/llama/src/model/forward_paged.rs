//! Forward pass of sequences whose keys and values are in blocks: new tokens of any sequences in one pass.
//!
//! ```text
//! sequences     a: one token     b: a chunk of its prompt     c: one token
//! rows          a | b b b b b | c                             fused: packed, without padding
//! ```
//!
//! On devices with fused kernels, what a token computes depends on its own sequence and adapter alone, bit
//! for bit: not on the other sequences of a pass, nor on where a sequence is cut into passes. On other
//! devices this holds for passes of one [`FixedShape`].

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use kernels::{BLOCK_TOKENS, BlockTables, DeviceTables, Sequence, SequenceLayout};

use super::adapter_hooks::Adapter;
use super::block_cache::BlockCache;
use super::block_plan::BlockPlan;
use super::causal_mask::LayerMasks;
use super::forward_context::ForwardContext;
use super::linear::flatten_batch;
use super::llama::Llama;
use crate::error::Result;

/// New tokens of one sequence, and its blocks.
#[derive(Debug, Clone, Copy)]
pub struct PagedSequence<'a> {
    /// The new tokens, at least one.
    pub tokens: &'a [u32],
    /// Number of tokens before them, whose keys and values are in the blocks.
    pub past: usize,
    /// The blocks of the sequence from its first token on, with room for the new tokens. Further blocks
    /// have no effect.
    pub blocks: &'a [u32],
}

/// A pass of fixed shape, for devices whose products depend on it: `sequences` rows of `tokens` each, where
/// missing sequences and tokens are padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedShape {
    /// Sequences of a pass.
    pub sequences: usize,
    /// New tokens of a sequence.
    pub tokens: usize,
}

/// Hidden states of a pass after the last layer, before the final norm.
#[derive(Debug, Clone)]
pub struct PagedOutput {
    /// `[1, rows, d_model]`, or `[sequences, tokens, d_model]` on devices that are not fused.
    hidden: Tensor<3>,
    /// Rows of each sequence, counted over all rows of `hidden`.
    rows: Vec<Range<usize>>,
    /// In a pass of fixed shape: a selection has a multiple of this number of rows.
    selected_rows: Option<usize>,
}

impl PagedSequence<'_> {
    /// Tokens with the new ones.
    pub(super) fn len(&self) -> usize {
        self.past + self.tokens.len()
    }
}

impl PagedOutput {
    /// Hidden states of single tokens, each given by its sequence and its index among the sequence's new
    /// tokens. They are the input of [`Llama::final_norm`], whose output is the input of [`Llama::logits`].
    ///
    /// In a pass of [`FixedShape`] the number of rows is a multiple of its `sequences`. Those behind the
    /// selected tokens mean nothing.
    ///
    /// # Shapes
    /// - output: `[selected tokens, 1, d_model]`, or more rows in a pass of fixed shape
    ///
    /// # Panics
    /// If no token is selected, or one is not in the pass.
    pub fn select(&self, tokens: &[(usize, usize)]) -> Tensor<3> {
        assert!(!tokens.is_empty(), "no token is selected");
        let row = |&(sequence, token): &(usize, usize)| {
            let rows = &self.rows[sequence];
            assert!(token < rows.len(), "token {token} of {} new ones", rows.len());
            (rows.start + token) as i64
        };
        let mut rows = tokens.iter().map(row).collect::<Vec<_>>();
        if let Some(multiple) = self.selected_rows {
            rows.resize(rows.len().next_multiple_of(multiple), rows[0]);
        }
        let n = rows.len();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [n]), &self.hidden.device());
        flatten_batch(self.hidden.clone()).select(0, rows).unsqueeze_dim(1)
    }
}

impl Llama {
    /// Runs the model on new tokens of any sequences, and adds their keys and values to the sequences'
    /// blocks.
    ///
    /// On devices with fused kernels the sequences are packed without padding, and `shape` has no effect:
    /// `adapter` gets hidden states `[1, rows, d_model]`, and [`prompts`](Adapter::prompts) or
    /// [`prompt_table`](Adapter::prompt_table) that belong to the sequences in their order. On other devices
    /// it gets `[sequences, tokens, d_model]` of `shape`, padding included; without a shape, the number of
    /// sequences and their longest.
    ///
    /// ```
    /// use llama::model::PagedSequence;
    /// use llama::{BlockCache, NoAdapter};
    /// # let device = testing::flex();
    /// # let config = serde_json::json!({
    /// #     "model_type": "llama", "hidden_size": 8, "intermediate_size": 8,
    /// #     "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 16,
    /// # });
    /// # let path = std::path::Path::new("config.json");
    /// # let config = llama::weights::huggingface::parse_config(path, &config.to_string())?;
    /// # let llama = llama::weights::random_init(config, &device)?;
    /// let mut cache = BlockCache::new(llama.config(), 8, &device);
    /// let sequences = [
    ///     PagedSequence { tokens: &[1, 2, 3], past: 0, blocks: &[5] },
    ///     PagedSequence { tokens: &[4], past: 0, blocks: &[2] },
    /// ];
    /// let output = llama.forward_paged(&sequences, None, &mut cache, &NoAdapter)?;
    /// // The next token of both.
    /// let hidden = llama.final_norm(output.select(&[(0, 2), (1, 0)]), &NoAdapter);
    /// assert_eq!(llama.logits(hidden, &NoAdapter).dims(), [2, 1, 16]);
    /// # Ok::<(), llama::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TokenId`](crate::Error::TokenId), or
    /// [`Error::SequenceTooLong`](crate::Error::SequenceTooLong) if a sequence exceeds the model's context.
    /// The cache is unchanged then.
    ///
    /// # Panics
    /// If there are no sequences, one has no new tokens, too few blocks or blocks that the cache does not
    /// have, or the sequences do not fit into `shape`.
    pub fn forward_paged(
        &self,
        sequences: &[PagedSequence<'_>],
        shape: Option<FixedShape>,
        cache: &mut BlockCache,
        adapter: &dyn Adapter,
    ) -> Result<PagedOutput> {
        assert!(!sequences.is_empty(), "there are no sequences");
        for sequence in sequences {
            assert!(!sequence.tokens.is_empty(), "a sequence has no new tokens");
            let room = sequence.blocks.len() * BLOCK_TOKENS;
            assert!(sequence.len() <= room, "{} tokens in blocks for {room}", sequence.len());
            self.check_context_length(sequence.len())?;
        }
        let (tokens, context, rows, selected_rows) = if self.is_fused() {
            let (tokens, context, rows) = self.packed_input(sequences)?;
            (tokens, context, rows, None)
        } else {
            let longest = sequences.iter().map(|sequence| sequence.tokens.len()).max();
            let tokens = longest.expect("there are sequences");
            let own_shape = FixedShape { sequences: sequences.len(), tokens };
            let pass_shape = shape.unwrap_or(own_shape);
            let (tokens, context, rows) =
                self.padded_input(sequences, pass_shape, cache.blocks())?;
            (tokens, context, rows, shape.map(|shape| shape.sequences))
        };
        let mut hidden = self.embed(tokens, &context);
        for (index, layer) in self.layers.iter().enumerate() {
            let layer_cache = Some(cache.layer_mut(index));
            hidden = layer.forward(index, hidden, &context, layer_cache, adapter);
        }
        Ok(PagedOutput { hidden, rows, selected_rows })
    }

    /// Tokens, context and rows of sequences without padding.
    fn packed_input(
        &self,
        sequences: &[PagedSequence<'_>],
    ) -> Result<(Tensor<2, Int>, ForwardContext, Vec<Range<usize>>)> {
        let (mut tokens, mut position_ids) = (Vec::new(), Vec::new());
        let (mut layout, mut rows) = (Vec::new(), Vec::new());
        let mut block_tables = BlockTables::default();
        for &PagedSequence { tokens: new, past, blocks } in sequences {
            let (first_row, len) = (tokens.len(), new.len());
            tokens.extend_from_slice(new);
            position_ids.extend(past..past + len);
            layout.push(Sequence { first_row, len, past, padding: 0 });
            rows.push(first_row..first_row + len);
            block_tables.push(blocks);
        }
        let layout = SequenceLayout {
            sequences: Arc::new(layout),
            token_rows: None,
            rotary_table: self.rotary_table(position_ids.iter().copied()),
            block_tables: Some(Arc::new(block_tables)),
            device_tables: DeviceTables::default(),
        };
        let tokens = self.tokens(&[tokens])?;
        Ok((tokens, self.fused_context(layout, &[position_ids]), rows))
    }

    /// Tokens, context and rows of a pass of fixed shape.
    fn padded_input(
        &self,
        sequences: &[PagedSequence<'_>],
        shape: FixedShape,
        blocks: usize,
    ) -> Result<(Tensor<2, Int>, ForwardContext, Vec<Range<usize>>)> {
        const PADDING_TOKEN: u32 = 0;
        let fits = |sequence: &PagedSequence<'_>| sequence.tokens.len() <= shape.tokens;
        assert!(
            sequences.len() <= shape.sequences && sequences.iter().all(fits),
            "the sequences do not fit into {shape:?}"
        );
        let mut tokens = vec![vec![PADDING_TOKEN; shape.tokens]; shape.sequences];
        let mut position_ids = vec![(0..shape.tokens).collect::<Vec<_>>(); shape.sequences];
        let mut rows = Vec::with_capacity(sequences.len());
        for (index, sequence) in sequences.iter().enumerate() {
            tokens[index][..sequence.tokens.len()].copy_from_slice(sequence.tokens);
            position_ids[index].iter_mut().for_each(|position| *position += sequence.past);
            let first_row = index * shape.tokens;
            rows.push(first_row..first_row + sequence.tokens.len());
        }
        let tokens = self.tokens(&tokens)?;
        let device = self.device().without_autodiff();
        let context = ForwardContext {
            layout: None,
            rotary: self.rotary_tensors(&position_ids),
            position_embeddings: self.position_embeddings(&position_ids),
            masks: LayerMasks::default(),
            past: 0,
            block_plan: Some(BlockPlan::new(self.config(), sequences, shape, blocks, &device)),
        };
        Ok((tokens, context, rows))
    }
}
