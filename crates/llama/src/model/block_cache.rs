//! KV cache in blocks that a caller hands out to sequences as they grow.
//!
//! ```text
//! block          0          1          2          3
//! tokens      a b c d    x y . .    e f g .    free        blocks of 32 tokens, here of 4
//!
//! sequence a..g: blocks 0, 2       sequence x..: block 1
//! ```
//!
//! Sequences may share blocks of a common beginning. Which block belongs to whom, and when it is free again,
//! is the caller's business: a cache is nothing but memory.

use burn::tensor::Device;
use kernels::{BLOCK_TOKENS, FusedKvCache, is_fused};

use super::layer_cache::{LayerCache, TensorBlocks};
use crate::config::LlamaConfig;

/// Keys and values of all layers in blocks, for [`Llama::forward_paged`](super::Llama::forward_paged).
#[derive(Debug, Clone)]
pub struct BlockCache {
    layers: Vec<LayerCache>,
    blocks: usize,
}

impl BlockCache {
    /// Tokens of a block.
    pub const BLOCK_TOKENS: usize = BLOCK_TOKENS;

    /// A cache of this many blocks.
    pub fn new(config: &LlamaConfig, blocks: usize, device: &Device) -> Self {
        let layer = |_| {
            if is_fused(device) {
                LayerCache::Fused(FusedKvCache::new(config.attention_dims(), blocks))
            } else {
                let LlamaConfig { n_kv_heads, head_dim, .. } = *config;
                LayerCache::Blocks(TensorBlocks::new(blocks, n_kv_heads, head_dim, device))
            }
        };
        Self { layers: (0..config.n_layers).map(layer).collect(), blocks }
    }

    /// Bytes of a block, in all layers together.
    pub fn block_bytes(config: &LlamaConfig) -> usize {
        config.n_layers * FusedKvCache::block_bytes(config.attention_dims())
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    pub(super) fn layer_mut(&mut self, index: usize) -> &mut LayerCache {
        &mut self.layers[index]
    }
}
