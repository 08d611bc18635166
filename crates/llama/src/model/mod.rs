//! The model: one forward pass for all families.
//!
//! ```text
//! tokens ─► embedding ─► layers ─► norm ─► hidden ─► head ─► logits
//!                          │
//!      norm ─► attention ─► + ─► norm ─► feed-forward ─► +
//! ```
//!
//! [`Llama::forward`] runs a batch of whole or continued sequences, [`Llama::forward_from`] whole ones of
//! any lengths that [`Llama::pack`] packs, and [`Llama::forward_paged`] parts of sequences whose keys and
//! values are in blocks.
//!
//! The residual stream, norms and softmax are always f32; [`Weight`] is a matrix in the model's
//! precision. All tensors of a [`Llama`] are on a device without autodiff: a plain tensor in a graph is
//! a constant, so no weight can have a gradient, and layers below the first adapted one build no graph.

mod activation;
mod adapter_hooks;
mod attention;
mod block_cache;
mod block_plan;
mod causal_mask;
mod feed_forward;
mod forward;
mod forward_context;
mod forward_paged;
mod kv_cache;
mod layer;
mod layer_cache;
mod linear;
mod llama;
mod norm;
mod pack;
mod packed_batch;
mod prompt_table;
mod rotary;
mod unfused_attention;
mod weight;

pub use activation::gelu;
pub use adapter_hooks::{Adapter, NoAdapter};
pub use attention::{Attention, PromptKv};
pub use block_cache::BlockCache;
pub use feed_forward::FeedForward;
pub use forward_context::ForwardContext;
pub use forward_paged::{FixedShape, PagedOutput, PagedSequence};
pub use kv_cache::KvCache;
pub use layer::Layer;
pub use linear::Linear;
pub use llama::Llama;
pub use norm::{Norm, NormName, NormWeights};
pub use packed_batch::{PackedBatch, PrefixSharing};
pub use weight::Weight;
