//! Prompt templates: the default of `train`, what the adapter's folder keeps, and who uses it.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Outcome, Program, tiny_llama};

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

/// A conversation with two responses.
fn conversation() -> String {
    let turns = [("user", "Hi."), ("assistant", "Hello."), ("user", "Who?"), ("assistant", "Ada.")];
    json!({"messages": turns.map(|(role, text)| message(role, text))}).to_string()
}

/// A short run on these rows; its output is `run`.
fn train(program: &Program, rows: &str, more: &[&str]) -> Outcome {
    let data = program.path("rows.jsonl");
    std::fs::write(&data, rows).expect("written");
    let output = program.path("run");
    let args = ["train", "--data", &data, "--output", &output, "--max-steps", "1"];
    let short = ["--eval-fraction", "0", "--exact-match-rows", "0", "--quiet"];
    program.run(&[&args[..], &short, more].concat())
}

fn stored(folder: &str) -> Option<Value> {
    let text = std::fs::read_to_string(Path::new(folder).join("prompt_format.json")).ok()?;
    Some(serde_json::from_str(&text).expect("JSON"))
}

/// Number of prompt tokens of a text.
fn prompt_tokens(program: &Program, more: &[&str]) -> Value {
    let args = ["generate", "--max-new-tokens", "1", "--json", "-p", "Hi."];
    program.run(&[&args[..], more].concat()).json()["prompt_tokens"].clone()
}

fn tokenized(program: &Program, more: &[&str]) -> Value {
    program.run(&[&["tokenize", "Hi.", "--json"][..], more].concat()).json()
}

#[test]
fn conversations_use_the_models_chat_template_and_the_adapter_keeps_it() {
    let program = Program::new();
    let model = program.chat_model(256);
    let summary = train(&program, &conversation(), &["--model", &model]).json();
    assert_eq!(summary["rows"]["train"], 1);
    let run = program.path("run");
    assert_eq!(stored(&run).unwrap(), json!({"template": "chat"}));
    let found = prompt_tokens(&program, &["--model", &model, "--adapter", &run]);
    let expected = tokenized(&program, &["--model", &model, "--prompt-template", "chat"]);
    assert_eq!(found, expected["count"]);
}

#[test]
fn instructions_and_models_without_a_template_use_alpaca() {
    let program = Program::new();
    let model = program.chat_model(256);
    let rows = r#"{"instruction": "a", "output": "b", "history": [["c", "d"]]}"#;
    assert_eq!(train(&program, rows, &["--model", &model]).json()["rows"]["train"], 2);
    assert_eq!(stored(&program.path("run")), None);
    let program = Program::new();
    assert_eq!(train(&program, &conversation(), &[]).json()["rows"]["train"], 2);
    assert_eq!(stored(&program.path("run")), None);
}

#[test]
fn the_template_and_the_system_prompt_of_the_training_are_used_and_kept() {
    let program = Program::new();
    let own = ["--prompt-template", "chatml", "--system", "Be kind."];
    let summary = train(&program, &conversation(), &own).json();
    assert_eq!(summary["rows"]["train"], 1);
    let (run, peft) = (program.path("run"), program.path("peft"));
    program.run(&["convert", &run, &peft, "--format", "peft"]).ok();
    let expected = tokenized(&program, &own)["count"].clone();
    for folder in [&run, &peft] {
        assert_eq!(stored(folder).unwrap(), json!({"template": "chatml", "system": "Be kind."}));
        assert_eq!(prompt_tokens(&program, &["--adapter", folder]), expected);
        let report = program.run(&["inspect", folder]).ok();
        assert!(report.contains("template    chatml, system prompt \"Be kind.\"\n"), "{report}");
    }
    let raw = prompt_tokens(&program, &["--adapter", &run, "--raw"]);
    assert_eq!(raw, tokenized(&program, &[])["count"]);
    let other = ["--prompt-template", "mistral", "--system", "No."];
    let found = prompt_tokens(&program, &[&["--adapter", &run][..], &other].concat());
    assert_eq!(found, tokenized(&program, &other)["count"]);
    let pth = program.path("a.pth.adapter");
    let error = program.run(&["convert", &run, &pth]).fails(1);
    assert!(error.contains("the prompt template `chatml` with its system prompt"), "{error}");
}

#[test]
fn a_template_of_a_file_is_part_of_the_adapter() {
    let program = Program::new();
    let template = program.path("mine.jinja");
    let source = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}\
                  {% if add_generation_prompt %}assistant: {% endif %}";
    std::fs::write(&template, source).expect("written");
    train(&program, &conversation(), &["--prompt-template", &template]).ok();
    let expected = tokenized(&program, &["--prompt-template", &template])["count"].clone();
    std::fs::remove_file(&template).expect("removed");
    let run = program.path("run");
    assert_eq!(stored(&run).unwrap(), json!({"template": "mine.jinja", "source": source}));
    assert_eq!(prompt_tokens(&program, &["--adapter", &run]), expected);
}

