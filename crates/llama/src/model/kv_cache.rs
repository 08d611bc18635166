//! KV cache of a batch: keys and values of past tokens, owned by the caller.
//!
//! The model keeps no state between calls. A caller that decodes creates a [`KvCache`] for its batch
//! and passes it to every [`Llama::forward`](crate::Llama::forward); dropping it drops the context.
//!
//! ```text
//! cache position   0  1  2  3  4  5        prompts of unequal length are padded on the left,
//! row 0            a  b  c  d  e  .        so that all rows append at the same cache position
//! row 1            -  -  x  y  z  .        (padding 2: token x has position id 0)
//! ```

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use kernels::{BLOCK_TOKENS, BlockTables, FusedKvCache, is_fused};

use super::layer_cache::{LayerCache, RowCache};
use crate::config::LlamaConfig;
use crate::error::{Error, Result};

/// Preallocated keys and values of every layer for one batch of sequences.
///
/// Rows of unequal length are padded on the left. Padding is never attended to and does not count
/// as a position.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    /// Blocks of each row, on devices with fused kernels.
    block_tables: Option<Arc<BlockTables>>,
    padding: Vec<usize>,
    len: usize,
    capacity: usize,
}

impl KvCache {
    /// A cache with `capacity` positions per row, padding included.
    ///
    /// `padding` holds the number of left-padding tokens of each row; its length is the batch size.
    ///
    /// # Errors
    /// [`Error::SequenceTooLong`] if a row could exceed the model's context.
    pub fn new(
        config: &LlamaConfig,
        padding: Vec<usize>,
        capacity: usize,
        device: &Device,
    ) -> Result<Self> {
        let longest_sequence = capacity - padding.iter().copied().min().unwrap_or(0).min(capacity);
        if longest_sequence > config.max_positions {
            return Err(Error::SequenceTooLong {
                asked: longest_sequence,
                what: "the model's context",
                capacity: config.max_positions,
            });
        }
        Ok(Self::with_unchecked_capacity(config, padding, capacity, device))
    }

    /// As [`new`](Self::new), for a caller that stops each row at the model's context itself.
    ///
    /// A short prompt in a batch with a long one starts at a later cache position, so its last
    /// position may exceed the context length of a single row.
    pub(crate) fn with_unchecked_capacity(
        config: &LlamaConfig,
        padding: Vec<usize>,
        capacity: usize,
        device: &Device,
    ) -> Self {
        let batch = padding.len();
        let blocks_of_row = capacity.div_ceil(BLOCK_TOKENS);
        let fused = is_fused(device);
        let layer = |_| {
            if fused {
                let dims = config.attention_dims();
                LayerCache::Fused(FusedKvCache::new(dims, batch * blocks_of_row))
            } else {
                let shape = [batch, config.n_kv_heads, capacity, config.head_dim];
                LayerCache::Rows(RowCache::new(shape, device))
            }
        };
        let layers = (0..config.n_layers).map(layer).collect();
        let block_tables = fused.then(|| {
            let mut tables = BlockTables::default();
            for row in 0..batch {
                let blocks = row * blocks_of_row..(row + 1) * blocks_of_row;
                tables.push(&blocks.map(|block| block as u32).collect::<Vec<_>>());
            }
            Arc::new(tables)
        });
        Self { layers, block_tables, padding, len: 0, capacity }
    }

    /// Cache positions in use, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token has been cached yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Cache positions per row.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Number of left-padding tokens of each row.
    pub fn padding(&self) -> &[usize] {
        &self.padding
    }

    /// Blocks of each row, on devices with fused kernels.
    pub(crate) fn block_tables(&self) -> Option<Arc<BlockTables>> {
        self.block_tables.clone()
    }

    pub(crate) fn layer_mut(&mut self, index: usize) -> &mut LayerCache {
        &mut self.layers[index]
    }

    pub(crate) fn advance(&mut self, seq: usize) {
        self.len += seq;
    }
}
