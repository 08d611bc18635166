//! A frozen Llama on Burn: weights, attention, cache, tokenizer, generation.
//!
//! ```text
//! folder, .gguf, bytes ─► ModelSource ─┬─► Llama ── forward(tokens, state, adapter) ─► hidden ─► logits
//!                                      └─► Tokenizer, ChatTemplate        │
//! prompts ─► Generator ─► Step ─► TextStream ─► text          KvCache, the caller's
//! ```
//!
//! One forward serves every family of models; [`architecture`] knows how they differ.
//!
//! The model holds weights and nothing else. What it has read is in a [`KvCache`] of the
//! caller's; what joins it is an [`Adapter`], a value handed to [`Llama::forward`]: the one seam,
//! and all that this crate knows of adapters.
//!
//! ```
//! use llama::{GenerationConfig, ModelSource, NoAdapter, Precision, generate};
//!
//! # fn main() -> llama::Result<()> {
//! # let folder = testing::golden_folder().join("../../assets/tiny-llama");
//! # let device = testing::flex();
//! let source = ModelSource::open(folder)?;
//! let llama = source.load(Precision::F32, &device)?;
//! let tokenizer = source.tokenizer()?;
//!
//! let prompts = [tokenizer.encode("The plural of cow is")?];
//! let config = GenerationConfig { max_new_tokens: 4, ..GenerationConfig::new(&tokenizer) };
//! let answers = generate(&llama, &NoAdapter, &prompts, &config)?;
//! assert!(tokenizer.decode(&answers[0].tokens)?.starts_with(" cows"));
//! # Ok(())
//! # }
//! ```

pub mod architecture;
pub mod attention;
mod choose;
mod config;
mod draw;
mod error;
mod feed_forward;
mod fingerprint;
#[doc(hidden)]
pub mod fuzz;
mod generate;
mod generator;
pub mod gguf;
#[cfg(feature = "hub")]
pub mod hub;
mod laid_out;
mod layer;
mod linear;
mod model;
mod norm;
mod precision;
pub mod quantized;
mod read_back;
mod rotary;
mod sample;
mod seam;
mod shortlist;
mod source;
mod state;
mod stream;
mod weight;
pub mod weights;

pub use attention::{ForwardContext, PromptKv};
pub use choose::BatchSampler;
pub use config::{
    Architecture, BranchPoint, FeedForwardKind, LlamaConfig, NormKind, PositionEmbedding,
    RopeConfig, RopeScaling,
};
pub use diagnostic::{Advice, Diagnostic};
pub use error::{Error, Result};
pub use feed_forward::gelu;
pub use fingerprint::{Fingerprint, ModelShape};
pub use generate::{Completion, FinishReason, GenerationConfig, Request, StepOutput};
pub use generator::{Generator, generate};
pub use kernels::GatedPrompt;
pub use laid_out::{PackedBatch, PrefixSharing};
pub use layer::Layer;
pub use linear::Linear;
pub use model::Llama;
pub use norm::{Norm, NormName, NormWeights};
pub use precision::{Precision, UnknownPrecision};
pub use read_back::{read_back, read_back_bytes, read_back_count};
pub use sample::{Sampler, SamplingConfig};
pub use seam::{Adapter, LinearName, NoAdapter};
pub use source::ModelSource;
pub use state::KvCache;
pub use stream::TextGenerator;
pub use weight::Weight;
