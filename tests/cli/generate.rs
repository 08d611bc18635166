//! `generate`.

use serde_json::{Value, json};

use crate::program::{Program, golden, keys};

/// Options for sampling; the seed follows.
const SAMPLING: [&str; 6] = ["--temperature", "1", "--max-new-tokens", "12", "--json", "--seed"];

fn generate(args: &[&str]) -> Value {
    Program::new().run(&[&["generate"], args].concat()).json()
}

#[test]
fn json_has_the_documented_keys() {
    let response =
        generate(&["--instruction", "Name a colour.", "--max-new-tokens", "3", "--json"]);
    let documented =
        ["text", "tokens", "finish", "prompt_tokens", "seconds_prompt", "seconds_decode"];
    assert_eq!(keys(&response), documented);
    assert!(response["text"].is_string());
    assert!(response["tokens"].as_array().unwrap().len() <= 3);
    assert!(["stop", "length"].contains(&response["finish"].as_str().unwrap()));
    assert!(response["prompt_tokens"].as_u64().unwrap() > 1);
    assert!(response["seconds_prompt"].as_f64().unwrap() > 0.0);
    assert!(response["seconds_decode"].as_f64().unwrap() >= 0.0);
}

#[test]
fn the_streamed_text_is_the_one_in_json() {
    let args = ["generate", "--prompt", "The", "--raw", "--max-new-tokens", "8"];
    let streamed = Program::new().run(&args).ok();
    let whole = Program::new().run(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(streamed, format!("{}\n", whole["text"].as_str().unwrap()));
}

#[test]
fn a_seed_determines_the_samples() {
    let sample =
        |seed: &str| generate(&[&["-p", "a"], &SAMPLING[..], &[seed]].concat())["tokens"].clone();
    let first = sample("1");
    assert_eq!(first, sample("1"));
    assert!((2..9).any(|seed: u32| sample(&seed.to_string()) != first));
}

#[test]
fn a_prompt_template_adds_tokens() {
    let prompt_tokens = |args: &[&str]| {
        let rest = ["--max-new-tokens", "1", "--json"];
        generate(&[args, &rest].concat())["prompt_tokens"].as_u64().unwrap()
    };
    let raw = prompt_tokens(&["--raw", "--prompt", "Name a colour."]);
    let instruction = prompt_tokens(&["--instruction", "Name a colour."]);
    let with_input = prompt_tokens(&["--instruction", "Name a colour.", "--input", "red, six"]);
    assert!(raw < instruction && instruction < with_input);
}

#[test]
fn a_stop_string_ends_the_response_before_it() {
    let model = golden("gguf/tiny-llama.gguf");
    let args = ["--raw", "-p", "ab", "--model", &model, "--seed", "1", "--temperature", "1"];
    let args = [&args[..], &["--max-new-tokens", "20", "--json"]].concat();
    let whole = generate(&args);
    let text = whole["text"].as_str().unwrap();
    assert_eq!(whole["finish"], "length");
    let (at, stop) = text.char_indices().nth(4).map(|(at, c)| (at, c.to_string())).unwrap();
    let first = text.find(&stop).unwrap();
    let cut = generate(&[&args[..], &["--stop", "never there", &stop]].concat());
    assert_eq!((&cut["text"], &cut["finish"]), (&json!(text[..first]), &json!("stop")));
    assert!(first <= at);
}

#[test]
fn zero_max_new_tokens_generate_nothing() {
    let response = generate(&["-p", "a", "--max-new-tokens", "0", "--json"]);
    assert_eq!((&response["text"], &response["finish"]), (&json!(""), &json!("length")));
}

#[test]
fn an_adapter_changes_the_response_and_the_prompt_template() {
    let (model, adapter) = (golden("gguf/tiny-llama.gguf"), golden("llama-gqa-tied/adapter"));
    let args = ["-p", "ab", "--model", &model, "--max-new-tokens", "9", "--json"];
    let base = generate(&[&args[..], &["--raw"]].concat());
    let adapted = generate(&[&args[..], &["--raw", "--adapter", &adapter]].concat());
    assert_ne!(base["tokens"], adapted["tokens"]);
    // The model has a chat template, and a context of 64, too short for the Alpaca template.
    let chat = generate(&args);
    assert!(chat["prompt_tokens"].as_u64() > base["prompt_tokens"].as_u64());
    let args = [&["generate"], &args[..], &["--adapter", &adapter]].concat();
    let error = Program::new().run(&args).fails(1);
    assert!(error.contains("the model's context has room for 64"), "{error}");
}
