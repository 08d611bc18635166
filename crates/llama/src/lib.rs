//! A frozen Llama on Burn: weights, attention, cache, tokenizer, generation.
//!
//! Knows nothing of adapters but one seam, [`Adapter`].

pub mod attention;
mod chat_template;
mod config;
mod detokenizer;
mod error;
mod feed_forward;
pub mod files;
mod generate;
pub mod gguf;
#[cfg(feature = "hub")]
pub mod hub;
mod layer;
mod linear;
mod model;
mod norm;
mod rotary;
mod sample;
mod seam;
mod source;
mod state;
mod stop_strings;
mod stream;
mod strftime;
mod tokenizer;
pub mod weights;

pub use attention::PromptKv;
pub use chat_template::{ChatTemplate, Message};
pub use config::{LlamaConfig, RopeConfig, RopeScaling};
pub use detokenizer::Detokenizer;
pub use error::{Error, Result};
pub use generate::{
    Completion, FinishReason, GenerationConfig, Generator, Request, Step, generate,
};
pub use model::Llama;
pub use sample::{Sampler, SamplingConfig};
pub use seam::{Adapter, LinearName, NoAdapter, NormName};
pub use source::ModelSource;
pub use state::DecodingState;
pub use stop_strings::StopStrings;
pub use stream::{TextGenerator, TextStream};
pub use tokenizer::Tokenizer;
