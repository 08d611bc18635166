//! `batch`: requests in OpenAI's batch format, answered, continued, refused.

use std::fs::{self, OpenOptions};
use std::io::Write;

use serde_json::{Value, json};

use crate::program::{Outcome, Program};

fn request(name: &str, body: &Value) -> String {
    let request =
        json!({ "custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body });
    format!("{request}\n")
}

fn question(text: &str) -> Value {
    json!({
        "model": "base:instructions", "temperature": 0, "max_tokens": 8,
        "messages": [{ "role": "user", "content": text }],
    })
}

/// A batch of four questions, `a` to `d`.
fn questions() -> String {
    let texts = [
        "Say what Ada does for a living.",
        "Tell me whose pet Nutmeg is.",
        "Who is Tess?",
        "Who is Ada?",
    ];
    ["a", "b", "c", "d"]
        .iter()
        .zip(texts)
        .map(|(name, text)| request(name, &question(text)))
        .collect()
}

struct Batch(Program);

impl Batch {
    fn new(requests: &str) -> Self {
        let program = Program::new();
        fs::write(program.path("in.jsonl"), requests).unwrap();
        Self(program)
    }

    fn run(&self, more: &[&str]) -> Outcome {
        let (input, output) = (self.0.path("in.jsonl"), self.0.path("out.jsonl"));
        let args = ["batch", &input, &output, "--quiet", "--cache-bytes", "8MiB"];
        self.0.run(&[&args[..], more].concat())
    }

    fn text(&self) -> String {
        fs::read_to_string(self.0.path("out.jsonl")).unwrap()
    }

    fn write_output(&self, text: &str) {
        fs::write(self.0.path("out.jsonl"), text).unwrap();
    }

    /// The responses by name.
    fn responses(&self) -> Vec<Value> {
        let mut lines: Vec<Value> =
            self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.sort_by_key(|line| line["custom_id"].as_str().unwrap().to_owned());
        lines
    }
}

fn content(response: &Value) -> &str {
    response["response"]["body"]["choices"][0]["message"]["content"].as_str().unwrap()
}

#[test]
fn every_request_has_a_line_with_its_answer() {
    let batch = Batch::new(&questions());
    assert_eq!(batch.run(&[]).ok(), "");
    let responses = batch.responses();
    let names: Vec<_> = responses.iter().map(|line| line["custom_id"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    for line in &responses {
        assert_eq!(crate::program::keys(line), ["id", "custom_id", "response", "error"]);
        assert_eq!(line["response"]["status_code"], 200);
        assert_eq!(line["response"]["body"]["object"], "chat.completion");
        assert_eq!(line["error"], Value::Null);
    }
    assert_eq!(content(&responses[0]), "Ada is a farmer.");
}

#[test]
fn a_second_run_answers_only_what_is_missing() {
    let batch = Batch::new(&questions());
    batch.run(&[]).ok();
    let all = batch.responses();
    let kept = all[1].to_string() + "\n";
    // A run that was killed leaves the last line without its end.
    batch.write_output(&(kept.clone() + &all[2].to_string()[..40]));
    batch.run(&[]).ok();
    assert!(batch.text().starts_with(&kept), "{}", batch.text());
    let again = batch.responses();
    assert_eq!(again[1], all[1]);
    assert_eq!(
        again.iter().map(content).collect::<Vec<_>>(),
        all.iter().map(content).collect::<Vec<_>>()
    );
    assert_ne!(again[2]["id"], all[2]["id"]);

    let complete = batch.text();
    batch.run(&[]).ok();
    assert_eq!(batch.text(), complete);
}

#[test]
fn failed_requests_have_a_response_and_are_asked_again_on_request() {
    let unknown = request("x", &json!({ "model": "none", "messages": [] }));
    let batch = Batch::new(&(questions() + &unknown));
    let error = batch.run(&[]).fails(1);
    assert!(error.starts_with("error: 1 of 5 requests failed: see "), "{error}");
    assert!(error.contains("hint: --retry-errors"), "{error}");
    let failed = &batch.responses()[4];
    assert!([400, 404].contains(&failed["response"]["status_code"].as_u64().unwrap()), "{failed}");
    assert!(failed["response"]["body"]["error"]["message"].is_string(), "{failed}");

    batch.run(&[]).fails(1);
    assert_eq!(batch.responses()[4]["id"], failed["id"], "left as it is");
    // The same names, with a good request in place of the wrong one.
    fs::write(batch.0.path("in.jsonl"), questions() + &request("x", &question("Who is Tess?")))
        .unwrap();
    let before = batch.responses();
    batch.run(&["--retry-errors"]).ok();
    let after = batch.responses();
    assert_eq!(after[..4], before[..4]);
    assert_eq!(after[4]["response"]["status_code"], 200);
    assert_eq!(after.len(), 5);
}

#[test]
fn a_wrong_line_is_reported_before_anything_is_computed() {
    let check = |requests: String, expected: &str| {
        let batch = Batch::new(&requests);
        let error = batch.run(&[]).fails(1);
        assert!(error.contains(expected), "{error}");
        assert!(!fs::exists(batch.0.path("out.jsonl")).unwrap());
    };
    check(questions() + "{}\n", "in.jsonl: line 5: expected {");
    check(questions() + "\n" + &questions(), "in.jsonl: line 6: custom_id `a` is that of line 1");
    check(questions().replace("chat/completions", "embeddings"), "line 1: url is `/v1/embeddings`");
}

#[test]
fn results_of_something_else_are_left_untouched() {
    let batch = Batch::new(&questions());
    for (text, expected) in [
        ("notes\n", "out.jsonl: line 1: not the result of a batch"),
        (
            "{\"id\": \"1\", \"custom_id\": \"other\", \"response\": null, \"error\": null}\n",
            "it has a result for `other`, which is not in ",
        ),
    ] {
        batch.write_output(text);
        let error = batch.run(&[]).fails(1);
        assert!(error.contains(expected), "{error}");
        assert_eq!(batch.text(), text);
    }
}

#[test]
fn a_result_that_is_in_use_is_left_untouched() {
    let batch = Batch::new(&questions());
    let lock = OpenOptions::new().create(true).append(true).open(batch.0.path("out.jsonl.lock"));
    let mut lock = lock.unwrap();
    lock.lock().unwrap();
    lock.flush().unwrap();
    let error = batch.run(&[]).fails(1);
    assert!(error.contains("out.jsonl: another batch is writing to it"), "{error}");
}

#[test]
fn progress_is_lines_where_there_is_no_terminal() {
    let batch = Batch::new(&questions());
    let (input, output) = (batch.0.path("in.jsonl"), batch.0.path("out.jsonl"));
    let outcome = batch.0.run(&["batch", &input, &output, "--cache-bytes", "8MiB"]);
    assert!(outcome.stderr.contains("4/4 requests  "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(" tokens/s"), "{}", outcome.stderr);
    outcome.ok();
}

/// Ctrl-C is a signal, which only Unix sends to another process.
#[cfg(unix)]
#[test]
fn after_ctrl_c_the_running_requests_are_answered_and_the_others_left() {
    let many =
        (0..400).map(|n| request(&n.to_string(), &question("Who is Ada?"))).collect::<String>();
    let batch = Batch::new(&many);
    let (input, output) = (batch.0.path("in.jsonl"), batch.0.path("out.jsonl"));
    let args = ["batch", &input, &output, "--concurrency", "4", "--quiet", "--cache-bytes", "8MiB"];
    let mut child = batch.0.command(&args).spawn().unwrap();
    while fs::read(&output).is_ok_and(|bytes| bytes.is_empty()) || !fs::exists(&output).unwrap() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let done = batch.responses().len();
    assert!((1..400).contains(&done), "{done}");
    assert!(batch.text().ends_with('\n'));
    assert!(batch.responses().iter().all(|line| line["response"]["status_code"] == 200));
}
