//! The HTTP server: OpenAI's API, health, metrics, administration of adapters, and a chat page.
//!
//! ```text
//! connections ─► Server ─► id, log, metrics ─► key ─► body ─► openai::Service ─► Reply ─► JSON or events
//! ```
//!
//! Everything that a client sends has a limit: connections, heads, bodies, the time for each, and the time that
//! it takes to read a response.

mod admin;
mod auth;
mod body;
mod completions;
mod health;
mod keys;
mod metrics;
mod page;
mod requests;
mod response;
mod routes;
mod server;
mod state;
mod timed_stream;

pub use keys::{Access, ApiKeys, KeyError};
pub use metrics::Metrics;
pub use server::Server;
pub use state::ServerOptions;
