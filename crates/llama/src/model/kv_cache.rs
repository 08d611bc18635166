//! KV cache: keys and values of past tokens, owned by the caller.
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

use crate::config::LlamaConfig;
use crate::error::{Error, Result};

/// Preallocated keys and values of every layer for one batch of sequences.
///
/// Rows of unequal length are padded on the left. Padding is never attended to and does not count
/// as a position.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    /// The blocks of each row in a fused cache.
    block_tables: Option<Arc<BlockTables>>,
    padding: Vec<usize>,
    len: usize,
    capacity: usize,
}

/// Keys and values of one layer.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "tensor handles; a cache has one per layer")]
pub(crate) enum LayerCache {
    /// In the layout of the fused attention kernel.
    Fused(FusedKvCache),
    /// As tensors.
    Unfused(UnfusedCache),
}

/// Keys and values of one layer, `[batch, kv_heads, capacity, head_dim]`.
#[derive(Debug, Clone)]
pub(crate) struct UnfusedCache {
    key: Tensor<4>,
    value: Tensor<4>,
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
        let shape = [padding.len(), config.n_kv_heads, capacity, config.head_dim];
        let row_blocks = capacity.div_ceil(BLOCK_TOKENS);
        let layer = |_| {
            if is_fused(device) {
                let dims = config.attention_dims();
                LayerCache::Fused(FusedKvCache::new(dims, padding.len() * row_blocks))
            } else {
                let zeros = || Tensor::zeros(shape, device);
                LayerCache::Unfused(UnfusedCache { key: zeros(), value: zeros() })
            }
        };
        let layers = (0..config.n_layers).map(layer).collect();
        let block_tables = is_fused(device).then(|| {
            let mut tables = BlockTables::new();
            for row in 0..padding.len() {
                let first = row * row_blocks;
                let blocks = (first..first + row_blocks).map(|block| block as u32);
                tables.push(&blocks.collect::<Vec<_>>());
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

    /// The blocks of each row in a fused cache.
    pub(crate) fn block_tables(&self) -> Option<Arc<BlockTables>> {
        self.block_tables.clone()
    }

    /// A layer's cache and the number of cache positions in use.
    pub(crate) fn layer_mut(&mut self, index: usize) -> (&mut LayerCache, usize) {
        (&mut self.layers[index], self.len)
    }

    pub(crate) fn advance(&mut self, seq: usize) {
        self.len += seq;
    }
}

impl UnfusedCache {
    /// Writes keys and values of new tokens after the first `past` positions and returns all keys
    /// and values up to the last new one.
    pub(crate) fn append(
        &mut self,
        past: usize,
        key: Tensor<4>,
        value: Tensor<4>,
    ) -> (Tensor<4>, Tensor<4>) {
        let [_batch, _kv_heads, seq, _head_dim] = key.dims();
        let write = |cache: &mut Tensor<4>, new: Tensor<4>| {
            // In place: the closure holds the only handle during the assignment.
            cache.inplace(|cache| {
                let [batch, kv_heads, _capacity, head_dim] = cache.dims();
                cache.slice_assign([0..batch, 0..kv_heads, past..past + seq, 0..head_dim], new)
            });
            cache.clone().narrow(2, 0, past + seq)
        };
        (write(&mut self.key, key), write(&mut self.value, value))
    }
}
