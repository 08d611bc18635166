//! `/v1/models` and `/admin/adapters`.

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};
use serve::engine::fake::FakeAnswer;
use serve::http::ApiKeys;

use crate::chat::request;
use crate::fixture::{Answered, Fixture, Setup};

#[tokio::test]
async fn the_base_and_its_adapters_are_models() {
    let server = Fixture::new("a hill");
    let list = server.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let ids = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap());
    assert_eq!(ids.collect::<Vec<_>>(), ["tiny", "tiny:loud", "tiny:seeing"]);
    let seeing = &list["data"][2];
    assert_eq!((&seeing["object"], &seeing["parent"]), (&json!("model"), &json!("tiny")));
    assert_eq!((&seeing["context"], &seeing["sees_images"]), (&json!(512), &json!(true)));
    assert_eq!(seeing["prompt_template"], "alpaca");
    assert!(seeing["created"].is_u64() && seeing["owned_by"].is_string());
    assert_eq!(list["data"][0]["prompt_template"], "chat");
    for model in list["data"].as_array().unwrap() {
        let path = format!("/v1/models/{}", model["id"].as_str().unwrap());
        assert_eq!(&server.get(&path).await.json(), model);
    }
    assert_eq!(server.get("/v1/models/tiny%3Aloud").await.json(), list["data"][1]);
    for unknown in ["/v1/models/other", "/v1/models/tiny:other", "/v1/models/a/b"] {
        assert_eq!(server.get(unknown).await.refused().1, "model_not_found", "{unknown}");
    }
    assert_eq!(server.get("/v1/models/%ff").await.refused().0, 400);
}

/// A server whose administrator's key is `omega`, with a folder for adapters.
fn administered() -> (Fixture, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("new")).unwrap();
    let mut setup = Setup::new(FakeAnswer::text("a hill"));
    setup.server.keys = ApiKeys::parse("admin omega").unwrap();
    setup.server.adapter_roots = vec![root.path().to_owned()];
    (setup.start(), root)
}

async fn admin(server: &Fixture, method: Method, path: &str, body: Value) -> Answered {
    let headers = [("authorization", "Bearer omega"), ("content-type", "application/json")];
    let body = if body.is_null() { Body::empty() } else { body.to_string().into() };
    server.request(method, path, &headers, body).await
}

#[tokio::test]
async fn an_adapter_is_loaded_used_and_unloaded() {
    let (server, root) = administered();
    let path = "/admin/adapters";
    let loaded = admin(&server, Method::POST, path, json!({"name": "new", "path": "new"})).await;
    let loaded = loaded.json();
    assert_eq!((&loaded["name"], &loaded["loaded"]), (&json!("new"), &json!(true)));
    let full = root.path().join("new").canonicalize().unwrap();
    assert_eq!(loaded["path"], full.to_str().unwrap());
    let list = admin(&server, Method::GET, path, Value::Null).await.json();
    let names = list["data"].as_array().unwrap().iter().map(|own| own["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["loud", "new", "seeing"]);

    let ask = request(json!({"model": "tiny:new"}));
    admin(&server, Method::POST, "/v1/chat/completions", ask.clone()).await.json();
    server.wait_until_idle().await;
    assert!(server.get("/metrics").await.text().contains("adapter=\"new\""));
    let deleted = admin(&server, Method::DELETE, "/admin/adapters/new", Value::Null).await.json();
    assert_eq!(deleted, json!({"name": "new", "object": "adapter", "deleted": true}));
    let refused = admin(&server, Method::POST, "/v1/chat/completions", ask).await.refused();
    assert_eq!(refused.1, "model_not_found");
    assert!(!server.get("/metrics").await.text().contains("adapter=\"new\""));
}

#[tokio::test]
async fn adapters_outside_of_the_folders_are_refused() {
    let (server, root) = administered();
    let outside = root.path().parent().unwrap().to_str().unwrap();
    for path in ["..", outside, "new/../..", "/etc", "missing", ""] {
        let body = json!({"name": "a", "path": path});
        let refused = admin(&server, Method::POST, "/admin/adapters", body).await.refused();
        assert_eq!((refused.0, refused.2.as_str()), (403, "path"), "{path}");
    }
}

#[tokio::test]
async fn wrong_requests_of_administrators_are_refused() {
    let (server, _root) = administered();
    let load = async |body| admin(&server, Method::POST, "/admin/adapters", body).await.refused();
    assert_eq!(load(json!({"name": "loud", "path": "new"})).await.1, "adapter_exists");
    assert_eq!(load(json!({"name": "a b", "path": "new"})).await.2, "name");
    assert_eq!(load(json!({"name": "a"})).await.0, 400);
    assert_eq!(load(json!([])).await.0, 400);
    for (name, status) in [("other", 404), ("%ff", 400)] {
        let path = format!("/admin/adapters/{name}");
        let refused = admin(&server, Method::DELETE, &path, Value::Null).await.refused();
        assert_eq!(refused.0, status, "{name}");
    }
}
