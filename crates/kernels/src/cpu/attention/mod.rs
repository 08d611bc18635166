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
//!   sequence, `decode`; sums of both, `online_softmax`, `outputs`
//! - backward pass: `backward`; parts of a task, `kv_chunk`, `query_gradients`, `prompt_backward`; sums
//!   over tasks, `reduce`
//! - arguments and their division: `inputs`, `prompts`, `packed_prompts`, `shape_checks`, `mask`,
//!   `group_shape`, `block_tables`, `kv_span`, `chunking`
//! - operations on blocks: `softmax`, `rotary`, `key_panels`, `matmul`, `small_batch`, `buffers`
//!
//! Every task has its own sums, which are added in a fixed order: results do not depend on the
//! number of threads. The output of a token does not depend on the other tokens of the pass either,
//! nor on how its sequence is divided into passes, blocks, or prefill and decode.

mod backward;
mod block_tables;
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
mod online_softmax;
mod outputs;
mod packed_prompts;
mod prompt_backward;
mod prompts;
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
pub use block_tables::BlockTables;
pub use forward::forward;
pub use inputs::{AttentionDims, AttentionInputs, KvCacheView, Rotation, Sequence};
pub use outputs::AttentionOutputs;
pub use packed_prompts::{PackedPrompt, PromptTable};
pub use prompts::{PromptGradients, PromptView, Prompts};
