//! Settings of a model's files that have no effect.

use llama::ModelSource;
use serde_json::{Value, json};

fn folder(files: &[(&str, Value)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, json) in files {
        std::fs::write(folder.path().join(name), json.to_string()).unwrap();
    }
    folder
}

fn config(vocab_size: usize, more: &Value) -> Value {
    let mut json = json!({
        "model_type": "llama", "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": vocab_size,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        json[key] = value.clone();
    }
    json
}

#[test]
fn unused_settings_are_reported_by_file() {
    let files = [
        ("config.json", config(64, &json!({"foo": 1, "attention_dropout": 0.0}))),
        (
            "generation_config.json",
            json!({"do_sample": true, "top_p": 0.9, "eos_token_id": [1, 99]}),
        ),
        ("tokenizer_config.json", json!({"eos_token": "<|end|>", "do_lower_case": true})),
        ("special_tokens_map.json", json!({"eos_token": "<|end|>"})),
    ];
    let folder = folder(&files);
    let source = ModelSource::open(folder.path()).unwrap();
    let found = source.unused_settings().iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = [
        "config.json: 1 setting is not used: foo",
        "generation_config.json: 3 settings are not used: do_sample, top_p, \
         eos_token_id 99 (no token of the model)",
        "tokenizer_config.json: 1 setting is not used: do_lower_case",
    ];
    assert_eq!(found, expected);
}
