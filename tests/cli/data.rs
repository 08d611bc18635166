//! Rows as people have them: what is read, what is left out and said, what is refused.

use serde_json::{Value, json};

use crate::program::Program;

/// Writes a file of data and gives the words of a short run with it.
fn train(program: &Program, name: &str, text: impl AsRef<[u8]>) -> Vec<String> {
    let path = program.folder().join(name);
    std::fs::write(&path, text).expect("written");
    let output = program.folder().join("run");
    let path = path.to_str().expect("a UTF-8 path");
    let output = output.to_str().expect("a UTF-8 path");
    let words = ["train", "--data", path, "--output", output];
    let short = ["--max-steps", "1", "--eval-fraction", "0", "--exact-match-rows", "0"];
    words.iter().chain(&short).map(|word| (*word).to_owned()).collect()
}

fn run(program: &Program, words: &[String], more: &[&str]) -> crate::program::Outcome {
    let words = words.iter().map(String::as_str).chain(more.iter().copied());
    program.run(&words.collect::<Vec<_>>())
}

/// Rows of which one has no output, one too long a prompt, and one a number as output.
fn mixed() -> String {
    let row = |instruction: &str, output: Value| json!({"id": 7, "instruction": instruction, "output": output});
    let rows = [
        row("Name a colour.", json!("Red.")),
        row("Say nothing.", json!("")),
        row(&"Listen. ".repeat(300), json!("Yes.")),
        row("Add 2 and 2.", json!(4)),
    ];
    rows.map(|row| row.to_string() + "\n").concat()
}

#[test]
fn the_closing_json_counts_the_rows_left_out_even_if_nothing_else_is_said() {
    let program = Program::new();
    let outcome = run(&program, &train(&program, "rows.jsonl", mixed()), &["--quiet"]);
    assert_eq!(outcome.stderr, "");
    assert_eq!(
        outcome.json()["rows"],
        json!({
            "train": 2, "eval": 0, "cut": 0, "left_out": {"empty_output": 1, "too_long": 1},
            "changes": {"number_as_text": 1}, "unused_fields": {"id": 4}
        })
    );
}

#[test]
fn what_is_left_out_or_not_used_is_told_once() {
    let program = Program::new();
    let outcome = run(&program, &train(&program, "rows.jsonl", mixed()), &[]);
    for line in [
        "rows.jsonl: 1 row is left out: the answer is empty (line 2)\n",
        "rows.jsonl: 1 number or boolean is used as its JSON text (line 4)\n",
        "rows.jsonl: unused fields: id (4)\n",
    ] {
        assert_eq!(outcome.stderr.matches(line).count(), 1, "{}", outcome.stderr);
    }
    outcome.json();
}

#[test]
fn the_end_alone_is_learned_when_told_to() {
    let program = Program::new();
    let words = train(&program, "rows.jsonl", mixed());
    let rows = run(&program, &words, &["--empty-outputs", "learn"]).json()["rows"].clone();
    assert_eq!((&rows["train"], &rows["left_out"]), (&json!(3), &json!({"too_long": 1})));
}

#[test]
fn eval_counts_the_rows_left_out() {
    let program = Program::new();
    let data = program.folder().join("rows.jsonl");
    std::fs::write(&data, mixed()).expect("written");
    let words = ["eval", "--data", data.to_str().unwrap(), "--no-exact-match", "--json"];
    let found = program.run(&words).json();
    assert_eq!(found["rows"], 3);
    assert_eq!(found["left_out"], json!({"empty_output": 1, "too_long": 1}));
    assert_eq!(found["unused_fields"], json!({"id": 4}));
}

#[test]
fn a_file_that_is_no_text_is_named_with_a_way_out() {
    let program = Program::new();
    let words = train(&program, "rows.jsonl.gz", b"\x1f\x8b\x08\0and more");
    let error = run(&program, &words, &[]).fails(1);
    assert!(error.contains("rows.jsonl.gz: this is a gzip archive, not rows of data\n"), "{error}");
    assert!(error.ends_with("hint: unpack it first\n"), "{error}");
}

#[test]
fn conversations_as_others_write_them_are_read() {
    let program = Program::new();
    let said = |from: &str, value: &str| json!({"from": from, "value": value});
    let rows = json!([
        {"conversations": [said("system", "Be kind."), said("human", "hi"), said("gpt", "ho")]},
        {"conversations": [said("gpt", "Welcome."), said("human", "hi"), said("gpt", "ho")]},
        {"conversations": [said("human", "hi"), said("gpt", "ho"), said("human", "bye")]},
    ]);
    let words = train(&program, "rows.json", rows.to_string());
    let rows = run(&program, &words, &["--quiet"]).json()["rows"].clone();
    assert_eq!(rows["train"], 3);
    assert_eq!(rows["changes"], json!({"answer_first": 1, "question_last": 1}));
}

#[cfg(unix)]
#[test]
fn paths_may_be_no_utf_8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let program = Program::new();
    let folder = program.folder().join(OsStr::from_bytes(b"d\xff"));
    std::fs::create_dir(&folder).expect("a new folder");
    let row = json!({"instruction": "a", "output": "b"}).to_string();
    std::fs::write(folder.join("rows.jsonl"), row).expect("written");
    let train = |output: &str, more: &dyn Fn(&mut std::process::Command)| {
        let words = ["train", "--max-steps", "1", "--exact-match-rows", "0", "--data"];
        let mut command = program.command(&words);
        command.arg(folder.join("rows.jsonl")).arg("--eval-data").arg(folder.join("rows.jsonl"));
        command.arg("--output").arg(folder.join(output));
        more(&mut command);
        crate::program::finish(command, "").json()
    };
    let found = train("first", &|_command| {});
    assert!(found["output"].as_str().unwrap().ends_with("d\u{fffd}/first"), "{found}");
    train("second", &|command| {
        command.arg("--from-adapter").arg(folder.join("first"));
    });
    let run = std::fs::read_to_string(folder.join("second/run.json")).expect("the settings");
    assert!(run.contains("d\u{fffd}/rows.jsonl"), "{run}");
    for words in [&["inspect", "--json"][..], &["inspect"], &["list"]] {
        let mut command = program.command(words);
        command.arg(folder.join("second"));
        crate::program::finish(command, "").ok();
    }
    let adapter = folder.join("second");
    let mut command = program.command(&["generate", "-p", "a", "--max-new-tokens", "1"]);
    command.arg("--adapter").arg(&adapter);
    crate::program::finish(command, "").ok();
    let model = folder.join("model");
    std::fs::rename(crate::program::chat_model(program.folder(), 256), &model).expect("moved");
    let mut command = program.command(&["generate", "-p", "a", "--max-new-tokens", "1"]);
    command.arg("--model").arg(model);
    crate::program::finish(command, "").ok();
}
