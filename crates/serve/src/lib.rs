//! Serving of one frozen model with many adapters.
//!
//! ```text
//! GenerationRequest ─► EngineHandle ─► Engine ─► Event, Event, ... ─► Generation
//!                                        │
//!                      one batch of many requests over one base model,
//!                      each with its own adapter, sampling and stop rules
//! ```
//!
//! [`engine`] is the whole of it for a program that generates: no HTTP, no runtime, no output. [`openai`] is
//! OpenAI's API over it, and `http` (a feature) serves that.

pub mod engine;
mod error;
#[cfg(feature = "http")]
pub mod http;
pub mod openai;

pub use diagnostic::{Advice, Diagnostic};
pub use engine::{
    AdapterChoice, AdapterInfo, AdapterLocation, AdapterSource, Answer, CacheSize, ChoiceAnswer,
    Engine, EngineConfig, EngineHandle, EngineModel, EngineState, EngineStats, Event, Generation,
    GenerationRequest, ImageEncoders, ImageInput, ModelInfo, Observer, PrefillChunk, Token,
};
pub use error::{LoadError, RequestError, StartError, SubmitError};
