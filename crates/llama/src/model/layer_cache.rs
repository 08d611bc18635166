//! Keys and values of one layer, in the layouts of all caches.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};
use kernels::{BLOCK_TOKENS, FusedKvCache};

/// Keys and values of one layer.
#[derive(Debug, Clone)]
pub(crate) enum LayerCache {
    /// In blocks, for the fused attention kernel.
    Fused(FusedKvCache),
    /// In the rows of a batch, as tensors.
    Rows(RowCache),
    /// In blocks, as tensors.
    Blocks(TensorBlocks),
}

/// Keys and values of the rows of a batch, `[batch, kv_heads, capacity, head_dim]`.
#[derive(Debug, Clone)]
pub(crate) struct RowCache {
    key: Tensor<4>,
    value: Tensor<4>,
}

/// Keys and values in blocks, `[slots, kv_heads, head_dim]`: slot `i` of block `b` is
/// `b * BLOCK_TOKENS + i`. Two more slots follow the blocks.
#[derive(Debug, Clone)]
pub(crate) struct TensorBlocks {
    key: Tensor<3>,
    value: Tensor<3>,
}

impl RowCache {
    /// A cache of this shape, all zeros.
    pub(crate) fn new(shape: [usize; 4], device: &Device) -> Self {
        Self { key: Tensor::zeros(shape, device), value: Tensor::zeros(shape, device) }
    }

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

impl TensorBlocks {
    /// Blocks of zeros.
    pub(crate) fn new(blocks: usize, kv_heads: usize, head_dim: usize, device: &Device) -> Self {
        let zeros = || Tensor::zeros([blocks * BLOCK_TOKENS + 2, kv_heads, head_dim], device);
        Self { key: zeros(), value: zeros() }
    }

    /// The slot after all blocks, which is never written and always zero. What a mask hides is read from
    /// here: a NaN that another sequence left in a free slot would pass the mask.
    pub(crate) fn zero_slot(blocks: usize) -> usize {
        blocks * BLOCK_TOKENS
    }

    /// The slot that padding is written to.
    pub(crate) fn scratch_slot(blocks: usize) -> usize {
        blocks * BLOCK_TOKENS + 1
    }

    /// Writes keys and values of new tokens.
    ///
    /// # Shapes
    /// - `slots`: `[batch * seq]`, the slot of each token
    /// - `key`, `value`: `[batch, kv_heads, seq, head_dim]`
    pub(crate) fn write(&mut self, slots: &Tensor<1, Int>, key: Tensor<4>, value: Tensor<4>) {
        for (cache, new) in [(&mut self.key, key), (&mut self.value, value)] {
            let [batch, kv_heads, seq, head_dim] = new.dims();
            let new = new.swap_dims(1, 2).reshape([batch * seq, kv_heads, head_dim]);
            // In place: the closure holds the only handle during the assignment.
            cache.inplace(|cache| {
                cache.select_assign(0, slots.clone(), new, IndexingUpdateOp::Assign)
            });
        }
    }

    /// Keys and values of the given slots, `[sequences, kv_heads, total, head_dim]`.
    ///
    /// # Shapes
    /// - `slots`: `[sequences * total]`
    pub(crate) fn read(&self, slots: &Tensor<1, Int>, sequences: usize) -> (Tensor<4>, Tensor<4>) {
        let read = |cache: &Tensor<3>| {
            let [_slots, kv_heads, head_dim] = cache.dims();
            let read = cache.clone().select(0, slots.clone());
            let [n, _kv_heads, _head_dim] = read.dims();
            read.reshape([sequences, n / sequences, kv_heads, head_dim]).swap_dims(1, 2)
        };
        (read(&self.key), read(&self.value))
    }
}
