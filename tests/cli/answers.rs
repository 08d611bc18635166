//! `generate` and `logits`.

use serde_json::{Value, json};
use testing::{Golden, assert_values_close};

use crate::program::{Program, golden, keys};

/// Words that make the built-in model draw.
const DRAW: [&str; 6] = ["--temperature", "1", "--max-new-tokens", "12", "--json", "--seed"];

fn generate(words: &[&str]) -> Value {
    Program::new().run(&[&["generate"], words].concat()).json()
}

#[test]
fn json_has_the_agreed_keys() {
    let answer = generate(&["--instruction", "Name a colour.", "--max-new-tokens", "3", "--json"]);
    let agreed = ["text", "tokens", "finish", "prompt_tokens", "seconds_prompt", "seconds_decode"];
    assert_eq!(keys(&answer), agreed);
    assert!(answer["text"].is_string());
    assert!(answer["tokens"].as_array().unwrap().len() <= 3);
    assert!(["stop", "length"].contains(&answer["finish"].as_str().unwrap()));
    assert!(answer["prompt_tokens"].as_u64().unwrap() > 1);
    assert!(answer["seconds_prompt"].as_f64().unwrap() > 0.0);
    assert!(answer["seconds_decode"].as_f64().unwrap() >= 0.0);
}

#[test]
fn the_streamed_text_is_the_one_in_json() {
    let words = ["generate", "--prompt", "The", "--raw", "--max-new-tokens", "8"];
    let streamed = Program::new().run(&words).ok();
    let whole = Program::new().run(&[&words[..], &["--json"]].concat()).json();
    assert_eq!(streamed, format!("{}\n", whole["text"].as_str().unwrap()));
}

#[test]
fn a_seed_decides_what_is_drawn() {
    let draw =
        |seed: &str| generate(&[&["-p", "a"], &DRAW[..], &[seed]].concat())["tokens"].clone();
    let first = draw("1");
    assert_eq!(first, draw("1"));
    assert!((2..9).any(|seed: u32| draw(&seed.to_string()) != first));
}

#[test]
fn an_instruction_reads_more_tokens_than_the_bare_words() {
    let read = |words: &[&str]| {
        let rest = ["--max-new-tokens", "1", "--json"];
        generate(&[words, &rest].concat())["prompt_tokens"].as_u64().unwrap()
    };
    let raw = read(&["--raw", "--prompt", "Name a colour."]);
    let instruction = read(&["--instruction", "Name a colour."]);
    let with_input = read(&["--instruction", "Name a colour.", "--input", "red, six"]);
    assert!(raw < instruction && instruction < with_input);
}

#[test]
fn a_stop_string_ends_the_answer_before_it() {
    let model = golden("gguf/tiny-llama.gguf");
    let words = ["--raw", "-p", "ab", "--model", &model, "--seed", "1", "--temperature", "1"];
    let words = [&words[..], &["--max-new-tokens", "20", "--json"]].concat();
    let whole = generate(&words);
    let text = whole["text"].as_str().unwrap();
    assert_eq!(whole["finish"], "length");
    let (at, stop) = text.char_indices().nth(4).map(|(at, c)| (at, c.to_string())).unwrap();
    let first = text.find(&stop).unwrap();
    let cut = generate(&[&words[..], &["--stop", "never there", &stop]].concat());
    assert_eq!((&cut["text"], &cut["finish"]), (&json!(text[..first]), &json!("stop")));
    assert!(first <= at);
}

#[test]
fn no_tokens_asked_are_none_given() {
    let answer = generate(&["-p", "a", "--max-new-tokens", "0", "--json"]);
    assert_eq!((&answer["text"], &answer["finish"]), (&json!(""), &json!("length")));
}

#[test]
fn an_adapter_changes_the_answer_and_makes_a_prompt_an_instruction() {
    let (model, adapter) = (golden("gguf/tiny-llama.gguf"), golden("llama-gqa-tied/adapter"));
    let words = ["-p", "ab", "--model", &model, "--max-new-tokens", "9", "--json"];
    let base = generate(&[&words[..], &["--raw"]].concat());
    let adapted = generate(&[&words[..], &["--raw", "--adapter", &adapter]].concat());
    assert_ne!(base["tokens"], adapted["tokens"]);
    // The model has a chat template, and a context of 64, too short for Alpaca's words.
    let chat = generate(&words);
    assert!(chat["prompt_tokens"].as_u64() > base["prompt_tokens"].as_u64());
    let words = [&["generate"], &words[..], &["--adapter", &adapter]].concat();
    let error = Program::new().run(&words).fails(1);
    assert!(error.contains("the model's context has room for 64"), "{error}");
}

/// Runs `logits` on the golden ids and compares.
fn compare_logits(model: &str, adapter: Option<&str>, expected: &str) {
    let program = Program::new();
    let reference = Golden::open("llama-gqa-tied/golden.safetensors");
    let file = |name| program.folder().join(name).to_str().unwrap().to_owned();
    let (ids, out) = (file("ids.json"), file("out.safetensors"));
    std::fs::write(&ids, json!(reference.int_rows("input_ids")).to_string()).unwrap();
    let (model, adapter) = (golden(model), adapter.map(golden));
    let mut words = vec!["logits", "--ids", &ids, "--out", &out, "--model", &model];
    if let Some(adapter) = &adapter {
        words.extend(["--adapter", adapter]);
    }
    assert_eq!(program.run(&words).ok(), "");
    let (shape, expected) = reference.floats(expected);
    let bytes = std::fs::read(&out).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.names(), ["logits"]);
    let view = tensors.tensor("logits").unwrap();
    assert_eq!((view.dtype(), view.shape()), (safetensors::Dtype::F32, &shape[..]));
    let (numbers, _rest) = view.data().as_chunks::<4>();
    let found = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<_>>();
    assert_values_close("logits", &found, &expected, &shape, 2e-4);
}

#[test]
fn logits_equal_pefts() {
    compare_logits("llama-gqa-tied/base", Some("llama-gqa-tied/adapter"), "logits");
}

#[test]
fn logits_without_an_adapter_equal_the_bases_in_both_formats() {
    compare_logits("llama-gqa-tied/base", None, "base_logits");
    compare_logits("gguf/tiny-llama.gguf", None, "base_logits");
}

#[test]
fn ids_that_cannot_be_computed_are_refused_and_nothing_is_written() {
    let program = Program::new();
    let model = golden("llama-gqa-tied/base");
    let (ids, out) = (program.folder().join("ids.json"), program.folder().join("out.safetensors"));
    let error = |text: &str| {
        std::fs::write(&ids, text).unwrap();
        let (ids, out) = (ids.to_str().unwrap(), out.to_str().unwrap());
        program.run(&["logits", "--ids", ids, "--out", out, "--model", &model]).fails(1)
    };
    assert!(error("[[1, 2], [3]]").contains("row 2 has 1 ids, row 1 has 2"));
    assert!(error("{}").contains("hint: the file must hold rows of equal length"));
    assert!(error("[[500]]").contains("token id 500 is outside the vocabulary of 128"));
    assert!(error(&json!([vec![1; 65]]).to_string()).contains("room for 64"));
    assert!(!out.exists());
}
