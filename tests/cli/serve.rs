//! `serve`: what it refuses, what it says first, and that it answers and ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command};

use serde_json::{Value, json};

use crate::program::Program;

/// A running server.
struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
    address: String,
    /// What it has written before it was ready.
    first_lines: String,
}

impl Server {
    /// Starts the program on a free port and waits until it is ready.
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr"));
        let mut first_lines = String::new();
        while !first_lines.ends_with("ready\n") && !first_lines.contains("\"message\":\"ready\"") {
            let read = stderr.read_line(&mut first_lines).expect("UTF-8");
            assert!(read > 0, "the server ended: {first_lines}");
        }
        let (_, rest) = first_lines.split_once("listening on http://").expect("an address");
        let address = rest.split([',', '"']).next().expect("an address").to_owned();
        Self { child, stderr, address, first_lines }
    }

    /// Sends a request with a body of JSON, or none, and returns the status and the body.
    fn request(&self, method: &str, path: &str, headers: &str, body: &Value) -> (u16, String) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("received");
        let (head, body) = response.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        (status, body.to_owned())
    }

    /// Sends a signal, waits for the end, and returns the exit code and what was written since the start.
    #[cfg(unix)]
    fn stop(mut self, signal: &str) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args([signal, &pid]).status().expect("kill");
        assert!(killed.success());
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).expect("UTF-8");
        let code = self.child.wait().expect("an end").code();
        (code, rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(program: &Program, more: &[&str]) -> Command {
    let listen: &[&str] =
        if more.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
    let mut command = program.command(&[&["serve"], listen, more].concat());
    for name in ["LLAMA_ADAPTER_API_KEY", "LLAMA_ADAPTER_API_KEYS", "LLAMA_ADAPTER_LOG"] {
        command.env_remove(name);
    }
    command
}

#[cfg(unix)]
#[test]
fn without_options_the_built_in_model_and_its_adapter_answer() {
    let program = Program::new();
    let server = Server::start(serve(&program, &[]));
    let first = &server.first_lines;
    for line in [
        "loading the built-in model",
        "\nmodels   tiny-llama, tiny-llama:instructions\n",
        "\ncache    ",
        "\naccess   everyone on this machine, without a key\n",
        "\npage     http://127.0.0.1:",
        "\ntry      curl http://127.0.0.1:",
    ] {
        assert!(first.contains(line), "{line}\n{first}");
    }
    let ask = json!({
        "model": "tiny-llama:instructions", "temperature": 0,
        "messages": [{"role": "user", "content": "Say what Ada does for a living."}],
    });
    let (status, body) = server.request("POST", "/v1/chat/completions", "", &ask);
    assert_eq!(status, 200, "{body}");
    let answer = serde_json::from_str::<Value>(&body).unwrap();
    assert_eq!(
        answer["choices"][0]["message"]["content"].as_str().unwrap().trim(),
        "Ada is a farmer."
    );
    for (path, expected) in [("/health/ready", "ok"), ("/", "<"), ("/metrics", "llama_adapter_")] {
        let (status, body) = server.request("GET", path, "", &Value::Null);
        assert!(status == 200 && body.contains(expected), "{path}: {status} {body}");
    }
    let (code, log) = server.stop("-TERM");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopping"), "{log}");
    assert!(log.contains("POST") && !log.contains("Ada"), "prompts are not logged: {log}");
}

#[cfg(unix)]
#[test]
fn keys_names_and_logs_can_be_chosen() {
    let program = Program::new();
    let keys = program.path("keys");
    std::fs::write(&keys, "# keys\nalpha\nadmin omega\n").unwrap();
    let options = [
        "--api-key-file",
        &keys,
        "--served-name",
        "mine",
        "--log",
        "json",
        "--log-prompts",
        "--no-page",
        "--cache-bytes",
        "1MiB",
        "--max-rows",
        "2",
        "--prefill-chunk",
        "64",
        "--prompt-template",
        "raw",
    ];
    let server = Server::start(serve(&program, &options));
    for line in server.first_lines.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
    let key = "Authorization: Bearer alpha\r\n";
    let ask = json!({"model": "mine", "max_tokens": 2, "messages": [{"role": "user", "content": "The hill"}]});
    assert_eq!(server.request("POST", "/v1/chat/completions", "", &ask).0, 401);
    assert_eq!(server.request("POST", "/v1/chat/completions", key, &ask).0, 200);
    assert_eq!(server.request("GET", "/", "", &Value::Null).0, 404);
    assert_eq!(server.request("GET", "/admin/adapters", key, &Value::Null).0, 403);
    let admin = "Authorization: Bearer omega\r\n";
    assert_eq!(server.request("GET", "/admin/adapters", admin, &Value::Null).0, 200);
    let (code, log) = server.stop("-INT");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("The hill"), "{log}");
    assert!(!log.contains("omega") && !log.contains("alpha"), "keys are not logged: {log}");
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn addresses_that_others_reach_need_a_key() {
    let program = Program::new();
    let refused = |more: &[&str]| {
        let mut command = serve(&program, more);
        command.env("LLAMA_ADAPTER_API_KEY", "");
        crate::program::run_to_end(command, "")
    };
    let error = refused(&["--listen", "0.0.0.0:0"]).fails(2);
    assert!(
        error.starts_with("error: without an API key, everyone who reaches 0.0.0.0:0"),
        "{error}"
    );
    assert!(
        error.contains("hint: pass --api-key-file or set LLAMA_ADAPTER_API_KEYS; --insecure"),
        "{error}"
    );
}

#[test]
fn a_wrong_key_file_is_refused_without_its_keys() {
    let program = Program::new();
    let keys = program.path("keys");
    let run = |more: &[&str]| crate::program::run_to_end(serve(&program, more), "");
    std::fs::write(&keys, "good\ntop secret\n").unwrap();
    let error = run(&["--api-key-file", &keys]).fails(2);
    assert!(error.contains("keys") && error.contains("line 2: a key has visible ASCII"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    std::fs::write(&keys, "# none\n").unwrap();
    assert!(run(&["--api-key-file", &keys]).fails(2).contains(": no API key\nhint: put a key"));
    let missing = program.path("missing");
    assert!(run(&["--api-key-file", &missing]).fails(1).contains("missing: cannot read"));
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_is_loaded() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let program = Program::new();
    let run = crate::program::run_to_end(serve(&program, &["--listen", &address]), "");
    assert!(!run.stderr.contains("loading"), "{}", run.stderr);
    let error = run.fails(1);
    assert!(error.starts_with(&format!("error: cannot listen on {address}")), "{error}");
    assert!(error.contains("hint: another program listens there"), "{error}");
}

#[test]
fn wrong_options_are_refused() {
    let program = Program::new();
    let run = |more: &[&str]| crate::program::run_to_end(serve(&program, more), "").fails(2);
    for (option, value, expected) in [
        ("--listen", "nowhere", "is not an address to listen on"),
        ("--cache-bytes", "lots", "such as 8GiB"),
        ("--cache-bytes", "1KiB", "too small"),
        ("--max-rows", "0", "max_rows is 0"),
        ("--prefill-chunk", "0", "expected auto or a number"),
        ("--prompt-template", "poem", "expected alpaca, chat, chatml"),
        ("--prompt-template", "chat", "the model has no chat template"),
        ("--prompt-template", "other=chat", "no --adapter is called `other`"),
        ("--max-connections", "0", "at least 1"),
        ("--request-seconds", "0", "1.."),
        ("--served-name", "two words", "not a name of a model"),
    ] {
        let error = run(&[option, value]);
        assert!(error.contains(expected), "{option} {value}: {error}");
    }
    let missing = program.path("missing");
    let outcome = crate::program::run_to_end(serve(&program, &["--adapter", &missing]), "");
    assert_ne!(outcome.code, Some(0));
    assert!(outcome.stderr.contains("error: adapter `missing`"), "{}", outcome.stderr);
}
