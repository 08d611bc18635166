//! Training data: formats, skipped rows, errors.

use serde_json::{Value, json};

use crate::program::Program;

/// Writes a data file and returns the arguments of a short run with it.
fn train_args(program: &Program, name: &str, text: impl AsRef<[u8]>) -> Vec<String> {
    let path = program.folder().join(name);
    std::fs::write(&path, text).expect("written");
    let output = program.folder().join("run");
    let path = path.to_str().expect("a UTF-8 path");
    let output = output.to_str().expect("a UTF-8 path");
    let args = ["train", "--data", path, "--output", output];
    let short = ["--max-steps", "1", "--eval-fraction", "0", "--exact-match-rows", "0"];
    args.iter().chain(&short).map(|arg| (*arg).to_owned()).collect()
}

fn run(program: &Program, args: &[String], more: &[&str]) -> crate::program::Outcome {
    let args = args.iter().map(String::as_str).chain(more.iter().copied());
    program.run(&args.collect::<Vec<_>>())
}

/// Four rows: a valid one, and ones with an empty output, a long prompt and a number as output.
fn rows_with_defects() -> String {
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
fn the_json_summary_counts_skipped_rows_with_quiet() {
    let program = Program::new();
    let outcome =
        run(&program, &train_args(&program, "rows.jsonl", rows_with_defects()), &["--quiet"]);
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
fn skipped_rows_and_unused_fields_are_reported_once() {
    let program = Program::new();
    let outcome = run(&program, &train_args(&program, "rows.jsonl", rows_with_defects()), &[]);
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
fn empty_outputs_are_kept_on_request() {
    let program = Program::new();
    let args = train_args(&program, "rows.jsonl", rows_with_defects());
    let rows = run(&program, &args, &["--empty-outputs", "keep"]).json()["rows"].clone();
    assert_eq!((&rows["train"], &rows["left_out"]), (&json!(3), &json!({"too_long": 1})));
}

#[test]
fn eval_counts_the_skipped_rows() {
    let program = Program::new();
    let data = program.folder().join("rows.jsonl");
    std::fs::write(&data, rows_with_defects()).expect("written");
    let args = ["eval", "--data", data.to_str().unwrap(), "--no-exact-match", "--json"];
    let found = program.run(&args).json();
    assert_eq!(found["rows"], 3);
    assert_eq!(found["left_out"], json!({"empty_output": 1, "too_long": 1}));
    assert_eq!(found["unused_fields"], json!({"id": 4}));
}

#[test]
fn a_binary_data_file_is_reported_with_a_hint() {
    let program = Program::new();
    let args = train_args(&program, "rows.jsonl.xz", b"\xfd7zXZ\0and more");
    let error = run(&program, &args, &[]).fails(1);
    assert!(error.contains("rows.jsonl.xz: this is an xz archive, not rows of data\n"), "{error}");
    assert!(error.ends_with("hint: unpack it first\n"), "{error}");
}

#[test]
fn common_conversation_formats_are_read() {
    let program = Program::new();
    let message = |from: &str, value: &str| json!({"from": from, "value": value});
    let rows = json!([
        {"conversations": [message("system", "Be kind."), message("human", "hi"), message("gpt", "ho")]},
        {"conversations": [message("gpt", "Welcome."), message("human", "hi"), message("gpt", "ho")]},
        {"conversations": [message("human", "hi"), message("gpt", "ho"), message("human", "bye")]},
    ]);
    let args = train_args(&program, "rows.json", rows.to_string());
    let rows = run(&program, &args, &["--quiet"]).json()["rows"].clone();
    assert_eq!(rows["train"], 3);
    assert_eq!(rows["changes"], json!({"answer_first": 1, "question_last": 1}));
}

#[cfg(unix)]
#[test]
fn paths_need_not_be_utf_8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let program = Program::new();
    let folder = program.folder().join(OsStr::from_bytes(b"d\xff"));
    std::fs::create_dir(&folder).expect("a new folder");
    let row = json!({"instruction": "a", "output": "b"}).to_string();
    std::fs::write(folder.join("rows.jsonl"), row).expect("written");
    let train = |output: &str, more: &dyn Fn(&mut std::process::Command)| {
        let args = ["train", "--max-steps", "1", "--exact-match-rows", "0", "--data"];
        let mut command = program.command(&args);
        command.arg(folder.join("rows.jsonl")).arg("--eval-data").arg(folder.join("rows.jsonl"));
        command.arg("--output").arg(folder.join(output));
        more(&mut command);
        crate::program::run_to_end(command, "").json()
    };
    let found = train("first", &|_command| {});
    assert!(found["output"].as_str().unwrap().ends_with("d\u{fffd}/first"), "{found}");
    train("second", &|command| {
        command.arg("--from-adapter").arg(folder.join("first"));
    });
    let run = std::fs::read_to_string(folder.join("second/run.json")).expect("the settings");
    assert!(run.contains("d\u{fffd}/rows.jsonl"), "{run}");
    for args in [&["inspect", "--json"][..], &["inspect"], &["list"]] {
        let mut command = program.command(args);
        command.arg(folder.join("second"));
        crate::program::run_to_end(command, "").ok();
    }
    let adapter = folder.join("second");
    let mut command = program.command(&["generate", "-p", "a", "--max-new-tokens", "1"]);
    command.arg("--adapter").arg(&adapter);
    crate::program::run_to_end(command, "").ok();
    let model = folder.join("model");
    std::fs::rename(program.chat_model(256), &model).expect("moved");
    let mut command = program.command(&["generate", "-p", "a", "--max-new-tokens", "1"]);
    command.arg("--model").arg(model);
    crate::program::run_to_end(command, "").ok();
}
