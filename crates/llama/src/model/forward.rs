//! Forward pass of a batch: tokens and a KV cache ─► positions and masks ─► all layers.

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use kernels::{DeviceTables, RotaryTable, Sequence, SequenceLayout};

use super::adapter_hooks::Adapter;
use super::causal_mask::{LayerMasks, causal_mask};
use super::forward_context::ForwardContext;
use super::kv_cache::KvCache;
use super::llama::Llama;
use super::rotary::{RotaryEmbedding, RotaryTensors};
use crate::config::PositionEmbedding;
use crate::error::{Error, Result};

impl Llama {
    /// Runs the model on new tokens and returns the hidden states after the final norm.
    ///
    /// Without a `cache` the tokens are whole sequences. With one they continue the cached sequences
    /// and are appended to the cache.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, seq]`
    /// - output: `[batch, seq, d_model]`, f32
    ///
    /// # Errors
    /// [`Error::SequenceTooLong`] if a sequence exceeds the model's context or the cache's capacity.
    pub fn forward(
        &self,
        tokens: Tensor<2, Int>,
        mut cache: Option<&mut KvCache>,
        adapter: &dyn Adapter,
    ) -> Result<Tensor<3>> {
        let [batch, seq] = tokens.dims();
        let context = self.cached_context(batch, seq, cache.as_deref())?;
        let mut hidden = self.embed(tokens, &context);
        for (index, layer) in self.layers.iter().enumerate() {
            let layer_cache = cache.as_mut().map(|cache| cache.layer_mut(index));
            hidden = layer.forward(index, hidden, &context, layer_cache, adapter);
        }
        if let Some(cache) = cache {
            cache.advance(seq);
        }
        Ok(self.final_norm(hidden, adapter))
    }

    /// Context of a pass over whole sequences without a cache.
    ///
    /// # Errors
    /// [`Error::SequenceTooLong`] if `seq` exceeds the model's context.
    pub fn forward_context(&self, batch: usize, seq: usize) -> Result<ForwardContext> {
        self.cached_context(batch, seq, None)
    }

    /// Context of the next `seq` tokens of each row.
    fn cached_context(
        &self,
        batch: usize,
        seq: usize,
        cache: Option<&KvCache>,
    ) -> Result<ForwardContext> {
        let position_ids = self.position_ids(batch, seq, cache)?;
        if self.is_fused() || (cache.is_none() && self.has_fused_attention()) {
            let sequence = |row: usize| Sequence {
                first_row: row * seq,
                len: seq,
                past: cache.map_or(0, KvCache::len),
                padding: cache.map_or(0, |cache| cache.padding()[row]),
            };
            let sequences = (0..batch).map(sequence).collect::<Vec<_>>();
            let rows = batch * seq;
            let flat_ids = position_ids.iter().flatten().copied().cycle().take(rows);
            let layout = SequenceLayout {
                sequences: Arc::new(sequences),
                token_rows: None,
                rotary_table: self.rotary_table(flat_ids),
                block_tables: cache.and_then(KvCache::block_tables),
                device_tables: DeviceTables::default(),
            };
            return Ok(self.fused_context(layout, &position_ids));
        }
        let device = self.device().without_autodiff();
        let (past, padding) = cache.map_or((0, &[0][..]), |cache| (cache.len(), cache.padding()));
        let mask = |window| causal_mask(padding, past, seq, window, &device);
        Ok(ForwardContext {
            layout: None,
            rotary: self.rotary_tensors(&position_ids),
            position_embeddings: self.position_embeddings(&position_ids),
            masks: LayerMasks::new(self.config(), mask),
            past,
            block_plan: None,
        })
    }

    /// Context for fused attention. `position_ids` holds one list for all rows, or one per sequence.
    pub(super) fn fused_context(
        &self,
        layout: SequenceLayout,
        position_ids: &[Vec<usize>],
    ) -> ForwardContext {
        ForwardContext {
            layout: Some(layout),
            rotary: None,
            position_embeddings: self.position_embeddings(position_ids),
            masks: LayerMasks::default(),
            past: 0,
            block_plan: None,
        }
    }

    /// Rotary table of the given positions; `None` if the model has no rotary embedding.
    pub(super) fn rotary_table(
        &self,
        position_ids: impl Iterator<Item = usize>,
    ) -> Option<Arc<RotaryTable>> {
        let rotary = self.config().positions == PositionEmbedding::Rotary;
        rotary.then(|| Arc::new(RotaryEmbedding::new(self.config()).table(position_ids)))
    }

    /// Rotary embedding of positions as tensors, one list for all rows or one per row; `None` if the model
    /// has none.
    pub(super) fn rotary_tensors(&self, position_ids: &[Vec<usize>]) -> Option<RotaryTensors> {
        let rotary = self.config().positions == PositionEmbedding::Rotary;
        let device = self.device().without_autodiff();
        rotary.then(|| RotaryEmbedding::new(self.config()).tensors(position_ids, &device))
    }

    pub(super) fn check_context_length(&self, seq: usize) -> Result<()> {
        let capacity = self.config().max_positions;
        if seq > capacity {
            return Err(Error::SequenceTooLong {
                asked: seq,
                what: "the model's context",
                capacity,
            });
        }
        Ok(())
    }

    /// Learned embeddings of positions, `[batch or 1, seq, d_model]`.
    pub(super) fn position_embeddings(&self, position_ids: &[Vec<usize>]) -> Option<Tensor<3>> {
        let table = self.positions.as_ref()?;
        // A finished row at the end of the context stays in the batch while others decode.
        let last = self.config().max_positions - 1;
        let ids = position_ids.iter().flatten().map(|&id| id.min(last) as i64).collect::<Vec<_>>();
        let (rows, seq) = (position_ids.len(), position_ids[0].len());
        let data = TensorData::new(ids, [rows * seq]);
        let ids = Tensor::from_data(data, &self.device().without_autodiff());
        Some(table.select(ids).reshape([rows, seq, self.config().d_model]))
    }

    /// Positions of the next `seq` tokens: one list for all rows, or one per row.
    fn position_ids(
        &self,
        batch: usize,
        seq: usize,
        cache: Option<&KvCache>,
    ) -> Result<Vec<Vec<usize>>> {
        let Some(cache) = cache else {
            self.check_context_length(seq)?;
            return Ok(vec![(0..seq).collect()]);
        };
        let past = cache.len();
        assert_eq!(cache.padding().len(), batch, "the cache has another batch size");
        if past + seq > cache.capacity() {
            return Err(Error::SequenceTooLong {
                asked: past + seq,
                what: "the KV cache",
                capacity: cache.capacity(),
            });
        }
        let padding = cache.padding();
        let rows = if padding.iter().all(|&row| row == padding[0]) { 1 } else { batch };
        let row = |&padding: &usize| {
            (past..past + seq).map(|position| position.saturating_sub(padding)).collect::<Vec<_>>()
        };
        Ok(padding[..rows].iter().map(row).collect())
    }
}
