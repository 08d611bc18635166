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

#[test]
fn the_recognized_format_is_printed() {
    let program = Program::new();
    let args = train_args(&program, "rows", "instruction;output\na;b\nc;d\n");
    let outcome = run(&program, &args, &[]);
    let line = "rows: a table, separated by semicolons";
    assert_eq!(outcome.stderr.matches(line).count(), 1, "{}", outcome.stderr);
    outcome.json();
}

#[test]
fn columns_are_renamed_and_a_missing_one_is_named() {
    let program = Program::new();
    let args = train_args(&program, "rows.csv", "question,answer\na,b\nc,d\n");
    let columns = ["--columns", "instruction=question,output=answer", "--quiet"];
    assert_eq!(run(&program, &args, &columns).json()["rows"]["train"], 2);
    let error = run(&program, &args, &["--columns", "instruction=query"]).fails(2);
    assert!(
        error.contains("rows.csv: no column `query`; the file has `question`, `answer`"),
        "{error}"
    );
    let error = run(&program, &args, &["--columns", "question"]).fails(2);
    assert!(error.contains("expected FIELD=COLUMN"), "{error}");
}

#[test]
fn plain_text_needs_its_format() {
    let program = Program::new();
    let args = train_args(&program, "rows.txt", "a b\n\nc d\n");
    let error = run(&program, &args, &[]).fails(1);
    assert!(error.contains("hint: rows of plain text need --format text"), "{error}");
}

#[test]
fn invalid_records_are_skipped_on_request_and_written_to_a_file() {
    let program = Program::new();
    let row = json!({"instruction": "a", "output": "b"});
    let text = format!("{row}\n{{oops\n{{\"title\": 1}}\n{row}\n");
    let args = train_args(&program, "rows.jsonl", text);
    let error = run(&program, &args, &[]).fails(1);
    assert!(error.contains("rows.jsonl, line 2: not valid JSON"), "{error}");
    let rejected = program.path("bad.jsonl");
    let outcome = run(&program, &args, &[&format!("--skip-bad={rejected}")]);
    assert!(
        outcome.stderr.contains("2 invalid records were skipped; they are in "),
        "{}",
        outcome.stderr
    );
    let rows = outcome.json()["rows"].clone();
    assert_eq!((&rows["train"], &rows["left_out"]), (&json!(2), &json!({"invalid_record": 2})));
    let lines = std::fs::read_to_string(&rejected).expect("the rejected records");
    let lines = lines.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let lines = lines.collect::<Vec<Value>>();
    assert_eq!((&lines[0]["location"], &lines[0]["record"]), (&json!("line 2"), &json!("{oops")));
    assert_eq!(
        (&lines[1]["location"], &lines[1]["record"]),
        (&json!("line 3"), &json!({"title": 1}))
    );
    // A file with other content is not overwritten.
    std::fs::write(&rejected, "mine\n").expect("written");
    let again = run(&program, &args, &[&format!("--skip-bad={rejected}")]).fails(1);
    assert!(again.contains("bad.jsonl: this file exists"), "{again}");
}

#[test]
fn a_folder_of_shards_is_read_by_split() {
    let program = Program::new();
    let folder = program.folder().join("shards");
    std::fs::create_dir(&folder).expect("a new folder");
    let golden = |name: &str| testing::golden_folder().join("data").join(name);
    let copy = |name: &str, to: &str| std::fs::copy(golden(name), folder.join(to)).expect("copied");
    copy("instructions.parquet", "train-00000-of-00002.parquet");
    copy("chats.parquet", "train-00001-of-00002.parquet");
    copy("instructions.parquet", "validation-00000-of-00001.parquet");
    std::fs::write(folder.join("test-00000-of-00001.jsonl"), "not read").expect("written");
    let (data, output) = (program.path("shards"), program.path("run"));
    let args = ["train", "--data", &data, "--eval-data", &data, "--output", &output];
    let short = ["--max-steps", "1", "--exact-match-rows", "0", "--quiet"];
    let rows = program.run(&[&args[..], &short].concat()).json()["rows"].clone();
    assert_eq!((&rows["train"], &rows["eval"]), (&json!(4), &json!(2)));
    // The row without an output, of both splits.
    assert_eq!(rows["left_out"], json!({"empty_output": 2}));
}

#[test]
fn weights_set_the_shares_of_the_sources() {
    let program = Program::new();
    let file = |name: &str, count: usize| {
        let row =
            |n: usize| json!({"instruction": format!("{name} {n}"), "output": "x"}).to_string();
        let path = program.path(name);
        std::fs::write(&path, (0..count).map(row).collect::<Vec<_>>().join("\n")).expect("written");
        path
    };
    let (a, b) = (file("a=b.jsonl", 4), file("b.jsonl", 12));
    let train = |weights: [&str; 2], output: &str| {
        let sources = [format!("{a}{}", weights[0]), format!("{b}{}", weights[1])];
        let output = program.path(output);
        let args = ["train", "--data", &sources[0], &sources[1], "--output", &output];
        let short = ["--epochs", "1", "--batch-size", "4", "--eval-fraction", "0", "--quiet"];
        program.run(&[&args[..], &short].concat())
    };
    let mixed = train(["=0.75", "=0.25"], "mixed").json();
    // An epoch has as many examples as there are.
    assert_eq!((&mixed["steps"], &mixed["rows"]["train"]), (&json!(4), &json!(16)));
    assert_ne!(mixed["train_loss"], train(["", ""], "plain").json()["train_loss"]);
    assert_eq!(mixed["train_loss"], train(["=3", "=1"], "same").json()["train_loss"]);
    let error = train(["=0.75", ""], "none").fails(2);
    assert!(error.contains("expected a weight for every source, or for none"), "{error}");
}

#[test]
fn a_data_set_of_the_hub_that_cannot_be_reached_is_named() {
    let program = Program::new();
    let output = program.path("run");
    let args = ["train", "--data", "hub:owner/name", "--output", &output];
    let error = program.run(&args).fails(1);
    assert!(error.contains("hub:owner/name: cannot fetch the list of files"), "{error}");
    let error = program.run(&["train", "--data", "hub:", "--output", &output]).fails(2);
    assert!(error.contains("expected hub:owner/name"), "{error}");
}
