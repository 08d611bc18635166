//! What the small files of a model say, and what is told about it.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::program::Program;

/// A copy of the built-in model's folder with other settings in some of its files.
fn model(program: &Program, files: &[(&str, Value)]) -> PathBuf {
    let from = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
    let to = program.folder().join("model");
    std::fs::create_dir(&to).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    for (name, settings) in files {
        let text = std::fs::read_to_string(to.join(name)).unwrap_or_else(|_| "{}".into());
        let mut json: Value = serde_json::from_str(&text).unwrap();
        for (key, value) in settings.as_object().unwrap() {
            json[key] = value.clone();
        }
        std::fs::write(to.join(name), json.to_string()).unwrap();
    }
    to
}

#[test]
fn an_end_token_that_the_model_does_not_have_is_an_error_before_anything_is_learned() {
    let program = Program::new();
    // No token of the tokenizer, so that it gets an id of its own behind all others.
    let model = model(&program, &[("tokenizer_config.json", json!({"eos_token": "<|im_end|>"}))]);
    let rows = program.folder().join("rows.jsonl");
    std::fs::write(&rows, r#"{"instruction": "Say yes.", "output": "Yes."}"#).unwrap();
    let output = program.folder().join("output");
    let [model, rows, folder] = [&model, &rows, &output].map(|path| path.to_str().unwrap());
    let train =
        ["train", "--model", model, "--data", rows, "--max-steps", "1", "--eval-fraction", "0"];
    let eval = ["eval", "--model", model, "--data", rows, "--no-exact-match"];
    for words in [&[&train[..], &["--output", folder]].concat()[..], &eval] {
        let error = program.run(words).fails(1);
        let expected =
            "eos_token `<|im_end|>`: token id 1536 is outside the vocabulary of 1536 tokens";
        assert!(error.contains(expected), "{error}");
    }
    assert!(!output.exists());
}

#[test]
fn settings_that_are_not_used_are_told_once() {
    let program = Program::new();
    let model = model(
        &program,
        &[
            ("config.json", json!({"foo": 1, "bar": null})),
            ("generation_config.json", json!({"do_sample": true, "temperature": 0.6})),
        ],
    );
    let words = ["generate", "--raw", "-p", "The", "--max-new-tokens", "1"];
    let with_model = [&words[..], &["--model", model.to_str().unwrap()]].concat();
    let told = program.run(&with_model).stderr;
    let notes = told.lines().filter(|line| line.starts_with("note: ")).collect::<Vec<_>>();
    let expected = [
        "note: config.json: 2 settings are not used: bar, foo",
        "note: generation_config.json: 2 settings are not used: do_sample, temperature",
    ];
    assert_eq!(notes, expected);
    let told = program.run(&words).stderr;
    assert!(!told.contains("not used"), "{told}");
}

#[test]
fn settings_that_would_change_the_arithmetic_are_refused_by_name() {
    let program = Program::new();
    let model = model(&program, &[("config.json", json!({"final_logit_softcapping": 30.0}))]);
    let words = ["generate", "-p", "The", "--model", model.to_str().unwrap()];
    let error = program.run(&words).fails(1);
    assert!(error.contains("final_logit_softcapping is 30.0, expected none"), "{error}");
}
