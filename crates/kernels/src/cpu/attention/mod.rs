//! Causal grouped-query attention of a packed batch, and gated attention to a prompt, in one pass
//! that never holds all scores.
//!
//! ```text
//! qkv ─► rotate ─┬─► keys, values ─► cache, or a workspace
//!                │         │
//!                └─► q ─► softmax(q · K) V ──────────► + ─► out
//!                    │                                 ▲
//!                    └─► softmax(q · Kp) Vp ─► × gate ─┘
//! ```
//!
//! Scores are computed for a block of queries and a block of keys at a time; the softmax carries
//! its maximum and its denominator from block to block (arXiv 2205.14135). Query heads that share
//! keys are rows of one matmul.
//!
//! Files:
//! - forward pass: `forward`; prefill in blocks of queries, `query_block`; decode of one token per
//!   sequence, `decode`
//! - backward pass: `backward`; parts of a task, `kv_chunk`, `query_gradients`, `prompt_backward`; sums
//!   over tasks, `reduce`
//! - arguments and their division: `inputs`, `shape_checks`, `mask`, `group_shape`, `kv_span`,
//!   `chunking`
//! - operations on blocks: `softmax`, `rotary`, `key_panels`, `matmul`, `small_batch`, `buffers`
//!
//! Every task has its own sums, which are added in a fixed order: results do not depend on the
//! number of threads.

mod backward;
mod buffers;
mod chunking;
mod decode;
mod forward;
mod group_shape;
mod inputs;
mod key_panels;
mod kv_chunk;
mod kv_span;
mod mask;
mod matmul;
mod prompt_backward;
mod query_block;
mod query_gradients;
mod reduce;
mod rotary;
mod shape_checks;
mod small_batch;
mod softmax;
#[cfg(test)]
mod tests;

pub use backward::backward;
pub use forward::forward;
pub use inputs::{
    AttentionDims, AttentionInputs, KvCacheView, PromptGradients, PromptView, Rotation, Sequence,
};
