//! `inspect` of everything that can be inspected.

use crate::program::{Program, golden, keys};

fn inspect(name: &str) -> String {
    let text = Program::new().run(&["inspect", &golden(name)]).ok();
    text.replace(testing::golden_folder().to_str().unwrap(), "[golden]")
}

fn json(name: &str) -> serde_json::Value {
    Program::new().run(&["inspect", "--json", &golden(name)]).json()
}

#[test]
fn a_model_folder() {
    insta::assert_snapshot!(inspect("mistral-sw8/base"), @"");
    let report = json("mistral-sw8/base");
    let expected = [
        "kind",
        "path",
        "config",
        "parameters",
        "bytes",
        "memory",
        "chat_template",
        "misfits",
        "tensors",
    ];
    assert_eq!(keys(&report), expected);
    assert_eq!(report["kind"], "model");
    assert_eq!(keys(&report["memory"]), ["f32", "bf16", "cache_per_token"]);
    assert_eq!(report["tensors"].as_array().unwrap().len(), 30);
    assert_eq!(report["misfits"], serde_json::Value::Null);
}

#[test]
fn an_adapter_folder() {
    insta::assert_snapshot!(inspect("llama-gqa-tied/adapter"), @"");
    let report = json("llama-gqa-tied/adapter");
    let expected = [
        "kind",
        "path",
        "base_model",
        "adapter_len",
        "adapter_layers",
        "gate",
        "activation",
        "parameters",
        "bytes",
        "gates",
        "layers",
    ];
    assert_eq!(keys(&report), expected);
    assert_eq!(report["gate"], "scalar");
    assert_eq!(keys(&report["gates"]), ["min", "max", "mean"]);
    assert_eq!(keys(&report["layers"][0]), ["layer", "d_model", "gates", "prompt_rms"]);
}

#[test]
fn a_gguf_file() {
    let text = inspect("gguf/tiny-llama.gguf");
    assert!(text.starts_with("GGUF        [golden]/gguf/tiny-llama.gguf (version 3)\n"), "{text}");
    assert!(text.contains("\nattention   4 heads of 8 on 2 key-value heads\n"), "{text}");
    let report = json("gguf/tiny-llama.gguf");
    assert_eq!(report["kind"], "gguf");
    assert_eq!(report["config"]["n_kv_heads"], 2);
    assert_eq!(report["metadata"]["general.architecture"], "\"llama\"");
}

#[test]
fn a_gguf_file_that_is_no_model() {
    let report = json("gguf/quants.gguf");
    assert!(report["config"].is_null() && report["unusable"].is_string());
    assert_eq!(report["parameters"], 11 * 1024);
    let types = report["tensors"].as_array().unwrap().iter().map(|t| t["dtype"].as_str().unwrap());
    assert!(types.into_iter().any(|name| name == "q4_k"));
}

#[test]
fn a_bare_file_of_weights() {
    let report = json("llama-mha/adapter/adapter_model.safetensors");
    assert_eq!(keys(&report), ["kind", "path", "parameters", "bytes", "tensors"]);
    assert_eq!((&report["kind"], &report["parameters"]), (&"safetensors".into(), &322.into()));
}

#[test]
fn the_built_in_model() {
    let report = Program::new().run(&["inspect", "--json"]).json();
    assert_eq!((&report["kind"], &report["path"]), (&"model".into(), &"the built-in model".into()));
    assert!(report["misfits"].is_null(), "{}", report["misfits"]);
}

#[test]
fn what_cannot_be_inspected_says_so() {
    let program = Program::new();
    let error = program.run(&["inspect", "no/such/place"]).fails(1);
    assert!(error.starts_with("error: no/such/place: there is no such file or folder\nhint: "));
    let error = program.run(&["inspect", &golden("README.md")]).fails(1);
    assert!(error.contains("neither a model nor an adapter\nhint: `inspect` takes"), "{error}");
    let cut = program.folder().join("cut.gguf");
    std::fs::write(&cut, "GGUF").unwrap();
    let error = program.run(&["inspect", cut.to_str().unwrap()]).fails(1);
    assert!(error.contains("not a valid GGUF file"), "{error}");
}
