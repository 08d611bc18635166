//! Token sampling: logits ─► bias, penalties ─► temperature ─► top-k ─► top-p ─► min-p ─► token.
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
//! few numbers per row instead of the whole vocabulary. [`sample_rows`] samples rows that come and go, with
//! log-probabilities where they are wanted. What a row samples depends on its own seed and logits only, not
//! on the rest of its batch.

mod batch_penalty;
mod batch_sampler;
mod candidates;
mod config;
mod logprobs;
mod penalties;
mod sample_rows;
mod sampler;
mod top_candidates;

pub use batch_sampler::BatchSampler;
pub use config::SamplingConfig;
pub use logprobs::Logprobs;
pub use sample_rows::{RowSampling, RowToken, sample_rows};
pub use sampler::{Choice, Sampler};
