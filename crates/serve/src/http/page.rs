//! The chat page.

use axum::Router;
use axum::routing::get;

/// Paths for everyone.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(|| async { "llama-adapter" }))
}

/// Paths that need a key.
pub(super) fn user_router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
}
