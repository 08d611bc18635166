//! Serving of one frozen model with many adapters.
//!
//! ```text
//! GenerationRequest ─► EngineHandle ─► Engine ─► Event, Event, ... ─► Generation
//!                                        │
//!                      one batch of many requests over one base model,
//!                      each with its own adapter, sampling and stop rules
//! ```
//!
//! [`engine`] is the whole of it for a program that generates: no HTTP, no runtime, no output.

pub mod engine;
mod error;

pub use diagnostic::{Advice, Diagnostic};
pub use engine::{
    AdapterChoice, AdapterInfo, AdapterLocation, AdapterSource, Answer, CacheSize, ChoiceAnswer,
    Engine, EngineConfig, EngineHandle, EngineModel, EngineState, EngineStats, Event, Generation,
    GenerationRequest, ImageEncoders, ImageInput, ModelInfo, Observer, PrefillChunk, Token,
};
pub use error::{LoadError, RequestError, StartError, SubmitError};
