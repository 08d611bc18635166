//! Keys, origins, paths and methods.

use axum::body::Body;
use axum::http::Method;
use serde_json::json;
use serve::engine::fake::FakeAnswer;
use serve::http::ApiKeys;

use crate::chat::request;
use crate::fixture::{Answered, Fixture, Setup};

fn with_keys(keys: &str) -> Fixture {
    let mut setup = Setup::new(FakeAnswer::text("a hill"));
    setup.server.keys = ApiKeys::parse(keys).unwrap();
    setup.start()
}

async fn chat_with(server: &Fixture, authorization: &str) -> Answered {
    let headers = [("content-type", "application/json"), ("authorization", authorization)];
    let body = request(json!({})).to_string();
    server.request(Method::POST, "/v1/chat/completions", &headers, body).await
}

#[tokio::test]
async fn a_key_opens_the_api() {
    let server = with_keys("alpha\nadmin omega");
    for header in ["Bearer alpha", "bearer alpha", "Bearer omega"] {
        chat_with(&server, header).await.json();
    }
    for header in ["Bearer beta", "Bearer ", "Basic alpha", "alpha", "Bearer alpha beta"] {
        let answer = chat_with(&server, header).await;
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert_eq!(answer.refused(), (401, "invalid_api_key".into(), String::new()), "{header}");
    }
}

#[tokio::test]
async fn without_its_key_a_request_is_refused_before_it_is_read() {
    let server = with_keys("alpha");
    for path in ["/v1/models", "/v1/models/tiny"] {
        assert_eq!(server.get(path).await.refused().0, 401, "{path}");
    }
    for path in ["/v1/chat/completions", "/v1/completions"] {
        assert_eq!(server.post(path, "not JSON").await.refused().0, 401, "{path}");
    }
    for open in ["/health/live", "/health/ready", "/metrics", "/"] {
        assert_eq!(server.get(open).await.status, 200, "{open}");
    }
}

#[tokio::test]
async fn administration_needs_an_administrators_key() {
    let list = async |server: &Fixture, key: &str| {
        let headers = [("authorization", key)];
        server.request(Method::GET, "/admin/adapters", &headers, Body::empty()).await
    };
    let server = with_keys("alpha\nadmin omega");
    list(&server, "Bearer omega").await.json();
    assert_eq!(list(&server, "Bearer alpha").await.refused().0, 403);
    assert_eq!(list(&server, "Bearer beta").await.refused().0, 401);
    assert_eq!(server.get("/admin/adapters").await.refused().0, 401);
    // Without such a key nobody is an administrator.
    for keys in ["", "alpha"] {
        let server = with_keys(keys);
        assert_eq!(list(&server, "Bearer alpha").await.refused().0, 403, "{keys}");
        let delete =
            server.request(Method::DELETE, "/admin/adapters/loud", &[], Body::empty()).await;
        assert_eq!(delete.refused().0, 403);
    }
}

#[tokio::test]
async fn other_paths_and_methods_have_openais_errors() {
    let server = Fixture::new("a hill");
    for path in ["/v1", "/v1/embeddings", "/nothing", "/v1/chat/completions/x"] {
        let (status, code, _) = server.get(path).await.refused();
        assert_eq!((status, code.as_str()), (404, "not_found"), "{path}");
    }
    for (method, path) in [
        (Method::GET, "/v1/chat/completions"),
        (Method::DELETE, "/v1/completions"),
        (Method::POST, "/v1/models"),
        (Method::PUT, "/health/live"),
    ] {
        let answer = server.request(method, path, &[], Body::empty()).await;
        assert!(!answer.header("allow").is_empty(), "{path}");
        assert_eq!(answer.refused().1, "method_not_allowed", "{path}");
    }
}

#[tokio::test]
async fn the_page_can_be_left_out() {
    let mut setup = Setup::new(FakeAnswer::text("a hill"));
    setup.server.page = false;
    let server = setup.start();
    assert_eq!(server.get("/").await.refused().0, 404);
    assert_eq!(server.post("/page/markdown", "{}").await.refused().0, 404);
}

#[tokio::test]
async fn pages_of_other_origins_are_let_in_only_if_they_are_listed() {
    let ask = async |server: &Fixture, origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type"),
        ];
        let path = "/v1/chat/completions";
        let answer = server.request(Method::OPTIONS, path, &headers, Body::empty()).await;
        answer.header("access-control-allow-origin").to_owned()
    };
    assert_eq!(ask(&Fixture::new("a hill"), "https://a.example").await, "");
    let mut setup = Setup::new(FakeAnswer::text("a hill"));
    setup.server.cors_origins = vec!["https://a.example".into()];
    let server = setup.start();
    assert_eq!(ask(&server, "https://a.example").await, "https://a.example");
    assert_eq!(ask(&server, "https://b.example").await, "");
}
