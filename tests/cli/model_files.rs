//! Settings in a model's JSON files.

use serde_json::json;

use crate::program::{Program, tiny_llama};

#[test]
fn an_out_of_vocabulary_eos_token_is_an_error_before_training() {
    let program = Program::new();
    // The tokenizer does not have this token and adds it after all others.
    let changes = [("tokenizer_config.json", json!({"eos_token": "<|im_end|>"}))];
    let model = program.copy_model(&tiny_llama(), &changes);
    let rows = program.folder().join("rows.jsonl");
    std::fs::write(&rows, r#"{"instruction": "Say yes.", "output": "Yes."}"#).unwrap();
    let output = program.folder().join("output");
    let [model, rows, folder] = [&model, &rows, &output].map(|path| path.to_str().unwrap());
    let train =
        ["train", "--model", model, "--data", rows, "--max-steps", "1", "--eval-fraction", "0"];
    let eval = ["eval", "--model", model, "--data", rows, "--no-exact-match"];
    for args in [&[&train[..], &["--output", folder]].concat()[..], &eval] {
        let error = program.run(args).fails(1);
        let expected =
            "eos_token `<|im_end|>`: token id 1536 is outside the vocabulary of 1536 tokens";
        assert!(error.contains(expected), "{error}");
    }
    assert!(!output.exists());
}

#[test]
fn unused_settings_are_reported_once() {
    let program = Program::new();
    let changes = [
        ("config.json", json!({"foo": 1, "bar": null})),
        ("generation_config.json", json!({"do_sample": true, "temperature": 0.6})),
    ];
    let model = program.copy_model(&tiny_llama(), &changes);
    let args = ["generate", "--raw", "-p", "The", "--max-new-tokens", "1"];
    let with_model = [&args[..], &["--model", model.to_str().unwrap()]].concat();
    let stderr = program.run(&with_model).stderr;
    let notes = stderr.lines().filter(|line| line.starts_with("note: ")).collect::<Vec<_>>();
    let expected = [
        "note: config.json: 2 settings are not used: bar, foo",
        "note: generation_config.json: 2 settings are not used: do_sample, temperature",
    ];
    assert_eq!(notes, expected);
    let stderr = program.run(&args).stderr;
    assert!(!stderr.contains("not used"), "{stderr}");
}

#[test]
fn unsupported_config_settings_are_refused() {
    let program = Program::new();
    let changes = [("config.json", json!({"final_logit_softcapping": 30.0}))];
    let model = program.copy_model(&tiny_llama(), &changes);
    let args = ["generate", "-p", "The", "--model", model.to_str().unwrap()];
    let error = program.run(&args).fails(1);
    assert!(error.contains("final_logit_softcapping is 30.0, expected none"), "{error}");
}
