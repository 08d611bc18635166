//! Sizes, types, and more requests than there is room for.

use axum::body::Body;
use axum::http::Method;
use serde_json::json;
use serve::engine::fake::FakeAnswer;

use crate::chat::request;
use crate::fixture::{Fixture, Setup, long_answer, slow};

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let mut setup = Setup::new(FakeAnswer::text("a hill"));
    setup.server.max_body = 1000;
    let server = setup.start();
    let body = request(json!({"user": "a".repeat(1000)})).to_string();
    let refused = server.post("/v1/chat/completions", &body).await.refused();
    assert_eq!((refused.0, refused.1.as_str()), (413, "request_too_large"));
    // Without a length in front.
    let pieces = body
        .into_bytes()
        .chunks(100)
        .map(|piece| Ok::<_, std::io::Error>(piece.to_vec()))
        .collect::<Vec<_>>();
    let stream = Body::from_stream(futures_util::stream::iter(pieces));
    let headers = [("content-type", "application/json")];
    let refused = server.request(Method::POST, "/v1/completions", &headers, stream).await;
    assert_eq!(refused.refused().0, 413);
    server.chat(request(json!({}))).await.json();
}

#[tokio::test]
async fn bodies_share_a_limit() {
    let mut setup = Setup::new(FakeAnswer::text("a hill"));
    setup.server.max_bodies = 100;
    let server = setup.start();
    let body = request(json!({"user": "a".repeat(2000)}));
    let refused = server.chat(body).await;
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.refused().1, "overloaded");
    server.chat(request(json!({}))).await.json();
}

#[tokio::test]
async fn only_json_is_read() {
    let server = Fixture::new("a hill");
    let body = request(json!({})).to_string();
    let post = async |headers: &[(&str, &str)]| {
        server.request(Method::POST, "/v1/chat/completions", headers, body.clone()).await
    };
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        assert_eq!(post(&[("content-type", kind)]).await.refused().0, 415, "{kind}");
    }
    assert_eq!(post(&[]).await.refused().0, 415);
    let gzip = [("content-type", "application/json"), ("content-encoding", "gzip")];
    assert_eq!(post(&gzip).await.refused().0, 415);
    post(&[("content-type", "Application/JSON; charset=utf-8")]).await.json();
}

#[tokio::test]
async fn a_full_queue_is_told_with_a_time_to_come_back() {
    let mut setup = slow(&long_answer());
    (setup.engine.max_rows, setup.engine.max_queue) = (1, 1);
    let server = setup.start();
    let first = tokio::spawn({
        let router = server.server.router();
        async move {
            let ask = request(json!({"n": 2})).to_string();
            let ask = axum::http::Request::post("/v1/chat/completions")
                .header("content-type", "application/json")
                .body(Body::from(ask));
            tower::ServiceExt::oneshot(router, ask.unwrap()).await.unwrap().status()
        }
    });
    server.wait_until_running().await;
    for body in [request(json!({})), request(json!({"stream": true}))] {
        let refused = server.chat(body).await;
        let seconds = refused.header("retry-after").parse::<u64>().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        assert_eq!(refused.refused(), (429, "queue_full".into(), String::new()));
    }
    assert_eq!(first.await.unwrap(), 200);
    server.wait_until_idle().await;
    server.chat(request(json!({"max_tokens": 1}))).await.json();
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_ended() {
    let mut setup = slow(&long_answer());
    setup.engine.request_time = Some(std::time::Duration::from_millis(40));
    let server = setup.start();
    let refused = server.chat(request(json!({}))).await.refused();
    assert_eq!((refused.0, refused.1.as_str()), (408, "request_timeout"));
    server.wait_until_idle().await;
}

#[tokio::test]
async fn a_text_beyond_the_limit_is_refused() {
    let mut setup = Setup::new(FakeAnswer::text("a hill"));
    setup.service.limits.prompt_bytes = 100;
    let server = setup.start();
    let messages = json!([{"role": "user", "content": "a".repeat(101)}]);
    assert_eq!(server.chat(request(json!({"messages": messages}))).await.refused().2, "messages");
    let prompts = json!({"model": "tiny", "prompt": vec!["a".repeat(51); 2]});
    assert_eq!(server.complete(prompts).await.refused().2, "prompt");
}
