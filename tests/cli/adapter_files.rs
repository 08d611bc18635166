//! Adapters in the folders of trainers, under the wrong option, with unsupported or unknown settings.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Outcome, Program, change_settings, golden};

/// Copies the files of a folder.
fn copy(from: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Copies a LoRA of PEFT with other settings.
fn lora(to: &Path, settings: &Value) {
    copy(&golden("llama-gqa-tied/lora"), to);
    change_settings(&to.join("adapter_config.json"), settings);
}

fn logits(program: &Program, base: &str, adapter: &Path) -> Outcome {
    let base = golden(&format!("{base}/base"));
    program.run_logits(&base, &json!([[1, 2, 3]]), &["--adapter", adapter.to_str().unwrap()])
}

#[test]
fn pissa_lora_is_refused_with_a_hint() {
    let program = Program::new();
    let adapter = program.folder().join("pissa");
    lora(&adapter, &json!({"init_lora_weights": "pissa"}));
    let error = logits(&program, "llama-gqa-tied", &adapter).fails(1);
    assert!(error.contains("`init_lora_weights` of \"pissa\""), "{error}");
    assert!(error.contains("hint: let PEFT make an ordinary LoRA of it"), "{error}");
}

#[test]
fn unknown_settings_are_counted_in_one_line() {
    let program = Program::new();
    let adapter = program.folder().join("new");
    lora(&adapter, &json!({"use_new_thing": true, "newer": null}));
    let warning = "2 unknown settings are ignored: newer, use_new_thing\n";
    let outcome = logits(&program, "llama-gqa-tied", &adapter);
    assert!(outcome.stderr.contains(&format!("new: {warning}")), "{}", outcome.stderr);
    outcome.ok();
    let copied = program.folder().join("copy");
    let [from, to] = [&adapter, &copied].map(|path| path.to_str().unwrap());
    let outcome = program.run(&["convert", from, to]);
    assert_eq!(outcome.stderr.matches(warning).count(), 1, "{}", outcome.stderr);
    outcome.ok();
    let outcome = program.run(&["inspect", from]);
    assert_eq!(outcome.stderr.matches(warning).count(), 1, "{}", outcome.stderr);
    outcome.ok();
}

#[test]
fn an_adapter_as_the_model_is_reported_with_a_hint() {
    let program = Program::new();
    for name in ["llama-gqa-tied/lora", "formats/litgpt.pth.adapter"] {
        let error = program.run(&["generate", "-p", "a", "--model", &golden(name)]).fails(1);
        assert!(error.contains("this is an adapter, not a model"), "{error}");
        assert!(error.contains("\nhint: pass this with --adapter and its base"), "{error}");
        let named = error.contains("(it was made for `llama-gqa-tied`)");
        assert_eq!(named, name.ends_with("lora"), "{error}");
    }
}

#[test]
fn a_model_as_the_adapter_is_reported_with_a_hint() {
    let program = Program::new();
    for name in ["llama-mha/base", "gguf/tiny-llama.gguf", "meta"] {
        let error = program.run(&["generate", "-p", "a", "--adapter", &golden(name)]).fails(1);
        assert!(error.contains("this is a model, not an adapter"), "{error}");
        assert!(error.contains("\nhint: pass this with --model"), "{error}");
    }
}

#[test]
fn litgpts_folder_is_its_adapter() {
    let program = Program::new();
    let folder = program.folder().join("final");
    fs::create_dir(&folder).unwrap();
    fs::copy(golden("formats/litgpt.pth.adapter"), folder.join("lit_model.pth.adapter")).unwrap();
    fs::write(folder.join("model_config.yaml"), "name: x\n").unwrap();
    logits(&program, "llama-headdim16", &folder).ok();
    let path = folder.to_str().unwrap();
    let report = program.run(&["inspect", "--json", path]).json();
    assert_eq!((&report["kind"], &report["format"]), (&json!("adapter"), &json!("litgpt")));
    let listed = program.run(&["list", path]).ok();
    assert!(listed.contains("5 prompts"), "{listed}");

    // The folder is ambiguous if it contains two adapters.
    fs::copy(golden("formats/litgpt.pth.adapter"), folder.join("other.pth.adapter")).unwrap();
    let error = logits(&program, "llama-headdim16", &folder).fails(1);
    assert!(error.contains("lit_model.pth.adapter, other.pth.adapter\nhint: give one"), "{error}");
}

#[test]
fn a_trainers_folder_names_the_adapters_inside() {
    let program = Program::new();
    let folder = program.folder().join("run");
    for name in ["checkpoint-10", "checkpoint-20"] {
        lora(&folder.join(name), &json!({}));
    }
    fs::write(folder.join("tokenizer.json"), "{}").unwrap();
    let error = logits(&program, "llama-gqa-tied", &folder).fails(1);
    assert!(error.contains("in its folders: checkpoint-10, checkpoint-20\n"), "{error}");
    assert!(error.contains("hint: give one of them, such as "), "{error}");
    assert!(error.ends_with("run/checkpoint-10\n"), "{error}");
    let error = program.run(&["inspect", folder.to_str().unwrap()]).fails(1);
    assert!(error.contains("checkpoint-10, checkpoint-20"), "{error}");
}

#[test]
fn a_file_of_an_adapters_folder_means_the_folder() {
    let program = Program::new();
    let folder = program.folder().join("lora");
    lora(&folder, &json!({}));
    for name in ["adapter_model.safetensors", "adapter_config.json"] {
        logits(&program, "llama-gqa-tied", &folder.join(name)).ok();
    }
    // `inspect` shows a tensor file as such.
    let file = folder.join("adapter_model.safetensors");
    let report = program.run(&["inspect", "--json", file.to_str().unwrap()]).json();
    assert_eq!(report["kind"], json!("safetensors"));
}
