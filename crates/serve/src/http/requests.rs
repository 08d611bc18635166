//! Every request: its id, its line in the log, its place in the metrics.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument, Span, info_span};

use super::response::ErrorCode;
use super::state::AppState;

/// The header of a request's id.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// Gives a request its id, and tells about its response.
pub(super) async fn observe(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let path = request.extensions().get::<MatchedPath>();
    // Other paths are endless: as a label they count as one.
    let endpoint = path.map_or("other", MatchedPath::as_str).to_owned();
    let span = info_span!("request", id, method = %request.method(), endpoint);
    let begin = Instant::now();
    let guard = ClientGuard::new(&span);
    let mut response = next.run(request).instrument(span.clone()).await;
    guard.answered();
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let status = response.status().as_u16();
    state.metrics().count_response(&endpoint, status);
    let code = response.extensions().get::<ErrorCode>().map(|code| code.0);
    if let Some(code) = code {
        state.metrics().count_rejected(code);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let _in_span = span.entered();
    if endpoint.starts_with("/health") || endpoint == "/metrics" {
        // Asked for every few seconds.
        tracing::debug!(status, seconds, "response");
    } else if status >= 500 {
        tracing::warn!(status, seconds, code, "response");
    } else {
        tracing::info!(status, seconds, code, "response");
    }
    response
}

/// The client's id of a request if it is harmless in a log, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let own = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match own {
        Some(id) if (1..=128).contains(&id.len()) && id.bytes().all(allowed) => id.to_owned(),
        _ => format!("{:032x}", rand::random::<u128>()),
    }
}

/// A client that waits. Dropped before the answer, the client is gone.
#[derive(Debug)]
pub(super) struct ClientGuard {
    span: Span,
    answered: bool,
}

impl ClientGuard {
    pub(super) fn new(span: &Span) -> Self {
        Self { span: span.clone(), answered: false }
    }

    /// The client has its answer.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        if !self.answered {
            self.span.in_scope(|| tracing::info!("the client is gone"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_ids_are_kept() {
        let id = |own: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(own).unwrap());
            request_id(&headers)
        };
        assert_eq!(id(b"a-B_3.c"), "a-B_3.c");
        for own in [&b"a b"[..], b"", b"a\xff", b"{}", &[b'a'; 129]] {
            let new = id(own);
            assert!(new.len() == 32 && new.as_bytes() != own, "{new}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
