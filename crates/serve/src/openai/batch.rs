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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use serde_json::json;

    use super::*;
    use crate::engine::fake::{FakeAnswer, FakeModel};
    use crate::engine::{Engine, EngineConfig};
    use crate::openai::ServiceOptions;

    fn service(config: EngineConfig) -> (Engine, Service) {
        let tokenizer = built_in::model().unwrap().tokenizer().unwrap();
        let fake = FakeModel::new(tokenizer, FakeAnswer::echo());
        let engine = Engine::start_fake(fake, config, Arc::new(())).unwrap();
        let service = Service::new(engine.handle(), ServiceOptions::default());
        (engine, service)
    }

    fn line(name: &str, body: &Value) -> BatchRequest {
        let line =
            json!({ "custom_id": name, "method": "POST", "url": "/v1/completions", "body": body });
        BatchRequest::parse(line.to_string().as_bytes()).unwrap()
    }

    /// Waits on this thread, as a runtime does.
    fn block_on<F: Future>(future: F) -> F::Output {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Arc::new(Unpark(std::thread::current())).into();
        let mut context = std::task::Context::from_waker(&waker);
        let mut future = std::pin::pin!(future.fuse());
        loop {
            match future.as_mut().poll(&mut context) {
                std::task::Poll::Ready(output) => return output,
                std::task::Poll::Pending => std::thread::park(),
            }
        }
    }

    fn answer_all(
        service: &Service,
        requests: Vec<BatchRequest>,
        concurrency: usize,
    ) -> Result<Vec<BatchResponse>, ApiError> {
        let mut responses = Vec::new();
        let requests = requests.into_iter().map(Ok::<_, ApiError>);
        block_on(answer_batch(service, requests, concurrency, |response| {
            responses.push(response);
            Ok(())
        }))?;
        responses.sort_by(|a, b| a.custom_id.cmp(&b.custom_id));
        Ok(responses)
    }

    #[test]
    fn each_request_has_a_response_as_over_http() {
        let (_engine, service) = service(EngineConfig::default());
        let body = json!({ "model": "base", "prompt": "Ada lives", "max_tokens": 40 });
        let responses = answer_all(&service, vec![line("a", &body), line("b", &body)], 2).unwrap();
        let names = responses.iter().map(|own| own.custom_id.as_str()).collect::<Vec<_>>();
        assert_eq!(names, ["a", "b"]);
        for response in &responses {
            assert!(response.is_success() && response.completion_tokens() > 0, "{response:?}");
            assert_eq!(response.error, None);
            let body = &response.response.as_ref().unwrap().body;
            assert_eq!(body["object"], "text_completion");
            assert_eq!(body["choices"][0]["text"], "Ada lives");
        }
        assert_ne!(responses[0].id, responses[1].id);
    }

    #[test]
    fn a_wrong_body_is_a_response_and_the_others_are_answered() {
        let (_engine, service) = service(EngineConfig::default());
        let good = json!({ "model": "base", "prompt": "Ada" });
        let unknown = json!({ "model": "none", "prompt": "Ada" });
        let stream = json!({ "model": "base", "prompt": "Ada", "stream": true });
        let requests =
            vec![line("a", &unknown), line("b", &stream), line("c", &json!(1)), line("d", &good)];
        let responses = answer_all(&service, requests, 4).unwrap();
        let statuses = responses.iter().map(|own| own.response.as_ref().unwrap().status_code);
        assert_eq!(statuses.collect::<Vec<_>>(), [404, 400, 400, 200]);
        assert_eq!(responses[1].response.as_ref().unwrap().body["error"]["param"], "stream");
    }

    #[test]
    fn a_full_queue_is_waited_for() {
        let config = EngineConfig { max_rows: 1, max_queue: 1, ..EngineConfig::default() };
        let (_engine, service) = service(config);
        let body = json!({ "model": "base", "prompt": "Ada lives in Oakham" });
        let requests = (0..20).map(|i| line(&format!("{i:02}"), &body)).collect();
        let responses = answer_all(&service, requests, 8).unwrap();
        assert_eq!(responses.len(), 20);
        assert!(responses.iter().all(BatchResponse::is_success));
    }

    #[test]
    fn what_can_never_fit_into_the_queue_is_a_response() {
        let config = EngineConfig { max_rows: 1, max_queue: 1, ..EngineConfig::default() };
        let (_engine, service) = service(config);
        let body = json!({ "model": "base", "prompt": ["a", "b", "c", "d"] });
        let responses = answer_all(&service, vec![line("a", &body)], 8).unwrap();
        assert_eq!(responses[0].response.as_ref().unwrap().status_code, 429);
    }

    #[test]
    fn an_engine_that_ends_ends_the_batch() {
        let (engine, service) = service(EngineConfig::default());
        engine.drain(std::time::Duration::ZERO);
        let body = json!({ "model": "base", "prompt": "Ada" });
        let error = answer_all(&service, vec![line("a", &body)], 8).unwrap_err();
        assert_eq!(error.status, 503);
    }

    #[test]
    fn lines_of_another_format_are_refused() {
        let error = |line: &str| BatchRequest::parse(line.as_bytes()).unwrap_err().to_string();
        assert!(error("[]").starts_with("expected {\"custom_id\", "));
        assert!(error("{").contains("EOF"));
        assert!(
            error(r#"{"custom_id": "a", "method": "POST", "url": "/v1/completions"}"#)
                .contains("`body`")
        );
        let with = |name: &str, method: &str, url: &str| {
            json!({ "custom_id": name, "method": method, "url": url, "body": {} }).to_string()
        };
        assert_eq!(error(&with("", "POST", "/v1/completions")), "custom_id is empty");
        assert_eq!(error(&with("a", "GET", "/v1/completions")), "method is `GET`, expected POST");
        assert!(
            error(&with("a", "POST", "/v1/embeddings")).contains("expected /v1/chat/completions")
        );
    }
}
