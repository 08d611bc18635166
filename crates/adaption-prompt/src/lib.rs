//! LLaMA-Adapter on Burn: gated prompts in the upper layers of a frozen Llama.
//!
//! ```text
//! AdaptionPromptConfig ─init─► AdaptionPrompt ─project─► ProjectedPrompts ─► Llama::forward
//!                                │      ▲
//!                              save    load      PEFT's folder
//! ```
//!
//! The base model is never touched: it lives on a plain device, the adapter on an autodiff device,
//! and only the adapter can have gradients.
//!
//! ```
//! use adaption_prompt::AdaptionPromptConfig;
//! use llama::{LlamaConfig, NoAdapter, RopeConfig, RopeScaling, weights};
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
//! let config = AdaptionPromptConfig { adapter_len: 4, adapter_layers: 2, ..Default::default() };
//! let tokens = llama.tokens(&[vec![1, 2, 3]])?;
//!
//! // The gates start at zero: a fresh adapter changes nothing.
//! let fresh = config.init(llama.config(), 0, &device)?;
//! let base = llama.forward(tokens.clone(), None, &NoAdapter)?;
//! let adapted = llama.forward(tokens.clone(), None, &fresh.project(&llama))?;
//! assert_eq!(adapted.into_data(), base.into_data());
//!
//! // On an autodiff device it learns, its gates first.
//! let learning = config.init(llama.config(), 0, &device.autodiff())?;
//! let gradients = llama.forward(tokens, None, &learning.project(&llama))?.sum().backward();
//! assert!(learning.layers[0].gate.val().grad(&gradients).is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adapter;
mod config;
mod error;
pub mod peft;
mod projected;
mod summary;

pub use adapter::{AdaptionPrompt, LayerPrompt};
pub use config::{Activation, AdaptionPromptConfig, Gate, Init};
pub use error::{Error, Result};
pub use projected::ProjectedPrompts;
pub use summary::{AdapterSummary, LayerSummary};
