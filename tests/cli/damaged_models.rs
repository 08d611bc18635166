//! Damaged model files: a clear error for each, never a panic.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::program::{Program, change_settings, golden};

/// A copy of a small golden model.
fn copy(program: &Program) -> PathBuf {
    program.copy_model(golden("llama-gqa-tied/base").as_ref(), &[])
}

/// The error of `logits` for a damaged model.
fn refused(program: &Program, model: &Path) -> String {
    let outcome = program.run_logits(model.to_str().unwrap(), &json!([[1, 2, 3]]), &[]);
    assert!(!Path::new(&program.logits_file()).exists());
    outcome.fails(1)
}

#[test]
fn damaged_safetensors_are_refused() {
    let program = Program::new();
    let model = copy(&program);
    let file = model.join("model.safetensors");
    let whole = std::fs::read(&file).unwrap();
    for len in [4, 8, 200, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file, &whole[..len]).unwrap();
        let error = refused(&program, &model);
        assert!(error.contains("not a valid safetensors file"), "{len}: {error}");
        assert!(error.contains("\nhint: "), "{error}");
    }
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&file, &huge).unwrap();
    assert!(refused(&program, &model).contains("the header claims 18446744073709551615 bytes"));

    // The same length, another type.
    let text = whole.clone();
    let at = text.windows(5).position(|w| w == b"\"F32\"").unwrap();
    let mut other = text;
    other[at..at + 5].copy_from_slice(b"\"I32\"");
    std::fs::write(&file, &other).unwrap();
    let error = refused(&program, &model);
    assert!(error.contains("holds I32, expected F32, F16, BF16 or F64"), "{error}");
    assert!(error.contains("\nhint: the file is whole, but of another kind"), "{error}");

    let mut poisoned = whole;
    let end = poisoned.len();
    poisoned[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&file, &poisoned).unwrap();
    assert!(refused(&program, &model).contains("not finite (NaN or infinite numbers) (1)"));
}

/// A pointer of Git LFS, as a clone without it has.
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1528\n";

#[test]
fn a_git_lfs_pointer_is_reported_as_one() {
    let program = Program::new();
    let model = copy(&program);
    for name in ["model.safetensors", "config.json"] {
        let path = model.join(name);
        let whole = std::fs::read(&path).unwrap();
        for (bytes, expected) in [
            (POINTER, "a Git LFS pointer, not the file itself, which has 1528 bytes\nhint: fetch"),
            (
                "<!DOCTYPE html><html>",
                "a web page or a server response, not the file itself\nhint: ",
            ),
            ("", "an empty file\nhint: the download may be incomplete"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = refused(&program, &model);
            assert!(error.contains(&format!("{name}: this is {expected}")), "{error}");
        }
        std::fs::write(&path, whole).unwrap();
    }
    let alone = program.folder().join("model.gguf");
    std::fs::write(&alone, POINTER).unwrap();
    assert!(refused(&program, &alone).contains("`git lfs pull`"));
    let error = program.run(&["inspect", alone.to_str().unwrap()]).fails(1);
    assert!(error.contains("this is a Git LFS pointer"), "{error}");
}

#[test]
fn quantized_weights_report_the_method_and_a_hint() {
    let program = Program::new();
    let model = copy(&program);
    let quantization = json!({"quant_method": "gptq", "bits": 4});
    change_settings(&model.join("config.json"), &json!({"quantization_config": quantization}));
    let error = refused(&program, &model);
    assert!(error.contains("quantized by GPTQ (4 bits), which is not supported"), "{error}");
    assert!(error.contains("or a GGUF of it"), "{error}");
    assert!(!error.contains("damaged"), "{error}");
}

#[test]
fn a_config_mismatch_lists_all_tensors() {
    let program = Program::new();
    let model = copy(&program);
    let path = model.join("config.json");
    change_settings(&path, &json!({"num_hidden_layers": 4, "intermediate_size": 40}));
    let error = refused(&program, &model);
    assert!(error.contains("missing (9)"), "{error}");
    assert!(error.contains("wrong shape (9)"), "{error}");
    assert!(error.contains("expected [40, 32], found [48, 32]"), "{error}");
    assert!(error.contains("hint: config.json and the weights may belong to"), "{error}");

    change_settings(&path, &json!({"num_hidden_layers": 2_000_000_000}));
    assert!(refused(&program, &model).contains("n_layers is 2000000000, expected 1 to 4096"));

    change_settings(&path, &json!({"model_type": "gpt_neox"}));
    assert!(
        refused(&program, &model)
            .contains("`gpt_neox` is not supported (known: gpt2, llama, mistral, ")
    );
    std::fs::write(&path, "{").unwrap();
    assert!(refused(&program, &model).contains("not a valid JSON file"));
}

#[test]
fn damaged_ggufs_are_refused() {
    let program = Program::new();
    let whole = std::fs::read(golden("gguf/tiny-llama.gguf")).unwrap();
    let file = program.folder().join("model.gguf");
    for len in [20, 900, whole.len() - 1] {
        std::fs::write(&file, &whole[..len]).unwrap();
        assert!(refused(&program, &file).contains("not a valid GGUF file"), "{len}");
    }
    let mut huge = whole.clone();
    // The number of tensors.
    huge[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&file, &huge).unwrap();
    assert!(refused(&program, &file).contains("not a valid GGUF file"));
    let mut poisoned = whole;
    let end = poisoned.len();
    poisoned[end - 64..].fill(0xff);
    std::fs::write(&file, &poisoned).unwrap();
    assert!(refused(&program, &file).contains("not finite"), "0xffffffff is NaN");
}
