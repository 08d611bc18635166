//! OpenAI's batch format: a line of JSON ─► a request of the API ─► a line of JSON
//!
//! ```text
//!     {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}}
//!  ─► {"id": "batch_req_...", "custom_id": "a", "response": {"status_code": 200, "request_id": "...", "body": {...}}, "error": null}
//! ```
//!
//! A request that fails has a response too, with the status and the body that HTTP would have.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::ApiError;
use super::reply::{Endpoint, Reply};
use super::service::Service;

/// A line of a batch.
#[derive(Debug)]
pub struct BatchRequest {
    custom_id: String,
    endpoint: Endpoint,
    body: Box<RawValue>,
}

/// Why a line is not a request of a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Not a JSON object with the format's four keys.
    #[error("expected {{\"custom_id\", \"method\", \"url\", \"body\"}}: {0}")]
    Format(#[source] serde_json::Error),
    /// An empty name.
    #[error("custom_id is empty")]
    NoCustomId,
    /// Not `POST`.
    #[error("method is `{0}`, expected POST")]
    Method(String),
    /// An endpoint that batches do not have.
    #[error("url is `{0}`, expected /v1/chat/completions or /v1/completions")]
    Url(String),
}

impl BatchRequest {
    /// Reads a line. The body is not looked at: what is wrong with it belongs into the response.
    ///
    /// # Errors
    /// [`BatchError`]
    pub fn parse(line: &[u8]) -> Result<Self, BatchError> {
        #[derive(Deserialize)]
        struct Line {
            custom_id: String,
            method: String,
            url: String,
            body: Box<RawValue>,
        }
        let Line { custom_id, method, url, body } =
            serde_json::from_slice(line).map_err(BatchError::Format)?;
        if custom_id.is_empty() {
            return Err(BatchError::NoCustomId);
        }
        if method != "POST" {
            return Err(BatchError::Method(method));
        }
        let endpoint = match url.as_str() {
            "/v1/chat/completions" => Endpoint::Chat,
            "/v1/completions" => Endpoint::Completion,
            _ => return Err(BatchError::Url(url)),
        };
        Ok(Self { custom_id, endpoint, body })
    }

    /// The name that the response repeats.
    pub fn custom_id(&self) -> &str {
        &self.custom_id
    }

    fn submit(&self, service: &Service) -> Result<Reply, ApiError> {
        let body = self.body.get().as_bytes();
        let reply = match self.endpoint {
            Endpoint::Chat => service.chat(body),
            Endpoint::Completion => service.completion(body),
        }?;
        if reply.is_stream() {
            let message = "stream is true, expected false: a batch has whole answers";
            return Err(ApiError::invalid_param("stream", message));
        }
        Ok(reply)
    }

    async fn respond(self, submitted: Result<Reply, ApiError>) -> BatchResponse {
        let answer = match submitted {
            Ok(reply) => reply.answer().await,
            Err(error) => Err(error),
        };
        let (status_code, body) = match answer {
            Ok(body) => (200, body),
            Err(error) => (error.status, error.to_json()),
        };
        let request_id = format!("{:032x}", rand::random::<u128>());
        BatchResponse {
            id: format!("batch_req_{:032x}", rand::random::<u128>()),
            custom_id: self.custom_id,
            response: Some(HttpResponse { status_code, request_id, body }),
            error: None,
        }
    }
}

/// A line of a batch's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchResponse {
    /// Identifies the line.
    pub id: String,
    /// The name of the request.
    pub custom_id: String,
    /// The response, as over HTTP.
    pub response: Option<HttpResponse>,
    /// Why there is no response. Batches that were answered here have none.
    pub error: Option<Value>,
}

/// The response to one request of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpResponse {
    /// The HTTP status.
    pub status_code: u16,
    /// Identifies the request.
    pub request_id: String,
    /// The body.
    pub body: Value,
}

impl BatchResponse {
    /// Whether the request was answered.
    pub fn is_success(&self) -> bool {
        self.response.as_ref().is_some_and(|response| response.status_code == 200)
    }

    /// Generated tokens of the answer.
    pub fn completion_tokens(&self) -> u64 {
        let body = self.response.as_ref().map(|response| &response.body);
        body.and_then(|body| body["usage"]["completion_tokens"].as_u64()).unwrap_or(0)
    }
}

/// Answers requests, `concurrency` at a time and in the order in which they end. `requests` is asked for
/// the next one when there is room for it.
///
/// # Errors
/// That of `requests` and of `respond`, or [`ApiError`] once the engine accepts nothing more. Running
/// requests are cancelled then.
pub async fn answer_batch<E: From<ApiError>>(
    service: &Service,
    requests: impl IntoIterator<Item = Result<BatchRequest, E>>,
    concurrency: usize,
    mut respond: impl FnMut(BatchResponse) -> Result<(), E>,
) -> Result<(), E> {
    let mut requests = requests.into_iter().fuse();
    let mut refused = None;
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < concurrency.max(1) {
            let Some(request) = refused.take().map(Ok).or_else(|| requests.next()) else { break };
            let request = request?;
            match request.submit(service) {
                // The engine has a queue for less than `concurrency`: an answer makes room.
                Err(error) if error.status == 429 && !running.is_empty() => {
                    refused = Some(request);
                    break;
                }
                Err(error) if error.status == 503 => return Err(error.into()),
                submitted => running.push(request.respond(submitted)),
            }
        }
        match running.next().await {
            Some(response) => respond(response)?,
            None => return Ok(()),
        }
    }
}
