//! LLaMA-Adapter on Burn: gated prompts in the upper layers of a frozen Llama.
//!
//! ```text
//! AdapterConfig ─init─► AdapterWeights ─prepare─► PreparedAdapter ─┬─► Llama::forward
//!                         │      ▲      AdapterMix ─► weighted sum │
//!                       save    load    RowAdapters ─► one per row │
//!                     files of many     PackedAdapters, the same ──┤
//!                        formats        AdapterSet ─► by name ─────┘
//! ```
//!
//! An adapter consists of [`parts`]: the adaption prompt, Adapter V2, LoRA, an image condition. The base model
//! is never modified: it is on a plain device, the adapter on an autodiff device, and only the adapter has
//! gradients. With an image condition, [`AdapterWeights::prepare_with_images`] takes the features of a frozen
//! image encoder (crate `vision`).
//!
//! ```
//! use adaption_prompt::{AdaptedLayers, AdapterConfig, AdaptionPromptConfig};
//! use llama::config::{RopeConfig, RopeScaling};
//! use llama::{LlamaConfig, NoAdapter, weights};
//!
//! let device = device::parse("flex")?;
//! let config = LlamaConfig {
//!     n_layers: 3, n_heads: 4, n_kv_heads: 2, head_dim: 8, d_model: 32, d_ff: 48,
//!     vocab_size: 128, max_positions: 64, norm_eps: 1e-5,
//!     rope: RopeConfig { theta: 10_000.0, scaling: RopeScaling::None },
//!     tied_head: true, ..LlamaConfig::default()
//! };
//! let llama = weights::random_init(config, &device)?;
//!
//! let layers = AdaptedLayers::Last(2);
//! let config: AdapterConfig =
//!     AdaptionPromptConfig { adapter_len: 4, layers, ..Default::default() }.into();
//! let tokens = llama.tokens(&[vec![1, 2, 3]])?;
//!
//! // The gates start at zero: a fresh adapter equals the base model.
//! let fresh = config.init(&llama, 0, &device)?;
//! let base = llama.forward(tokens.clone(), None, &NoAdapter)?;
//! let adapted = llama.forward(tokens.clone(), None, &fresh.prepare(&llama))?;
//! assert_eq!(adapted.into_data(), base.into_data());
//!
//! // On an autodiff device it can be trained. The gates have gradients first.
//! let trainable = config.init(&llama, 0, &device.autodiff())?;
//! let gradients = llama.forward(tokens, None, &trainable.prepare(&llama))?.sum().backward();
//! assert!(trainable.prompts.unwrap().layers[0].gate.val().grad(&gradients).is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Config structs and [`AdapterData`] are not `#[non_exhaustive]`: programs build them by literal, with
//! `..Default::default()`.

mod adapted_layers;
mod adapter;
mod base;
mod error;
pub mod files;
// Public for the target in `fuzz/` and the tests of malformed files only.
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod image_features;
mod packed_prompts;
mod param;
mod part;
pub mod parts;
mod projected_prompts;
mod tensors;
#[cfg(test)]
mod test_adapter;

pub use adapted_layers::AdaptedLayers;
pub use adapter::config::AdapterConfig;
pub use adapter::data::AdapterData;
pub use adapter::mix::{AdapterMix, AnyAdapter, MixComponent};
pub use adapter::packed_adapters::PackedAdapters;
pub use adapter::prepared::PreparedAdapter;
pub use adapter::row_adapters::RowAdapters;
pub use adapter::set::{AdapterSet, AdapterStatus};
pub use adapter::summary::AdapterSummary;
pub use adapter::weights::AdapterWeights;
pub use base::BaseInfo;
pub use diagnostic::{Advice, Diagnostic};
pub use error::{Error, Result};
pub use gate::{Gate, GateActivation, LayerGates};
pub use image_features::{ImageBatch, ImageFeatures};
pub use parts::{
    AdaptionPrompt, AdaptionPromptConfig, ImageConfig, ImageFusion, ImageProjectorConfig,
    LoraConfig, PartKind, PromptInit, PromptProjection, V2Config, V2Scale,
};
