//! Options of `train` for batches, learning rates, averages, noise and the choice of the best adapter.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::Program;
use crate::training::{adapter, write_eval_rows};

/// Arguments of a run of a few steps, with a new value for each option.
const OPTIONS: [&str; 17] = [
    "--batch-tokens",
    "700",
    "--schedule",
    "wsd",
    "--lr-gate",
    "0.1",
    "--lr-part",
    "prompts=0.01",
    "--ema",
    "0.5",
    "--noise",
    "5",
    "--early-stop",
    "2",
    "--keep-best",
    "--exact-match-rows",
    "1",
];

/// Arguments of a run with held-out rows.
fn args<'a>(output: &'a str, held_out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["train", "--quiet", "--output", output, "--eval-data", held_out];
    [&args[..], more].concat()
}

fn settings(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("run.json")).expect("run.json"))
        .expect("JSON")
}

#[test]
fn options_of_steps_are_settings_of_the_run_and_survive_a_resume() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.path("run");
    let run = [&OPTIONS[..], &["--max-steps", "3"]].concat();
    let summary = program.run(&args(&output, &few, &run)).json();
    assert_eq!((&summary["steps"], &summary["best_step"]), (&json!(3), &json!(3)));
    let saved = settings(Path::new(&output));
    for (key, expected) in [
        ("batch_tokens", json!(700)),
        ("schedule", json!("wsd")),
        ("group_learning_rates", json!({"gates": 0.1, "parts": {"prompts": 0.01}})),
        ("ema_decay", json!(0.5)),
        ("noise_alpha", json!(5.0)),
        ("early_stop", json!(2)),
        ("keep_best", json!(true)),
    ] {
        assert_eq!(saved[key], expected, "{key}");
    }
    let before = adapter(Path::new(&output));
    let resumed = program.run(&args(&output, &few, &[&run[..], &["--resume"]].concat())).json();
    assert_eq!(resumed["eval_loss"], summary["eval_loss"]);
    assert_eq!(adapter(Path::new(&output)), before);

    let error = program.run(&args(&output, &few, &["--max-steps", "3", "--resume"])).fails(1);
    assert!(error.contains("\n  --batch-tokens: then 700, now none"), "{error}");
}

#[test]
fn batches_by_tokens_exclude_batches_by_examples_and_by_image() {
    let program = Program::new();
    for other in [&["--batch-size", "4"][..], &["--group-by-image"]] {
        let error =
            program.run(&[&["train", "--batch-tokens", "700"][..], other].concat()).fails(2);
        assert!(error.contains("cannot be used with"), "{error}");
    }
}

#[test]
fn an_unknown_part_of_a_learning_rate_is_refused_with_the_known_ones() {
    let error = Program::new().run(&["train", "--lr-part", "gates=1e-3"]).fails(2);
    let expected = "expected PART=X, with one of the parts prompts, v2, lora, image";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_learning_rate_of_gates_needs_gates() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.path("run");
    let more = ["--method", "lora", "--lr-gate", "0.1", "--max-steps", "1"];
    let error = program.run(&args(&output, &few, &more)).fails(1);
    let expected = "the learning rate of gates is 0.1, expected none: no gate is trained";
    assert!(error.contains(expected), "{error}");
    assert!(!Path::new(&output).exists(), "it made a folder");
}
