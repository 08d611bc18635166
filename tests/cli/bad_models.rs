//! Damaged model files: each a clear error, never a panic.

use std::path::{Path, PathBuf};

use crate::program::{Program, golden};

/// A copy of a small golden model to damage.
fn model(program: &Program) -> PathBuf {
    let from = PathBuf::from(golden("llama-gqa-tied/base"));
    let to = program.folder().join("model");
    std::fs::create_dir(&to).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    to
}

/// What `logits` says of a model that cannot be used.
fn refused(program: &Program, model: &Path) -> String {
    let ids = program.folder().join("ids.json");
    std::fs::write(&ids, "[[1, 2, 3]]").unwrap();
    let out = program.folder().join("out.safetensors");
    let words = ["logits", "--model", model.to_str().unwrap(), "--ids", ids.to_str().unwrap()];
    let error = program.run(&[&words[..], &["--out", out.to_str().unwrap()]].concat()).fails(1);
    assert!(!out.exists());
    error
}

#[test]
fn cut_and_lying_safetensors_are_refused() {
    let program = Program::new();
    let model = model(&program);
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
fn a_file_that_was_never_fetched_is_told_as_such_wherever_it_is() {
    let program = Program::new();
    let model = model(&program);
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
fn quantised_weights_name_the_method_and_the_way_out() {
    let program = Program::new();
    let model = model(&program);
    let path = model.join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["quantization_config"] = serde_json::json!({"quant_method": "gptq", "bits": 4});
    std::fs::write(&path, config.to_string()).unwrap();
    let error = refused(&program, &model);
    assert!(error.contains("quantized by GPTQ (4 bits), which is not supported"), "{error}");
    assert!(error.contains("or a GGUF of it"), "{error}");
    assert!(!error.contains("damaged"), "{error}");
}

#[test]
fn a_config_that_does_not_fit_lists_everything_at_once() {
    let program = Program::new();
    let model = model(&program);
    let path = model.join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["num_hidden_layers"] = 4.into();
    config["intermediate_size"] = 40.into();
    std::fs::write(&path, config.to_string()).unwrap();
    let error = refused(&program, &model);
    assert!(error.contains("missing (9)"), "{error}");
    assert!(error.contains("wrong shape (9)"), "{error}");
    assert!(error.contains("expected [40, 32], found [48, 32]"), "{error}");
    assert!(error.contains("hint: config.json and the weights may belong to"), "{error}");

    config["num_hidden_layers"] = 2_000_000_000.into();
    std::fs::write(&path, config.to_string()).unwrap();
    assert!(refused(&program, &model).contains("n_layers is 2000000000, expected 1 to 4096"));

    config["model_type"] = "gpt_neox".into();
    std::fs::write(&path, config.to_string()).unwrap();
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
