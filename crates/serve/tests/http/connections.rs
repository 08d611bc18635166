//! Real connections: clients that leave, that do not read, that do not write; and the end of the server.

use std::time::Duration;

use serde_json::json;
use serve::engine::fake::FakeAnswer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::chat::request;
use crate::fixture::{Setup, exchange, long_answer, raw_chat, slow, wait_until};

/// A request to a path that ends its connection.
fn raw_get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let server = Setup::new(FakeAnswer::text("a hill")).start();
    let (address, _serving) = server.listen().await;
    let one = "GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2).into_bytes();
    let response = exchange(address, &[one, raw_chat(&request(json!({})))].concat()).await;
    assert_eq!(response.matches("HTTP/1.1 200 OK").count(), 3, "{response}");
    assert!(response.contains("a hill"), "{response}");
}

#[tokio::test]
async fn a_client_that_sends_too_much_reads_why_it_is_refused() {
    let mut setup = Setup::new(FakeAnswer::text("a hill"));
    setup.server.max_body = 1000;
    let server = setup.start();
    let (address, _serving) = server.listen().await;
    // More than the buffers of a connection hold.
    let body = request(json!({"user": "a".repeat(8 << 20)}));
    let response = exchange(address, &raw_chat(&body)).await;
    assert!(response.starts_with("HTTP/1.1 413"), "{response}");
    assert!(response.contains("larger than 1000 bytes"), "{response}");
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_row() {
    let server = slow(&long_answer()).start();
    let (address, _serving) = server.listen().await;
    for stream in [true, false] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&raw_chat(&request(json!({"stream": stream})))).await.unwrap();
        server.wait_until_running().await;
        let before = server.engine.handle().stats().generated_tokens;
        drop(client);
        server.wait_until_idle().await;
        let more = server.engine.handle().stats().generated_tokens - before;
        assert!(more < 100, "the answer was cut short: {more}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let mut setup = Setup::new(FakeAnswer::text(long_answer()));
    setup.server.write_time = Duration::from_millis(50);
    setup.fake.context = 1 << 16;
    let server = setup.start();
    let (address, _serving) = server.listen().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    // Log-probabilities make an answer larger than the system's buffers.
    let large = json!({
        "stream": true, "logprobs": true, "top_logprobs": 20, "n": 16, "ignore_eos": true,
        "max_tokens": 2000,
    });
    client.write_all(&raw_chat(&request(large))).await.unwrap();
    server.wait_until_running().await;
    server.wait_until_idle().await;
    // What was sent is not the whole stream.
    let mut received = Vec::new();
    let _ = client.read_to_end(&mut received).await;
    assert!(!received.ends_with(b"0\r\n\r\n"), "{}", received.len());
}

#[tokio::test]
async fn a_head_or_body_that_does_not_arrive_ends_its_connection() {
    let mut setup = Setup::new(FakeAnswer::text("a hill"));
    setup.server.head_time = Duration::from_millis(50);
    setup.server.body_time = Duration::from_millis(50);
    let server = setup.start();
    let (address, _serving) = server.listen().await;
    let response = exchange(address, b"POST /v1/completions HTTP/1.1\r\nHost:").await;
    assert!(!response.contains("200 OK"), "{response}");
    let whole = raw_chat(&request(json!({})));
    let response = exchange(address, &whole[..whole.len() - 1]).await;
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    assert!(response.contains("request_timeout"), "{response}");
}

#[tokio::test]
async fn heads_that_are_not_http_are_refused() {
    let server = Setup::new(FakeAnswer::text("a hill")).start();
    let (address, _serving) = server.listen().await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)).into_bytes();
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"[..], b"hello\r\n\r\n", &long] {
        let mut client = TcpStream::connect(address).await.unwrap();
        // It may be refused before it is sent.
        let _ = client.write_all(bytes).await;
        let mut response = Vec::new();
        let _ = client.read_to_end(&mut response).await;
        let response = String::from_utf8_lossy(&response);
        assert!(response.is_empty() || response.starts_with("HTTP/1.1 4"), "{response}");
    }
    assert!(exchange(address, &raw_get("/health/live")).await.contains("200 OK"));
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_one_to_end() {
    let mut setup = Setup::new(FakeAnswer::text("a hill"));
    setup.server.max_connections = 1;
    let server = setup.start();
    let (address, _serving) = server.listen().await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    let second = tokio::spawn(async move { exchange(address, &raw_get("/health/live")).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!second.is_finished());
    drop(first);
    assert!(second.await.unwrap().contains("200 OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_running_answers_and_refuses_new_ones() {
    let server = slow(&long_answer()).start();
    let (address, serving) = server.listen().await;
    let ask = |stream: bool| raw_chat(&request(json!({"stream": stream})));
    let running = [true, false].map(|stream| {
        let bytes = ask(stream);
        tokio::spawn(async move { exchange(address, &bytes).await })
    });
    wait_until("both run", || server.engine.handle().stats().decoding == 2).await;
    let handle = server.engine.handle();
    let ending = tokio::task::spawn_blocking(move || {
        let report = server.server.shut_down(&server.engine, Duration::from_mins(1));
        (server, report)
    });
    wait_until("it ends", || handle.stats().state == serve::EngineState::Draining).await;
    let refused = exchange(address, &ask(false)).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("shutting_down"), "{refused}");
    let ready = exchange(address, &raw_get("/health/ready")).await;
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("draining"), "{ready}");
    let [streamed, whole] = running;
    let streamed = streamed.await.unwrap();
    assert!(streamed.contains("data: [DONE]"), "{streamed}");
    assert!(whole.await.unwrap().contains(&long_answer()));
    let (_server, report) = ending.await.unwrap();
    assert_eq!(report.aborted, 0);
    serving.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_take_too_long_at_the_end_have_an_error() {
    let server = slow(&long_answer()).start();
    let (address, serving) = server.listen().await;
    let running = [true, false].map(|stream| {
        let bytes = raw_chat(&request(json!({"stream": stream})));
        tokio::spawn(async move { exchange(address, &bytes).await })
    });
    wait_until("both run", || server.engine.handle().stats().decoding == 2).await;
    let ending = tokio::task::spawn_blocking(move || {
        let report = server.server.shut_down(&server.engine, Duration::ZERO);
        (server, report)
    });
    let [streamed, whole] = running;
    let streamed = streamed.await.unwrap();
    assert!(streamed.starts_with("HTTP/1.1 200 ") && !streamed.contains("[DONE]"), "{streamed}");
    assert!(streamed.contains("shutting_down"), "{streamed}");
    let whole = whole.await.unwrap();
    assert!(whole.starts_with("HTTP/1.1 503 ") && whole.contains("shutting_down"), "{whole}");
    assert_eq!(ending.await.unwrap().1.aborted, 2);
    serving.await.unwrap();
}

#[tokio::test]
async fn a_stream_that_has_to_wait_is_kept_alive() {
    let mut setup = slow(&long_answer());
    setup.engine.max_rows = 1;
    setup.server.ping_time = Duration::from_millis(1);
    let server = setup.start();
    let (address, _serving) = server.listen().await;
    let response = exchange(address, &raw_chat(&request(json!({"stream": true})))).await;
    assert!(response.contains(": ping"), "{response}");
    assert!(response.contains("data: [DONE]"), "{response}");
}
