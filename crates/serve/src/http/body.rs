//! The body of a request, within limits of size and time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::state::{AppState, BODY_UNIT};
use crate::openai::ApiError;

/// What is read of a body that is too large anyway.
const MAX_DRAINED_BYTES: usize = 64 << 20;
const MAX_DRAIN_TIME: Duration = Duration::from_secs(2);

/// A body of JSON, and its share of the memory for bodies.
pub(super) struct JsonBody {
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Reads the body of a request with JSON.
///
/// # Errors
/// 415 for other contents, 413 for too many bytes, 408 for a slow one, 503 if other bodies leave no room.
pub(super) async fn read_json(state: &AppState, request: Request) -> Result<JsonBody, ApiError> {
    let options = state.options();
    check_content(request.headers())?;
    let limit = options.max_body;
    let too_large = || {
        let message = format!("the body is larger than {limit} bytes");
        ApiError::http(413, "request_too_large", message)
    };
    let expects = request.headers().contains_key(EXPECT);
    let mut body = request.into_body();
    // Without a length it may have as many as are allowed.
    let hint = body.size_hint();
    if hint.lower() > limit as u64 {
        // A client that asks before it sends has sent nothing.
        if !expects {
            drain(&mut body).await;
        }
        return Err(too_large());
    }
    let bytes = hint.exact().unwrap_or(limit as u64);
    let units = bytes.div_ceil(BODY_UNIT as u64) as u32;
    let room = state.body_room().clone().try_acquire_many_owned(units).map_err(|_| {
        ApiError::unavailable(
            "overloaded",
            "the server is reading as many bodies as it has room for",
        )
    })?;
    match timeout(options.body_time, Limited::new(&mut body, limit).collect()).await {
        Ok(Ok(body)) => Ok(JsonBody { bytes: body.to_bytes(), _room: room }),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            drain(&mut body).await;
            Err(too_large())
        }
        Ok(Err(_)) => Err(ApiError::invalid("the body could not be read")),
        Err(_) => {
            let seconds = options.body_time.as_secs();
            let message = format!("the body did not arrive within {seconds} seconds");
            Err(ApiError::http(408, "request_timeout", message))
        }
    }
}

/// Reads and drops the rest of a body, within limits: a client that is still sending when its connection ends
/// sees a broken connection instead of the response.
async fn drain(body: &mut Body) {
    let rest = async {
        let mut bytes = 0;
        while bytes < MAX_DRAINED_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Whatever happens, the response follows.
    let _ = timeout(MAX_DRAIN_TIME, rest).await;
}

/// Browsers send other types to any server without asking it first: only JSON is accepted, so that no page
/// of a stranger makes requests.
fn check_content(headers: &HeaderMap) -> Result<(), ApiError> {
    let wrong = |message: &str| ApiError::http(415, "unsupported_media_type", message);
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = value(CONTENT_TYPE).and_then(|text| text.split(';').next()).unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case("application/json") {
        return Err(wrong("expected the header `Content-Type: application/json`"));
    }
    match value(CONTENT_ENCODING) {
        None | Some("" | "identity") => Ok(()),
        Some(_) => Err(wrong("compressed bodies are not supported")),
    }
}
