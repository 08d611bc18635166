//! Attention of tensor operations that every device has.

use burn::tensor::{Bool, Tensor, module::attention, ops::AttentionModuleOptions};

/// Softmax attention in f32; each key and value head serves a group of query heads.
///
/// # Shapes
/// - `query` and output: `[batch, heads, seq, head_dim]`
/// - `key`, `value`: `[batch, kv_heads, past + seq, head_dim]`
/// - `mask`: `[batch or 1, 1, seq, past + seq]`, true where attention is masked; `None`: plain causal
pub(super) fn grouped_query_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let [batch, heads, seq, head_dim] = query.dims();
    let [_batch, kv_heads, total, _head_dim] = key.dims();
    let group = heads / kv_heads;
    let options = |is_causal| AttentionModuleOptions { scale: None, softcap: None, is_causal };
    if seq == 1 {
        // One new token attends to all positions: the query heads of a group become rows of one
        // matmul, and the cache is read without a copy.
        let query = query.reshape([batch, kv_heads, group, head_dim]);
        let mask = mask.map(|mask| {
            let [mask_batch, _, _, _] = mask.dims();
            let mask: Tensor<4, Bool> = mask.expand([mask_batch, 1, group, total]);
            mask.expand([batch, kv_heads, group, total])
        });
        return attention(query, key, value, mask, None, options(false))
            .reshape([batch, heads, seq, head_dim]);
    }
    let repeat = |shared: Tensor<4>| {
        if group == 1 {
            return shared;
        }
        shared
            .unsqueeze_dim::<5>(2)
            .expand([batch, kv_heads, group, total, head_dim])
            .reshape([batch, heads, total, head_dim])
    };
    let is_causal = mask.is_none();
    let mask = mask.map(|mask| mask.expand([batch, heads, seq, total]));
    attention(query, repeat(key), repeat(value), mask, None, options(is_causal))
}
