//! Health, metrics, request ids.

use axum::body::Body;
use axum::http::Method;
use serde_json::json;
use serve::engine::fake::FakeAnswer;
use serve::http::{Server, ServerOptions};
use tower::ServiceExt;

use crate::chat::request;
use crate::fixture::{Fixture, Setup};

/// The value of a metric with its labels.
fn metric(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn a_server_without_a_model_is_alive_and_not_ready() {
    let server = Server::new(ServerOptions::default());
    let get = async |path: &str| {
        let request = axum::http::Request::get(path).body(Body::empty()).unwrap();
        server.router().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(get("/health/live").await, 200);
    assert_eq!(get("/health/ready").await, 503);
    assert_eq!(get("/v1/models").await, 503);
    assert_eq!(get("/metrics").await, 200);
}

#[tokio::test]
async fn a_server_is_ready_until_it_is_stopped() {
    let server = Fixture::new("a hill");
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(server.get(path).await.json(), json!({"status": "ok"}));
    }
    server.server.set_draining();
    let ready = server.get("/health/ready").await;
    assert_eq!((ready.status, ready.text()), (503, r#"{"status":"draining"}"#));
    assert_eq!(server.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let server = Fixture::new("The old well.");
    server.chat(request(json!({}))).await.json();
    server.chat(request(json!({"model": "tiny:loud", "stream": true}))).await.chunks();
    server.chat(request(json!({"model": "other"}))).await.refused();
    server.get("/nowhere").await.refused();
    server.wait_until_idle().await;
    let response = server.get("/metrics").await;
    assert!(response.header("content-type").starts_with("application/openmetrics-text"));
    let text = response.text();
    let metric = |name: &str| metric(text, &format!("llama_adapter_{name}"));
    let requests = |code: u16| {
        metric(&format!("requests_total{{endpoint=\"/v1/chat/completions\",code=\"{code}\"}}"))
    };
    assert_eq!((requests(200), requests(404)), (2.0, 1.0));
    assert_eq!(metric("requests_total{endpoint=\"other\",code=\"404\"}"), 1.0);
    assert_eq!(metric("rejected_total{why=\"model_not_found\"}"), 1.0);
    assert_eq!(metric("finished_total{reason=\"stop\"}"), 2.0);
    assert_eq!(metric("adapter_requests_total{adapter=\"none\"}"), 1.0);
    assert_eq!(metric("adapter_requests_total{adapter=\"loud\"}"), 1.0);
    for counted in ["prompt_tokens_total", "generated_tokens_total", "step_seconds_count"] {
        assert!(metric(counted) > 1.0, "{counted}");
    }
    assert_eq!(metric("time_to_first_token_seconds_count"), 2.0);
    assert!(metric("time_between_tokens_seconds_count") > 1.0);
    assert_eq!(metric("request_seconds_count"), 2.0);
    assert_eq!(metric("queue_seconds_count"), 2.0);
    for gauge in [
        "queue_depth",
        "rows{state=\"prefilling\"}",
        "rows{state=\"decoding\"}",
        "cache_blocks{state=\"used\"}",
        "cache_bytes",
        "preemptions_total",
        "engine_errors_total",
    ] {
        assert_eq!(metric(gauge), 0.0, "{gauge}");
    }
    assert!(metric("cache_blocks{state=\"free\"}") > 1.0);
    assert_eq!(metric("adapters"), 2.0);
    assert!(metric("adapter_bytes") > 0.0);
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_request_keeps_its_id() {
    let server = Fixture::new("a hill");
    let id = async |own: &str| {
        let headers = [("x-request-id", own)];
        let answer = server.request(Method::GET, "/v1/models", &headers, Body::empty()).await;
        answer.header("x-request-id").to_owned()
    };
    assert_eq!(id("abc-1").await, "abc-1");
    assert_eq!(id("a b").await.len(), 32);
    assert_eq!(server.get("/nowhere").await.header("x-request-id").len(), 32);
}

#[tokio::test]
async fn responses_have_no_other_type_than_theirs() {
    let server = Setup::new(FakeAnswer::text("a hill")).start();
    for path in ["/v1/models", "/nowhere", "/metrics"] {
        assert_eq!(server.get(path).await.header("x-content-type-options"), "nosniff", "{path}");
    }
}
