//! Options with a new name keep their first name as a hidden alias, so that scripts keep working.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Program, golden};

/// Writes two rows with an image and options.
fn rows(program: &Program) -> String {
    let row = |output: &str| {
        json!({
            "instruction": "What is it?", "output": output, "options": ["A hat.", "A boot."],
            "image": golden("vision/photos/coffee.webp"),
        })
    };
    let data = program.path("rows.json");
    std::fs::write(&data, json!([row("A hat."), row("A boot.")]).to_string()).expect("written");
    data
}

/// Trains one step with the given options and returns the run's settings and the adapter.
fn train(program: &Program, name: &str, options: &[&str]) -> (Value, Vec<u8>) {
    let (data, output) = (rows(program), program.path(name));
    let mut args = vec!["train", "--data", &data, "--eval-fraction", "0", "--max-steps", "1"];
    args.extend(["--exact-match-rows", "0", "--quiet", "--output", &output]);
    args.extend(options);
    program.run(&args).json();
    let read = |file: &str| std::fs::read(Path::new(&output).join(file)).expect(file);
    let settings = serde_json::from_slice(&read("run.json")).expect("JSON");
    (settings, read("adapter_model.safetensors"))
}

#[test]
fn old_options_of_train_work() {
    let program = Program::new();
    let old = [
        &["--accumulate", "2", "--warmup", "0.5", "--clip", "1", "--lr", "1e-3", "--recompute"][..],
        &["--learn", "prompts", "--prompt-std", "0.5", "--gate-std", "0.1"],
        &["--empty-outputs", "learn"],
    ];
    let new = [
        &["--gradient-accumulation-steps", "2", "--warmup-ratio", "0.5"][..],
        &["--max-gradient-norm", "1", "--learning-rate", "1e-3", "--activation-checkpointing"],
        &["--trainable", "prompts", "--prompt-init-std", "0.5", "--gate-init-std", "0.1"],
        &["--empty-outputs", "keep"],
    ];
    let old = train(&program, "old", &old.concat());
    assert_eq!(old, train(&program, "new", &new.concat()));
    let settings = &old.0;
    assert_eq!((&settings["accumulate"], &settings["warmup"]), (&json!(2), &json!(0.5)));
    assert_eq!((&settings["recompute"], &settings["learning_rate"]), (&json!(true), &json!(1e-3)));
}

#[test]
fn old_image_options_of_train_work() {
    let program = Program::new();
    let encoder = ["--image-encoder", "tiny-vit"];
    let old = [
        &encoder[..],
        &["--image-form", "queries", "--image-layers", "2", "--image-states", "normed"],
        &["--image-width", "32", "--images-together", "--broken-images", "stop"],
    ];
    let new = [
        &encoder[..],
        &["--image-projector", "queries", "--early-fusion-layers", "2"],
        &["--image-feature-layers", "normed", "--image-hidden-size", "32", "--group-by-image"],
        &["--broken-images", "fail"],
    ];
    assert_eq!(train(&program, "old", &old.concat()), train(&program, "new", &new.concat()));
}

#[test]
fn old_options_of_plan_work() {
    let plan = |args: &[&str]| {
        Program::new()
            .run(&[&["plan", "--device", "flex", "--memory", "8GiB", "--json"], args].concat())
            .json()
    };
    let old = ["--batch", "2", "--seq", "16", "--labels", "4", "--new-tokens", "3", "--recompute"];
    let new = ["--batch-size", "2", "--seq-len", "16", "--label-tokens", "4"];
    let new = [&new[..], &["--max-new-tokens", "3", "--activation-checkpointing"]].concat();
    assert_eq!(plan(&old), plan(&new));
    assert_eq!(plan(&["--max-len", "16"]), plan(&["--seq-len", "16"]));
    for (old, new) in [
        (["--v2-form", "bias", "--method", "v2"], ["--v2-variant", "bias", "--method", "v2"]),
        (
            ["--lora-linears", "query,down", "--method", "lora"],
            ["--lora-target-modules", "query,down", "--method", "lora"],
        ),
        (
            ["--prompt-text", "a", "--adapter-len", "3"],
            ["--prompt-init-text", "a", "--adapter-len", "3"],
        ),
    ] {
        assert_eq!(plan(&old), plan(&new));
    }
}

#[test]
fn old_options_of_eval_and_chat_work() {
    let program = Program::new();
    let data = rows(&program);
    let eval = |options: &[&str]| {
        program.run(&[&["eval", "--data", &data, "--max-len", "64"], options].concat()).ok()
    };
    assert_eq!(
        eval(&["--task", "choices", "--choose-by", "answer", "--confusion"]),
        eval(&[
            "--task",
            "multiple-choice",
            "--choice-scoring",
            "generation",
            "--confusion-matrix"
        ])
    );
    let model = program.chat_model(64);
    let chat = |options: &[&str]| {
        let args = ["chat", "--model", &model, "--max-new-tokens", "3"];
        program.run_with_input(&[&args[..], options].concat(), "Hello.\n").ok()
    };
    assert_eq!(
        chat(&["--wording", "chat", "--system", "Be brief."]),
        chat(&["--prompt-template", "chat", "--system-prompt", "Be brief."])
    );
}

#[test]
fn old_names_are_not_in_the_help() {
    let program = Program::new();
    let help = program.run(&["train", "--help"]).ok();
    for old in ["--accumulate", "--clip", "--recompute", "--learn ", "--image-form", "--v2-form"] {
        assert!(!help.contains(old), "{old}");
    }
    assert!(help.contains("[alias: --lr]"), "{help}");
}
