//! A frozen Llama on Burn: weights, attention, cache, tokenizer, generation.
//!
//! Knows nothing of adapters but one seam, [`Adapter`].

pub mod attention;
mod config;
mod error;
mod feed_forward;
pub mod files;
pub mod gguf;
mod layer;
mod linear;
mod model;
mod norm;
mod rotary;
mod seam;
mod state;
mod tokenizer;
pub mod weights;

pub use attention::PromptKv;
pub use config::{LlamaConfig, RopeConfig, RopeScaling};
pub use error::{Error, Result};
pub use model::Llama;
pub use seam::{Adapter, LinearName, NoAdapter, NormName};
pub use state::DecodingState;
pub use tokenizer::Tokenizer;
