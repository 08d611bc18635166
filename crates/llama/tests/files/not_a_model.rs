//! Errors for paths without a model.

use std::fs;

use burn::tensor::TensorData;
use checkpoint::torch::{self, to_bytes};
use llama::ModelSource;

/// Name and contents.
type File<'a> = (&'a str, &'a [u8]);

/// The error of opening a folder with these files, or the file `given` in it.
fn open_error(files: &[File], given: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let message = ModelSource::open(folder.path().join(given)).unwrap_err().to_string();
    message.replace(&*folder.path().to_string_lossy(), "F")
}

fn torch_file(tensor: &str) -> Vec<u8> {
    let data = torch::Value::Tensor(TensorData::from([1.0_f32]));
    to_bytes(&torch::Value::Dict(vec![(tensor.into(), data)])).unwrap()
}

#[test]
fn errors_say_what_a_folder_is() {
    let settings: (&str, &[u8]) =
        ("adapter_config.json", br#"{"base_model_name_or_path": "owner/base"}"#);
    let adapter = "this is an adapter, not a model";
    let made_for = format!("{adapter} (it was made for `owner/base`)");
    for (files, expected) in [
        (&[][..], "the folder has no config.json"),
        (&[settings, ("adapter_model.safetensors", b"x")], &made_for),
        (&[("lit_model.pth.adapter", b"x")], adapter),
        (&[("lit_model.pth", b"x")], "litgpt models are not supported"),
        (&[("consolidated.00.pth", b"x")], "consolidated.00.pth without params.json"),
        (&[("model.safetensors", b"x")], "it has model.safetensors, but no config.json"),
        (&[("models--a--b", b"x")], "give the folder of a model, such as models--a--b"),
        (&[("tokenizer.json", b"{}")], "it has a tokenizer, tokenizer.json, but no config.json"),
        (&[("a.gguf", b"x"), ("b.gguf", b"x")], "give one of them: a.gguf, b.gguf"),
    ] {
        let message = open_error(files, "");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn errors_of_folders_without_weights_do_not_depend_on_a_config() {
    let settings: (&str, &[u8]) =
        ("adapter_config.json", br#"{"base_model_name_or_path": "owner/base"}"#);
    let config = r#"{"model_type": "llama", "hidden_size": 4, "intermediate_size": 4,
        "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 3}"#;
    let loaded = |files: &[(&str, &[u8])]| {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let without = ModelSource::open(folder.path()).unwrap_err();
        fs::write(folder.path().join("config.json"), config).unwrap();
        let source = ModelSource::open(folder.path()).unwrap();
        let with = source.stored_precision().unwrap_err();
        [without, with]
            .map(|error| error.to_string().replace(&*folder.path().to_string_lossy(), "F"))
    };
    for (files, expected) in [
        (&[settings][..], "F: this is an adapter, not a model (it was made for `owner/base`)"),
        (&[("lit_model.pth", b"x")], "litgpt models are not supported"),
        (&[("b.onnx", b"x"), ("model.onnx", b"x")], "unsupported format: ONNX (model.onnx)"),
        (&[("consolidated.safetensors", b"x")], "unsupported format: Mistral's original format"),
    ] {
        for message in loaded(files) {
            assert!(message.contains(expected), "{message}");
        }
    }
}

#[test]
fn weights_with_an_adapter_config_lack_a_config_json() {
    let files: [(&str, &[u8]); 2] = [("adapter_config.json", b"{}"), ("model.safetensors", b"x")];
    assert!(open_error(&files, "").contains("it has model.safetensors, but no config.json"));
}

#[test]
fn errors_say_what_a_file_is() {
    let weights: (&str, &[u8]) = ("model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    let config: (&str, &[u8]) = ("config.json", b"{}");
    let [prompt, shard, other] =
        ["0.adaption_prompt", "tok_embeddings.weight", "w"].map(torch_file);
    let cases: [(&[File], &str, &str); 10] = [
        (&[], "none", "there is no such file or folder"),
        (&[("notes.txt", b"dear diary")], "notes.txt", "unknown file format"),
        (&[("notes.txt", b"")], "notes.txt", "F/notes.txt: this is an empty file"),
        (&[config], "config.json", "a config is not a model: give its folder"),
        (&[weights], "model.safetensors", "give a folder with their config.json"),
        (&[weights, config], "model.safetensors", "which has a config.json"),
        (&[("a.pth", &prompt)], "a.pth", "F/a.pth: this is an adapter, not a model"),
        (&[("a.pth", &shard)], "a.pth", "one of Meta's shards: give its folder, with params.json"),
        (&[("a.pth", &other)], "a.pth", "weights without a config are not a model"),
        (&[("tokenizer.json", b"{}")], "tokenizer.json", "a tokenizer is not a model"),
    ];
    for (files, given, expected) in cases {
        let message = open_error(files, given);
        assert!(message.contains(expected), "{given}: {message}");
    }
}
