//! What a caller keeps between the steps of decoding: the keys and values seen so far.

use burn::tensor::{Device, Tensor};
use kernels::{FusedKvCache, is_fused};

use crate::config::LlamaConfig;
use crate::error::{Error, Result};

/// Keys and values of every layer for one batch of sequences, preallocated.
///
/// Rows of unequal length are padded on the left; a row's padding is never attended to and does
/// not count as a position. The model itself keeps nothing: dropping the state forgets the text.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    padding: Vec<usize>,
    len: usize,
    capacity: usize,
}

/// Keys and values of one layer.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "handles of tensors; a state has one a layer")]
pub(crate) enum LayerCache {
    /// As fused attention wants them.
    Fused(FusedKvCache),
    /// As tensors.
    Plain(UnfusedCache),
}

/// Keys and values of one layer, `[batch, kv_heads, capacity, head_dim]`.
#[derive(Debug, Clone)]
pub(crate) struct UnfusedCache {
    key: Tensor<4>,
    value: Tensor<4>,
}

impl KvCache {
    /// Room for `capacity` slots a row.
    ///
    /// `padding` holds each row's number of left-padding tokens; its length is the batch.
    ///
    /// # Errors
    /// [`Error::TooLong`] if a row could pass the positions that the model was made for.
    pub fn new(
        config: &LlamaConfig,
        padding: Vec<usize>,
        capacity: usize,
        device: &Device,
    ) -> Result<Self> {
        let longest = capacity - padding.iter().copied().min().unwrap_or(0).min(capacity);
        if longest > config.max_positions {
            return Err(Error::SequenceTooLong {
                asked: longest,
                what: "the model's context",
                capacity: config.max_positions,
            });
        }
        Ok(Self::with_capacity(config, padding, capacity, device))
    }

    /// As [`new`](Self::new), for a caller that ends each row at the model's context itself.
    ///
    /// In a batch with a long prompt and a short one, the long one's end is not the short one's:
    /// the slots then go beyond what the context of a single row would allow.
    pub(crate) fn with_capacity(
        config: &LlamaConfig,
        padding: Vec<usize>,
        capacity: usize,
        device: &Device,
    ) -> Self {
        let shape = [padding.len(), config.n_kv_heads, capacity, config.head_dim];
        let layer = |_| {
            if is_fused(device) {
                LayerCache::Fused(FusedKvCache::new(config.heads(), padding.len(), capacity))
            } else {
                let zeros = || Tensor::zeros(shape, device);
                LayerCache::Plain(UnfusedCache { key: zeros(), value: zeros() })
            }
        };
        let layers = (0..config.n_layers).map(layer).collect();
        Self { layers, padding, len: 0, capacity }
    }

    /// Slots filled so far, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was seen yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Slots a row has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Left padding of each row.
    pub fn padding(&self) -> &[usize] {
        &self.padding
    }

    pub(crate) fn layer(&mut self, index: usize) -> (&mut LayerCache, usize) {
        (&mut self.layers[index], self.len)
    }

    pub(crate) fn advance(&mut self, seq: usize) {
        self.len += seq;
    }
}

impl UnfusedCache {
    /// Writes new keys and values behind the `past` ones and gives all of them.
    pub(crate) fn append(
        &mut self,
        past: usize,
        key: Tensor<4>,
        value: Tensor<4>,
    ) -> (Tensor<4>, Tensor<4>) {
        let [_batch, _kv_heads, seq, _head_dim] = key.dims();
        let write = |cache: &mut Tensor<4>, new: Tensor<4>| {
            // In place: the closure owns the only handle while it assigns.
            cache.inplace(|cache| {
                let [batch, kv_heads, _capacity, head_dim] = cache.dims();
                cache.slice_assign([0..batch, 0..kv_heads, past..past + seq, 0..head_dim], new)
            });
            cache.clone().narrow(2, 0, past + seq)
        };
        (write(&mut self.key, key), write(&mut self.value, value))
    }
}
