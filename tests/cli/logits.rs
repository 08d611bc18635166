//! `logits`.

use serde_json::json;
use testing::{Golden, assert_values_close};

use crate::program::{Program, golden};

/// Compares the logits of the golden ids with the golden logits.
fn compare_logits(model: &str, adapter: Option<&str>, expected: &str) {
    let program = Program::new();
    let reference = Golden::open("llama-gqa-tied/golden.safetensors");
    let ids = json!(reference.int_rows("input_ids"));
    let adapter = adapter.map(golden);
    let more = adapter.iter().flat_map(|adapter| ["--adapter", adapter]).collect::<Vec<_>>();
    assert_eq!(program.run_logits(&golden(model), &ids, &more).ok(), "");
    let (shape, expected) = reference.floats(expected);
    let (found_shape, found) = program.read_logits();
    assert_eq!(found_shape, shape);
    assert_values_close("logits", &found, &expected, &shape, 2e-4);
}

#[test]
fn logits_equal_pefts() {
    compare_logits("llama-gqa-tied/base", Some("llama-gqa-tied/adapter"), "logits");
}

#[test]
fn logits_of_the_base_model_are_equal_in_both_formats() {
    compare_logits("llama-gqa-tied/base", None, "base_logits");
    compare_logits("gguf/tiny-llama.gguf", None, "base_logits");
}

#[test]
fn invalid_ids_are_refused_and_nothing_is_written() {
    let program = Program::new();
    let model = golden("llama-gqa-tied/base");
    let error = |ids| program.run_logits(&model, &ids, &[]).fails(1);
    assert!(error(json!([[1, 2], [3]])).contains("row 2 has 1 ids, row 1 has 2"));
    assert!(error(json!({})).contains("hint: the file must contain rows of equal length"));
    assert!(error(json!([[500]])).contains("token id 500 is outside the vocabulary of 128"));
    assert!(error(json!([vec![1; 65]])).contains("room for 64"));
    assert!(!std::path::Path::new(&program.logits_file()).exists());
}
