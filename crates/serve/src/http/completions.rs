//! `POST /v1/chat/completions` and `POST /v1/completions`, whole or as a stream of server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use tokio::time::timeout;
use tracing::{Instrument, Span};

use super::body::read_json;
use super::requests::ClientGuard;
use super::response::json;
use super::state::AppState;
use crate::openai::{ApiError, Reply, Service};

/// A stream's first chunk is waited for, so that a request that fails at once has a status of its own.
const FIRST_CHUNK_TIME: Duration = Duration::from_secs(5);

/// A method of [`Service`] that starts a reply.
type Start = fn(&Service, &[u8]) -> Result<Reply, ApiError>;

pub(super) async fn chat(state: State<AppState>, request: Request) -> Result<Response, ApiError> {
    respond(state, request, Service::chat).await
}

pub(super) async fn text(state: State<AppState>, request: Request) -> Result<Response, ApiError> {
    respond(state, request, Service::completion).await
}

async fn respond(
    State(state): State<AppState>,
    request: Request,
    start: Start,
) -> Result<Response, ApiError> {
    let service = state.service()?.clone();
    let body = read_json(&state, request).await?;
    let Ok(permit) = state.conversions().clone().acquire_owned().await else {
        return Err(ApiError::internal("the server has no permits for conversions"));
    };
    let span = Span::current();
    let started = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        span.in_scope(|| start(&service, &body.bytes))
    });
    let mut reply = started.await.map_err(|error| {
        tracing::error!(%error, "a request could not be read");
        ApiError::internal("the request could not be read")
    })??;
    tracing::debug!(reply = reply.id(), "accepted");
    if !reply.is_stream() {
        return Ok(json(&reply.answer().await?));
    }
    // A reply that has to wait begins with comments.
    if let Ok(begun) = timeout(FIRST_CHUNK_TIME, reply.begin()).await {
        begun?;
    }
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    let body = Body::from_stream(events(reply, state.options().ping_time));
    // Proxies must not wait for the end.
    let mut response = (headers, body).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// The chunks of a reply as server-sent events, with a comment whenever there was none for `ping_time`:
/// proxies cut connections that are silent.
fn events(
    reply: Reply,
    ping_time: Duration,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let span = Span::current();
    let guard = ClientGuard::new(&span);
    unfold(Some((reply, guard)), move |sending| {
        let span = span.clone();
        async move {
            let (mut reply, guard) = sending?;
            let (event, last) = match timeout(ping_time, reply.next_chunk()).await {
                Err(_) => (": ping\n\n".to_owned(), false),
                Ok(Some(Ok(chunk))) => (format!("data: {chunk}\n\n"), false),
                Ok(Some(Err(error))) => {
                    tracing::warn!(code = error.code, "the stream failed");
                    (format!("data: {}\n\n", error.to_json()), true)
                }
                Ok(None) => ("data: [DONE]\n\n".to_owned(), true),
            };
            if last {
                guard.answered();
                return Some((Ok(event.into()), None));
            }
            Some((Ok(event.into()), Some((reply, guard))))
        }
        .instrument(span)
    })
}
