//! A server on a fake model, in memory or on a port.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use serve::engine::fake::{FakeAdapter, FakeAnswer, FakeModel};
use serve::http::{Server, ServerOptions};
use serve::openai::{Service, ServiceOptions};
use serve::{CacheSize, Engine, EngineConfig};
use text::Tokenizer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

/// What a fixture is made of.
pub struct Setup {
    pub fake: FakeModel,
    pub engine: EngineConfig,
    pub server: ServerOptions,
    pub service: ServiceOptions,
}

pub struct Fixture {
    pub engine: Engine,
    pub server: Server,
}

/// The built-in model's tokenizer.
pub fn tokenizer() -> Tokenizer {
    let mut tokenizer = built_in::model().unwrap().tokenizer().unwrap();
    tokenizer.chat_template =
        Some("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}".into());
    tokenizer
}

/// An adapter `loud` that shouts, and an adapter `seeing` with an image condition.
fn adapters() -> Vec<FakeAdapter> {
    let adapter = |name: &str, sees_images, answer| FakeAdapter {
        name: name.into(),
        sees_images,
        answer: Some(answer),
        bytes: 100,
    };
    vec![
        adapter("loud", false, FakeAnswer::text("THE OLD WELL")),
        adapter("seeing", true, FakeAnswer::text("a hill")),
    ]
}

impl Setup {
    pub fn new(answer: FakeAnswer) -> Self {
        Self {
            fake: FakeModel {
                name: "tiny".into(),
                adapters: adapters(),
                context: 512,
                ..FakeModel::new(tokenizer(), answer)
            },
            engine: EngineConfig { cache: CacheSize::Blocks(256), ..EngineConfig::default() },
            server: ServerOptions::default(),
            service: ServiceOptions::default(),
        }
    }

    pub fn start(self) -> Fixture {
        let server = Server::new(self.server);
        let engine = Engine::start_fake(self.fake, self.engine, server.observer()).unwrap();
        server.set_service(Service::new(engine.handle(), self.service));
        Fixture { engine, server }
    }
}

/// A response in memory.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answered {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// The body of a success.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The error of a failure in OpenAI's shape: code or type, param and message.
    #[track_caller]
    pub fn error(&self) -> (u16, String, Value, String) {
        assert!(self.status >= 400, "{} {}", self.status, self.text());
        assert_eq!(self.header("content-type"), "application/json");
        let body = serde_json::from_slice::<Value>(&self.body).expect("JSON");
        let error = body["error"].as_object().expect("an error");
        let keys = error.keys().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(keys, ["message", "type", "param", "code"]);
        assert_eq!(body.as_object().unwrap().len(), 1);
        let text = |key: &str| error[key].as_str().map(str::to_owned);
        let code = text("code").or(text("type")).expect("a type");
        (self.status, code, error["param"].clone(), text("message").expect("a message"))
    }

    /// As [`error`](Self::error) with the param as text, empty without one.
    #[track_caller]
    pub fn refused(&self) -> (u16, String, String) {
        let (status, code, param, _message) = self.error();
        (status, code, param.as_str().unwrap_or_default().to_owned())
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The data of server-sent events.
    #[track_caller]
    pub fn events(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("content-type"), "text/event-stream; charset=utf-8");
        let text = self.text().strip_suffix("\n\n").expect("the end of an event");
        let events = text.split("\n\n").filter(|event| !event.starts_with(':'));
        events.map(|event| event.strip_prefix("data: ").expect("data").to_owned()).collect()
    }

    /// The chunks of a stream up to `[DONE]`.
    #[track_caller]
    pub fn chunks(&self) -> Vec<Value> {
        let events = self.events();
        let (last, chunks) = events.split_last().expect("events");
        assert_eq!(last, "[DONE]");
        chunks.iter().map(|chunk| serde_json::from_str(chunk).expect("JSON")).collect()
    }
}

impl Fixture {
    /// A server that gives the same answer to everything.
    pub fn new(answer: &str) -> Self {
        Setup::new(FakeAnswer::text(answer)).start()
    }

    pub async fn send(&self, request: Request<Body>) -> Answered {
        let response = self.server.router().oneshot(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Answered { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answered {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).expect("a request")).await
    }

    pub async fn get(&self, path: &str) -> Answered {
        self.request(Method::GET, path, &[], Body::empty()).await
    }

    pub async fn post(&self, path: &str, body: impl ToString) -> Answered {
        let headers = [("content-type", "application/json")];
        self.request(Method::POST, path, &headers, body.to_string()).await
    }

    pub async fn chat(&self, body: Value) -> Answered {
        self.post("/v1/chat/completions", body).await
    }

    pub async fn complete(&self, body: Value) -> Answered {
        self.post("/v1/completions", body).await
    }

    /// Waits until nothing is queued, runs or holds blocks.
    pub async fn wait_until_idle(&self) {
        wait_until("nothing runs", || {
            let stats = self.engine.handle().stats();
            stats.queued + stats.prefilling + stats.decoding + stats.used_blocks == 0
        })
        .await;
    }

    /// Waits until an answer is generated.
    pub async fn wait_until_running(&self) {
        wait_until("something runs", || self.engine.handle().stats().decoding > 0).await;
    }

    /// Serves on a free port.
    pub async fn listen(&self) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = self.server.clone();
        (address, tokio::spawn(async move { server.serve(listener).await }))
    }
}

/// Waits for a condition; fails after a minute.
pub async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..12_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("this did not come true: {what}");
}

/// The bytes of a chat request that ends its connection.
pub fn raw_chat(body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends bytes on a new connection and reads everything that comes back.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(bytes).await.expect("sent");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.expect("received");
    String::from_utf8(response).expect("UTF-8")
}

/// A setup whose steps take a while, for requests that are still running when something happens to them.
pub fn slow(answer: &str) -> Setup {
    let mut setup = Setup::new(FakeAnswer::text(answer));
    setup.fake.step_time = Duration::from_millis(5);
    setup
}

/// An answer that takes many steps.
pub fn long_answer() -> String {
    "The hill. ".repeat(60).trim_end().to_owned()
}
