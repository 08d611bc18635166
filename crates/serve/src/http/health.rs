//! `/health/live` and `/health/ready` for whoever starts, stops and chooses replicas.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::state::AppState;
use crate::engine::EngineState;

fn status(reason: Option<&str>) -> (StatusCode, Json<Value>) {
    match reason {
        None => (StatusCode::OK, Json(json!({ "status": "ok" }))),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": reason }))),
    }
}

/// Whether the process works: not after the engine has failed for good.
pub(super) async fn live(State(state): State<AppState>) -> (StatusCode, Json<Value>) {
    let engine = state.loaded_service().map(|service| service.engine().stats().state);
    // An engine that has ended because the server is ending is no reason for a restart.
    let dead = engine == Some(EngineState::Dead) && !state.is_draining();
    status(dead.then_some("dead"))
}

/// Whether requests are welcome: not while the model is loading, and not before the end.
pub(super) async fn ready(State(state): State<AppState>) -> (StatusCode, Json<Value>) {
    status(state.not_ready())
}
