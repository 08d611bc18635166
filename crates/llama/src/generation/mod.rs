//! Generation: prompts ─► prefill ─► sample ─► decode one token per sequence ─► sample ─► ...
//!
//! [`generate`] continues a batch of prompts to the end. [`Generator`] is an iterator over the steps of a
//! batch, [`TextGenerator`] one over the text of a single prompt.

mod generator;
mod output;
mod request;
mod text_generator;

pub use generator::{Generator, generate};
pub use output::{Completion, FinishReason, StepOutput};
pub use request::{GenerationConfig, Request};
pub use text_generator::TextGenerator;
