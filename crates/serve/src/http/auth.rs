//! `Authorization: Bearer KEY` ─► what the request may do

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;

use super::keys::{Access, ApiKeys};
use super::state::AppState;
use crate::openai::ApiError;

/// Lets requests with a key through, and all of them if there are no keys.
pub(super) async fn require_user(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let keys = &state.options().keys;
    if !keys.is_empty() {
        access(keys, request.headers())?;
    }
    Ok(next.run(request).await)
}

/// Lets requests with an administrator's key through.
pub(super) async fn require_admin(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let keys = &state.options().keys;
    if !keys.has_admin() {
        return Err(ApiError::forbidden("the server has no administrator's key"));
    }
    if access(keys, request.headers())? < Access::Admin {
        return Err(ApiError::forbidden("this needs an administrator's key"));
    }
    Ok(next.run(request).await)
}

/// What the key of a request allows.
fn access(keys: &ApiKeys, headers: &HeaderMap) -> Result<Access, ApiError> {
    let expected = "expected the header `Authorization: Bearer KEY`";
    let Some(header) = headers.get(AUTHORIZATION) else {
        return Err(ApiError::unauthorized(format!("no API key: {expected}")));
    };
    // The scheme's name may be in any case.
    let bytes = header.as_bytes();
    let key = match bytes.split_at_checked(7) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => key.trim_ascii(),
        _ => return Err(ApiError::unauthorized(format!("no API key: {expected}"))),
    };
    keys.access(key).ok_or_else(|| ApiError::unauthorized("the API key is not known here"))
}
