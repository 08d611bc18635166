//! Token sampling: logits ─► repetition penalty ─► temperature ─► top-k ─► top-p ─► token.
//!
//! ```text
//! host      logits ─► Sampler ─► token
//!
//! device    logits ─► repetition penalty ─► top-k candidates ─┐
//! host                                                        └─► one read-back ─► Sampler of each row ─► tokens
//! ```
//!
//! [`Sampler`] holds the settings and random numbers of one row and samples from logits on the host.
//! [`BatchSampler`] samples the same tokens for a batch whose logits are on a device, and reads back a
//! few numbers per row instead of the whole vocabulary. What a row samples depends on its own seed and
//! logits only, not on the rest of its batch.

mod batch_sampler;
mod candidates;
mod repetition_penalty;
mod sampler;
mod top_candidates;

pub use batch_sampler::BatchSampler;
pub use sampler::{Sampler, SamplingConfig};
