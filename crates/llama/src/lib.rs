//! Frozen Llama-like models on [Burn](burn): loading from every common file format, one forward pass with
//! hooks for adapters, KV cache, sampling and generation.
//!
//! ```text
//! folder, .gguf, bytes ─► ModelSource ─┬─► Llama ── forward(tokens, cache, adapter) ─► hidden ─► logits
//!                                      └─► Tokenizer, ChatTemplate      │
//! prompts ─► Generator ─► StepOutput ─► TextStream ─► text           KvCache, owned by the caller
//! ```
//!
//! - [`ModelSource`] opens a model and loads its weights in a [`Precision`].
//! - [`Llama`] holds weights only. One forward pass serves all families of models; [`architecture`] lists
//!   them.
//! - [`KvCache`] holds keys and values of past tokens, and belongs to the caller. [`BlockCache`] holds those
//!   of sequences that come and go, in blocks that the caller hands out ([`Llama::forward_paged`]).
//! - [`Adapter`] is what can change the forward pass of a frozen model: an argument of [`Llama::forward`].
//!   This crate knows nothing else of adapters.
//! - [`generate`], [`Generator`] and [`TextGenerator`] decode batches or stream text.
//!
//! The root has the types that most programs need; [`model`], [`config`], [`weights`], [`sampling`] and the
//! other modules have the rest.
//!
//! ```
//! use llama::{GenerationConfig, ModelSource, NoAdapter, Precision, generate};
//!
//! # fn main() -> llama::Result<()> {
//! # let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
//! # let device = testing::flex();
//! let source = ModelSource::open(folder)?;
//! let llama = source.load(Precision::F32, &device)?;
//! let tokenizer = source.tokenizer()?;
//!
//! let prompts = [tokenizer.encode("The plural of cow is")?];
//! let config = GenerationConfig { max_new_tokens: 4, ..GenerationConfig::new(&tokenizer) };
//! let completions = generate(&llama, &NoAdapter, &prompts, &config)?;
//! assert!(tokenizer.decode(&completions[0].tokens)?.starts_with(" cows"));
//! # Ok(())
//! # }
//! ```

pub mod architecture;
pub mod config;
mod error;
pub mod fingerprint;
#[doc(hidden)]
pub mod fuzz;
pub mod generation;
pub mod gguf;
#[cfg(feature = "hub")]
pub mod hub;
pub mod model;
mod model_source;
mod precision;
pub mod quantized;
pub mod read_back;
pub mod sampling;
pub mod weights;

pub use config::{LinearName, LlamaConfig};
pub use diagnostic::{Advice, Diagnostic};
pub use error::{Error, Result};
pub use generation::{
    Completion, FinishReason, GenerationConfig, Generator, Request, StepOutput, TextGenerator,
    generate,
};
pub use kernels::{GatedPrompt, PackedPrompt, PromptTable};
pub use model::{Adapter, BlockCache, KvCache, Llama, NoAdapter};
pub use model_source::ModelSource;
pub use precision::{Precision, UnknownPrecision};
pub use read_back::read_back;
pub use sampling::SamplingConfig;
