//! OpenAI's API without HTTP: bodies of requests ─► [`Service`] ─► [`Reply`] ─► bodies of responses
//!
//! ```text
//! body ─► fields ─► messages, image ─► prompt template ─► tokens ┐
//!            └────► sampling, stop rules ────────────────────────┴─► Engine ─► events ─► Reply
//! ```
//!
//! The fields are those of OpenAI's reference, and vLLM's for sampling. A field whose feature is not built is
//! an error if it asks for anything; an unknown field is ignored.

mod batch;
mod chat;
mod completion;
mod content;
mod error;
mod fields;
mod limits;
mod logprobs;
mod models;
mod parameters;
mod prompts;
mod reply;
mod service;
mod values;

pub use batch::{BatchError, BatchRequest, BatchResponse, HttpResponse, answer_batch};
pub use error::ApiError;
pub use limits::RequestLimits;
pub use reply::Reply;
pub use service::{PromptTemplates, Service, ServiceOptions};
