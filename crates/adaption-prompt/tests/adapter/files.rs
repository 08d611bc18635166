//! Folders in PEFT's format: parity of reading and writing with PEFT, and mismatches.

use std::path::Path;

use crate::golden_models::{golden_prompt_config, open_adapter, open_base};
use adaption_prompt::files::{peft, read_folder};
use adaption_prompt::{
    AdapterSummary, AdapterWeights, AdaptionPromptConfig, Diagnostic, Error, Gate, GateActivation,
};
use burn::tensor::{Tensor, TensorData};
use checkpoint::{ByteSource, SafetensorsFile};
use llama::config::ModelShape;
use llama::{Llama, NoAdapter};
use serde_json::Value;
use testing::{Golden, assert_close, golden_folder};

const CASE: &str = "llama-gqa-tied";
/// Cases with an adapter that PEFT wrote.
const WRITTEN_BY_PEFT: [&str; 6] =
    ["llama-mha", "llama-gqa-tied", "llama-rope3", "llama-rope-linear", "mistral-sw8", "gpt2"];

fn read(path: &Path) -> SafetensorsFile {
    SafetensorsFile::new(ByteSource::open(path).unwrap()).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn logits(llama: &Llama, adapter: &AdapterWeights) -> Tensor<3> {
    let tokens = llama.tokens(&[vec![3, 1, 4, 1, 5, 9]]).unwrap();
    let prompts = adapter.prepare(llama);
    llama.logits(llama.forward(tokens, None, &prompts).unwrap(), &prompts).inner()
}

#[test]
fn peft_folder_gives_peft_logits() {
    for device in testing::devices() {
        for case in WRITTEN_BY_PEFT {
            let llama = open_base(case, &device);
            let folder = golden_folder().join(case).join("adapter");
            let adapter = AdapterWeights::load(&folder, &llama, &device).unwrap();
            let golden = Golden::open(&format!("{case}/golden.safetensors"));
            let tokens = golden.int_tensor("input_ids", &device);
            let hidden = llama.forward(tokens, None, &adapter.prepare(&llama)).unwrap();
            let expected = golden.tensor::<3>("logits", &device);
            assert_close(case, llama.logits(hidden, &NoAdapter), expected, 2e-4);
        }
    }
}

#[test]
fn written_folder_equals_peft() {
    let device = testing::flex();
    for case in WRITTEN_BY_PEFT {
        let llama = open_base(case, &device);
        let theirs = golden_folder().join(case).join("adapter");
        let adapter = AdapterWeights::load(&theirs, &llama, &device).unwrap();
        let ours = tempfile::tempdir().unwrap();
        adapter.save(ours.path(), &llama, "some/base").unwrap();

        let (ours_file, theirs_file) =
            (read(&ours.path().join(peft::TENSORS_FILE)), read(&theirs.join(peft::TENSORS_FILE)));
        assert_eq!(ours_file.shapes(), theirs_file.shapes());
        assert_eq!(ours_file.dtypes(), theirs_file.dtypes());
        for key in theirs_file.shapes().keys() {
            assert_eq!(ours_file.read(key).unwrap(), theirs_file.read(key).unwrap(), "{key}");
        }
        let ours_json = json(&ours.path().join(peft::CONFIG_FILE));
        let theirs_json = json(&theirs.join(peft::CONFIG_FILE));
        for key in ["adapter_layers", "adapter_len", "peft_type", "target_modules", "task_type"] {
            assert_eq!(ours_json[key], theirs_json[key], "{key}");
        }
        for (key, _) in ours_json.as_object().unwrap() {
            assert!(theirs_json.get(key).is_some(), "PEFT knows no {key}");
        }
    }
}

#[test]
fn tensor_names_equal_peft() {
    let llama = open_base(CASE, &testing::flex());
    let adapter = golden_prompt_config().init(&llama, 1, &testing::flex()).unwrap();
    let adapter = AdapterWeights::from(adapter);
    let folder = tempfile::tempdir().unwrap();
    adapter.save(folder.path(), &llama, "base").unwrap();
    let file = read(&folder.path().join(peft::TENSORS_FILE));
    let keys = file.shapes().iter().map(|(key, shape)| format!("{key} {shape:?}"));
    assert_eq!(
        keys.collect::<Vec<_>>(),
        [
            "base_model.model.model.layers.1.self_attn.adaption_gate [1]",
            "base_model.model.model.layers.1.self_attn.adaption_prompt [1, 5, 32]",
            "base_model.model.model.layers.2.self_attn.adaption_gate [1]",
            "base_model.model.model.layers.2.self_attn.adaption_prompt [1, 5, 32]",
        ]
    );
}

#[test]
fn an_adapter_of_another_family_is_refused() {
    let device = testing::flex();
    let llama = open_base(CASE, &device);
    let folder = golden_folder().join("gpt2/adapter");
    let error = AdapterWeights::load(&folder, &llama, &device).unwrap_err().to_string();
    assert!(error.contains("unexpected: base_model.model.transformer.h.1.attn."), "{error}");
    let prompts = AdapterSummary::read(&folder).unwrap().prompts.unwrap();
    assert_eq!(prompts.layers.iter().map(|layer| layer.layer).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn every_gate_kind_round_trips() {
    for device in testing::devices() {
        let llama = open_base(CASE, &device);
        let golden = Golden::open(&format!("{CASE}/variants.safetensors"));
        for (prefix, gate, activation) in [
            ("head_identity.", Gate::PerHead, GateActivation::Identity),
            ("head_tanh.", Gate::PerHead, GateActivation::Tanh),
            ("scalar_tanh.", Gate::Scalar, GateActivation::Tanh),
        ] {
            let config = AdaptionPromptConfig { gate, activation, ..golden_prompt_config() };
            let adapter = open_adapter(&golden, prefix, config, &llama, &device);
            let folder = tempfile::tempdir().unwrap();
            adapter.save(folder.path(), &llama, "base").unwrap();
            let loaded = AdapterWeights::load(folder.path(), &llama, &device).unwrap();
            assert_eq!(loaded.config(), adapter.config());
            assert_eq!(
                logits(&llama, &loaded).into_data(),
                logits(&llama, &adapter).into_data(),
                "{prefix}"
            );
            // PEFT would compute something else. It refuses a method that it does not know.
            let config = json(&folder.path().join(peft::CONFIG_FILE));
            assert_eq!(config["peft_type"], "LLAMA_ADAPTER");
        }
    }
}

#[test]
fn adapter_of_another_model_is_refused_with_every_mismatch() {
    let device = testing::flex();
    let llama = open_base(CASE, &device);
    let folder = golden_folder().join("smollm2/adapter");
    let mut sizes = ModelShape::from(llama.config());
    sizes.n_layers = 30;
    let data = read_folder(&folder).unwrap();
    let error = AdapterWeights::from_data(&data, &sizes, &folder, &device).unwrap_err();
    let Error::TensorMismatch { problems, .. } = &error else { panic!("{error}") };
    assert_eq!(problems.len(), 2, "{error}");
    assert!(error.to_string().contains("expected [1, 4, 32], found [1, 4, 576]"), "{error}");
    assert!(error.advice().unwrap().to_string().contains("made for this model"));
}

#[test]
fn more_adapted_layers_than_layers_are_refused() {
    let device = testing::flex();
    let llama = open_base(CASE, &device);
    let mut sizes = ModelShape::from(llama.config());
    sizes.n_layers = 1;
    let folder = golden_folder().join(CASE).join("adapter");
    let data = read_folder(&folder).unwrap();
    let error = AdapterWeights::from_data(&data, &sizes, &folder, &device).unwrap_err();
    assert_eq!(error.to_string(), "the adapter has 2 adapted layers, the model has 1 layers");
}

#[test]
fn corrupt_and_unsupported_folders_are_refused() {
    let device = testing::flex();
    let llama = open_base(CASE, &device);
    let folder = tempfile::tempdir().unwrap();
    let load = || AdapterWeights::load(folder.path(), &llama, &device).unwrap_err();
    assert!(matches!(load(), Error::NotAnAdapter { .. }));

    let config = folder.path().join(peft::CONFIG_FILE);
    std::fs::write(&config, "{").unwrap();
    assert!(matches!(load(), Error::ConfigFile { .. }));
    std::fs::write(&config, r#"{"peft_type": "IA3", "r": 8}"#).unwrap();
    assert!(load().to_string().contains("the method is `IA3`"), "{}", load());

    let adapter = AdapterWeights::from(golden_prompt_config().init(&llama, 1, &device).unwrap());
    adapter.save(folder.path(), &llama, "base").unwrap();
    let tensors = folder.path().join(peft::TENSORS_FILE);
    let whole = std::fs::read(&tensors).unwrap();
    std::fs::write(&tensors, "").unwrap();
    assert!(matches!(load(), Error::File(checkpoint::Error::Placeholder { .. })), "{}", load());
    for len in [5, 60, whole.len() - 1] {
        std::fs::write(&tensors, &whole[..len]).unwrap();
        assert!(matches!(load(), Error::File(checkpoint::Error::Format { .. })), "{len} bytes");
    }
    let mut poisoned = whole.clone();
    let end = poisoned.len();
    poisoned[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&tensors, &poisoned).unwrap();
    assert!(load().to_string().contains("has NaN or infinite numbers"));
    std::fs::remove_file(&tensors).unwrap();
    assert!(matches!(load(), Error::NotAnAdapter { .. }));
}

#[test]
fn adapter_switch_leaves_the_base_unchanged() {
    let device = testing::flex();
    let llama = open_base(CASE, &device);
    let tokens = || llama.tokens(&[vec![3, 1, 4, 1, 5]]).unwrap();
    let base =
        || llama.logits(llama.forward(tokens(), None, &NoAdapter).unwrap(), &NoAdapter).into_data();
    let before: TensorData = base();
    let golden = Golden::open(&format!("{CASE}/golden.safetensors"));
    let adapter = open_adapter(&golden, "", golden_prompt_config(), &llama, &device);
    let adapted = llama.forward(tokens(), None, &adapter.prepare(&llama)).unwrap();
    assert_ne!(llama.logits(adapted, &NoAdapter).into_data(), before);
    assert_eq!(base(), before);
}
