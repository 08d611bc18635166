//! Paths ─► handlers, and the layers around them

use std::any::Any;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Router, middleware::Next};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::auth::{require_admin, require_user};
use super::requests::{REQUEST_ID, observe};
use super::response::json;
use super::state::{AppState, ServerOptions};
use super::{admin, completions, health, metrics, page};
use crate::openai::ApiError;

/// All paths.
pub(super) fn router(state: AppState) -> Router {
    let user = |routes: Router<AppState>| {
        routes.route_layer(from_fn_with_state(state.clone(), require_user))
    };
    let api = user(
        Router::new()
            .route("/v1/chat/completions", post(completions::chat))
            .route("/v1/completions", post(completions::text))
            .route("/v1/models", get(models))
            // Names of models may contain slashes.
            .route("/v1/models/{*id}", get(model)),
    );
    let admin = Router::new()
        .route("/admin/adapters", get(admin::list).post(admin::load))
        .route("/admin/adapters/{name}", delete(admin::unload))
        .route_layer(from_fn_with_state(state.clone(), require_admin));
    let mut all = Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .merge(api)
        .merge(admin);
    if state.options().page {
        all = all.merge(page::router()).merge(user(page::user_router()));
    }
    let mut all = all
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(no_sniffing));
    if let Some(cors) = cors(state.options()) {
        all = all.layer(cors);
    }
    all.layer(from_fn_with_state(state.clone(), observe)).with_state(state)
}

async fn models(State(state): State<AppState>) -> Result<Response, ApiError> {
    Ok(json(&state.service()?.models()))
}

async fn model(
    State(state): State<AppState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::invalid(error.body_text()))?;
    Ok(json(&state.service()?.model(&id)?))
}

async fn not_found(request: Request) -> ApiError {
    let message = format!("no such path: {} {}", request.method(), request.uri().path());
    ApiError::http(404, "not_found", message)
}

async fn method_not_allowed(request: Request) -> ApiError {
    let message = format!("{} is not allowed on {}", request.method(), request.uri().path());
    ApiError::http(405, "method_not_allowed", message)
}

/// A defect of the program, which must not end the others' requests.
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    tracing::error!(panic = text, "a handler panicked");
    ApiError::internal("the server failed at this request").into_response()
}

/// Browsers take responses for nothing but their type.
async fn no_sniffing(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

/// Lets pages of other origins use the API.
fn cors(options: &ServerOptions) -> Option<CorsLayer> {
    let origins = options.cors_origins.iter().filter_map(|origin| origin.parse().ok());
    let origins = origins.collect::<Vec<HeaderValue>>();
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins)
    };
    let exposed = [HeaderName::from_static(REQUEST_ID), header::RETRY_AFTER];
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST, Method::DELETE])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(exposed),
    )
}
