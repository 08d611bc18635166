//! Sizes of the kernels' panels, blocks and workspaces.
//!
//! Public for the memory planner of `train`, which derives workspace sizes from them. They are not
//! part of the API and change with the kernels.

/// Rows of a weight in one panel, and keys in one panel of a KV cache.
pub const PANEL: usize = 16;

/// Positions of a block of a KV cache.
pub const BLOCK_TOKENS: usize = 32;

/// Rows of the batch that a GEMM in bf16 processes at a time; bounds its workspace.
pub const MAX_BF16_GEMM_ROWS: usize = 1024;

/// Logits that cross-entropy holds at a time: 24 MiB in f32.
pub const MAX_LOGITS: usize = 6 << 20;

/// Rows of logits that cross-entropy holds at a time.
pub const MAX_LOGIT_ROWS: usize = 512;

/// Cache positions in a chunk of the attention backward pass, at least.
pub const MIN_ATTENTION_CHUNK: usize = 512;

/// Chunks of a sequence in the attention backward pass, at most. Each has its own partial gradient
/// of the queries.
pub const MAX_ATTENTION_CHUNKS: usize = 4;

/// Width of the heads of attention on GPUs, at most: wider ones need too many registers.
pub const MAX_GPU_HEAD_DIM: usize = 128;
