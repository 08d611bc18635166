//! LLaMA-Adapter on Burn: gated prompts in the upper layers of a frozen Llama.
//!
//! ```text
//! AdapterConfig ─init─► AdapterWeights ─prepare─► Prepared ─────┬─► Llama::forward
//!                         │      ▲         Mix ─► several of them │
//!                       save    load       RowAdapters ─► one a row of a batch
//!                    PEFT's folder         Adapters ─► by name
//! ```
//!
//! An adapter with an [`ImageCondition`] sees pictures: [`AdapterWeights::prepare_with_images`] takes the
//! features that a frozen encoder (crate `vision`) gives of them.
//!
//! The base model is never touched: it lives on a plain device, the adapter on an autodiff device,
//! and only the adapter can have gradients.
//!
//! ```
//! use adaption_prompt::{AdapterConfig, AdaptionPromptConfig, Layers};
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
//! let llama = weights::random(config, &device)?;
//!
//! let config: AdapterConfig =
//!     AdaptionPromptConfig { adapter_len: 4, layers: Layers::Last(2), ..Default::default() }.into();
//! let tokens = llama.tokens(&[vec![1, 2, 3]])?;
//!
//! // The gates start at zero: a fresh adapter changes nothing.
//! let fresh = config.init(&llama, 0, &device)?;
//! let base = llama.forward(tokens.clone(), None, &NoAdapter)?;
//! let adapted = llama.forward(tokens.clone(), None, &fresh.prepare(&llama))?;
//! assert_eq!(adapted.into_data(), base.into_data());
//!
//! // On an autodiff device it learns, its gates first.
//! let learning = config.init(&llama, 0, &device.autodiff())?;
//! let gradients = llama.forward(tokens, None, &learning.prepare(&llama))?.sum().backward();
//! assert!(learning.prompts.unwrap().layers[0].gate.val().grad(&gradients).is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adapter;
mod adapters;
mod config;
mod convert;
mod data;
mod error;
pub mod files;
pub mod fuzz;
mod image;
mod layers;
mod lora;
mod mix;
mod prepared;
mod projected;
mod rows;
mod summary;
mod v2;
mod weights;

pub use adapter::{AdaptionPrompt, LayerPrompt};
pub use adapters::{AdapterSet, AdapterStatus};
pub use config::{
    AdapterConfig, AdaptionPromptConfig, Gate, GateActivation, PromptInit, PromptProjection,
};
pub use data::{
    AdapterData, BaseInfo, ImageData, LoraData, LoraPairData, PromptData, PromptLayerData, V2Data,
    V2LinearData, V2NormData,
};
pub use diagnostic::{Advice, Diagnostic};
pub use error::{Error, Result};
pub use image::{
    GlobalProjector, ImageBatch, ImageCondition, ImageConfig, ImageFeatures, ImageFusion,
    ImageProjector, ImageProjectorConfig, QueryProjector,
};
pub use layers::AdaptedLayers;
pub use lora::{Lora, LoraConfig, LoraLayer, LoraPair};
pub use mix::{AdapterMix, AnyAdapter, MixComponent};
pub use prepared::PreparedAdapter;
pub use rows::RowAdapters;
pub use summary::{AdapterSummary, LoraSummary, PromptLayerSummary, PromptSummary, V2Summary};
pub use v2::{AdapterV2, V2Config, V2Layer, V2Linear, V2Norm, V2Scale};
pub use weights::AdapterWeights;