#[test]
fn a_template_that_does_not_show_the_assistants_turns_is_refused_with_a_hint() {
    let program = Program::new();
    let template = program.path("mine.jinja");
    let source = "{% for m in messages %}{{ m.content if loop.last }}{% endfor %}";
    std::fs::write(&template, source).expect("written");
    let error = train(&program, &conversation(), &["--prompt-template", &template]).fails(1);
    assert!(
        error.starts_with("error: the row `Who?`: chat template: the assistant's turns"),
        "{error}"
    );
    assert!(error.contains("hint: put {% generation %} and {% endgeneration %} around"), "{error}");
    std::fs::write(&template, "{{ messages").expect("written");
    let error = train(&program, &conversation(), &["--prompt-template", &template]).fails(2);
    assert!(error.contains("syntax error"), "{error}");
    let error = train(&program, &conversation(), &["--prompt-template", "vicuna"]).fails(2);
    assert!(error.contains(
        "expected alpaca, chat, chatml, llama-2, llama-3, mistral, raw, plain, or a file"
    ));
}

#[test]
fn the_loss_is_on_the_chosen_turns() {
    let labels = |loss_on: &str| {
        let program = Program::new();
        let args = ["--prompt-template", "chatml", "--loss-on", loss_on];
        train(&program, &conversation(), &args).ok();
        let log = crate::training::log(&program.folder().join("run"));
        log.iter().find_map(|entry| entry["labels"].as_u64()).expect("a step")
    };
    let [last, all, everything] = ["last", "all", "everything"].map(labels);
    assert!(last < all && all < everything, "{last}, {all}, {everything}");
}

#[test]
fn a_run_resumes_with_its_own_template_only() {
    let program = Program::new();
    train(&program, &conversation(), &["--prompt-template", "chatml"]).ok();
    let resume = |template: &str| {
        train(&program, &conversation(), &["--resume", "--prompt-template", template])
    };
    resume("chatml").ok();
    let error = resume("llama-3").fails(1);
    assert!(error.contains("prompt.template: then \"chatml\", now \"llama-3\""), "{error}");
}

#[test]
fn every_kind_of_row_is_read() {
    let program = Program::new();
    let rows = [
        json!({"instruction": "a", "output": "b"}),
        json!({"prompt": "a", "chosen": "b", "rejected": "c"}),
        json!({"text": "Once upon a time."}),
    ];
    let rows = rows.map(|row| row.to_string() + "\n").concat() + &conversation();
    let data = program.path("rows.jsonl");
    std::fs::write(&data, rows).expect("written");
    let args = ["eval", "--data", &data, "--no-exact-match", "--json"];
    let outcome = program.run(&args);
    let kinds = "rows.jsonl: 1 instruction, 1 conversation, 1 preference pair, 1 plain text\n";
    assert!(outcome.stderr.contains(kinds), "{}", outcome.stderr);
    let found = outcome.json();
    assert_eq!(found["rows"], 5);
    assert_eq!(found["changes"], json!({"chosen_answer": 1}));
}

#[test]
fn eval_uses_the_template_of_the_adapter() {
    let program = Program::new();
    train(&program, &conversation(), &["--prompt-template", "chatml"]).ok();
    let (run, data) = (program.path("run"), program.path("rows.jsonl"));
    let eval = |more: &[&str]| {
        let args = ["eval", "--data", &data, "--no-exact-match", "--json", "--adapter", &run];
        program.run(&[&args[..], more].concat()).json()
    };
    let (own, alpaca) = (eval(&[]), eval(&["--prompt-template", "alpaca"]));
    assert_eq!((&own["rows"], &alpaca["rows"]), (&json!(1), &json!(2)));
    assert_ne!(own["base"]["loss"], alpaca["base"]["loss"]);
}

#[test]
fn tokenize_prints_ids_and_pieces() {
    let program = Program::new();
    let text = program.run(&["tokenize", "The plural\nof"]).ok();
    let lines = text.lines().collect::<Vec<_>>();
    assert_eq!(lines[0], "   0  <|begin|>");
    assert!(lines.iter().any(|line| line.ends_with("  Ċ")), "{text}");
    let found = program.run(&["tokenize", "The plural\nof", "--json"]).json();
    assert_eq!(crate::program::keys(&found), ["count", "ids", "pieces"]);
    assert_eq!(found["count"], lines.len());
    let piped = program.run_with_input(&["tokenize", "--json"], "The plural\nof").json();
    assert_eq!(piped, found);
    let file = program.path("text.txt");
    std::fs::write(&file, "The plural\nof").expect("written");
    let model = tiny_llama();
    let args = ["tokenize", "--json", "--file", &file, "--model", model.to_str().unwrap()];
    assert_eq!(program.run(&args).json(), found);
    std::fs::write(&file, b"a\xff").expect("written");
    let error = program.run(&args).fails(2);
    assert!(error.contains("text.txt: not UTF-8: byte 1"), "{error}");
}
