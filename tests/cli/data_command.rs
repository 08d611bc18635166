//! `data`: what a model will see of data.

use serde_json::{Value, json};

use crate::program::Program;

/// Four rows: the second one is cut at 64 tokens, the third is the first again, and the last is skipped.
fn rows(program: &Program) -> String {
    let long = vec!["red"; 60].join(" ");
    let rows = [
        json!({"instruction": "Say what Ada does for a living.", "output": "Ada is a farmer."}),
        json!({"instruction": "Repeat this.", "output": long}),
        json!({"instruction": "Say what Ada  does for a living.", "output": "Ada is a farmer. "}),
        json!({"instruction": "Say nothing.", "output": ""}),
    ];
    let path = program.path("rows.jsonl");
    let text = rows.map(|row| format!("{row}\n")).concat();
    std::fs::write(&path, text).expect("written");
    path
}

#[test]
fn the_report_counts_lengths_cuts_and_duplicates() {
    let program = Program::new();
    let rows = rows(&program);
    let found = program.run(&["data", &rows, "--max-len", "64", "--json"]).json();
    let counts = ["rows", "complete", "cut", "left_out"].map(|key| &found[key]);
    assert_eq!(counts, [&json!(3), &json!(2), &json!(1), &json!({"empty_output": 1})]);
    assert_eq!(found["tokens"]["rows"], 3);
    assert!(found["tokens"]["max"].as_u64().unwrap() > 64);
    assert!(found["labels"]["max"].as_u64().unwrap() < 64);
    let duplicates = &found["duplicates"];
    assert_eq!((&duplicates["same"], &duplicates["similar"]), (&json!(1), &json!(0)));
    let first = &duplicates["first"][0];
    assert_eq!(
        (&first["row"], &first["of"], &first["kind"]),
        (&json!(3), &json!(1), &json!("same"))
    );
    assert_eq!(found["held_out"], Value::Null);

    let text = program.run(&["data", &rows, "--max-len", "64"]).ok();
    assert!(text.contains("\n3 rows\ntokens: "), "{text}");
    assert!(
        text.contains("at most 64 tokens: 2 rows complete, 1 cut at the end, 0 dropped"),
        "{text}"
    );
    assert!(text.contains("duplicates: 1 rows are the same as an earlier row"), "{text}");
}

#[test]
fn rows_are_printed_with_the_tokens_that_are_trained_on() {
    let program = Program::new();
    let rows = rows(&program);
    let run = |options: &[&str]| {
        program.run(&[&["data", &rows, "--rows", "1", "--max-len", "64"], options].concat()).ok()
    };
    let text = run(&[]);
    assert!(text.starts_with("--- row 1: "), "{text}");
    assert!(text.contains("### Response:⟦Ada is a farmer.<|end|>⟧\n"), "{text}");
    assert!(!text.contains("--- row 2") && !text.contains('\x1b'), "{text}");
    let colored = run(&["--color", "always"]);
    assert!(colored.contains("\x1b[1;32m") && !colored.contains('⟦'), "{colored}");
    // stdout is no terminal here, whatever NO_COLOR says.
    assert_eq!(run(&["--color", "never"]), text);
}

#[test]
fn rows_that_occur_in_the_held_out_data_are_found() {
    let program = Program::new();
    let rows = rows(&program);
    let held_out = program.path("held-out.jsonl");
    let row =
        json!({"instruction": "Say what Ada does for a living.", "output": "She is a farmer."});
    std::fs::write(&held_out, row.to_string()).expect("written");
    let args = ["data", &rows, "--eval-data", &held_out];
    let found = program.run(&[&args[..], &["--json"]].concat()).json();
    let leaks = &found["held_out"];
    assert_eq!((&leaks["same"], &leaks["same_prompt"]), (&json!(0), &json!(2)));
    assert_eq!((&leaks["first"][1]["row"], &leaks["first"][1]["of"]), (&json!(3), &json!(1)));
    let text = program.run(&args).ok();
    assert!(
        text.contains("held-out: 0 rows are the same as a held-out row, 2 have its prompt"),
        "{text}"
    );
}

#[test]
fn each_batching_has_its_padding_and_its_shared_tokens() {
    let program = Program::new();
    let rows = rows(&program);
    let args = ["data", &rows, "--max-len", "64", "--json", "--batch-size", "3"];
    let found = program.run(&args).json();
    let [single, batch, tokens] = [0, 1, 2].map(|index| &found["batching"][index]);
    assert_eq!((&single["batching"], &single["padding"]), (&json!("--batch-size 1"), &json!(0)));
    assert_eq!((&batch["batches"], &batch["tokens"]), (&json!(1), &single["tokens"]));
    let lengths = found["labels"]["rows"].as_u64().unwrap();
    assert_eq!(lengths, 3);
    let padded = batch["tokens"].as_u64().unwrap() + batch["padding"].as_u64().unwrap();
    assert_eq!(padded, 3 * 64);
    // Batches of similar rows are padded less.
    assert!(tokens["padding"].as_u64() < batch["padding"].as_u64(), "{found}");
    // The first and the third row are the same, and all begin alike.
    assert!(batch["shared_fraction"].as_f64().unwrap() > 0.3, "{found}");
}

#[test]
fn a_file_without_rows_is_refused() {
    let program = Program::new();
    let path = program.path("empty.jsonl");
    std::fs::write(&path, "").expect("written");
    assert!(program.run(&["data", &path]).fails(1).contains("no rows"));
    assert!(program.run(&["data", "--similarity", "2", &path]).fails(2).contains("from 0 to 1"));
}
