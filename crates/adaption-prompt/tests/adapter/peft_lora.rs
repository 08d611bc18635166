//! LoRA folders of PEFT and other programs: parity with PEFT, and unsupported settings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adaption_prompt::files::{AdapterReadOptions, Format, peft, read, unknown_settings, write};
use adaption_prompt::{
    AdapterSummary, AdapterWeights, AnyAdapter, Diagnostic, Error, GateActivation,
};
use burn::tensor::Tensor;
use llama::Llama;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use testing::{Golden, assert_close, golden_folder};

use crate::fixtures::read_options;
use crate::golden_models::open_base;

/// Folder, its base, and whether PEFT's format can hold it.
const FOLDERS: [(&str, &str, bool); 9] = [
    ("stabilised", "llama-gqa-tied", true),
    ("patterns", "llama-gqa-tied", true),
    ("stabilised-patterns", "llama-gqa-tied", true),
    ("one-layer", "llama-gqa-tied", true),
    ("head", "llama-mha", true),
    ("tied-head", "llama-gqa-tied", true),
    ("gpt2", "gpt2", false),
    ("phi3", "phi3", false),
    ("bf16", "llama-gqa-tied", true),
];
const LOGITS: f64 = 2e-4;

fn folder(name: &str) -> PathBuf {
    golden_folder().join("lora").join(name)
}

fn logits(llama: &Llama, path: &Path) -> Tensor<3> {
    let adapter = AnyAdapter::load(path, llama, &llama.device()).unwrap().prepare(llama);
    let golden = Golden::open("lora/logits.safetensors");
    let tokens = golden.int_tensor("input_ids", &llama.device());
    llama.logits(llama.forward(tokens, None, &adapter).unwrap(), &adapter)
}

#[test]
fn supported_lora_settings_give_peft_logits() {
    let golden = Golden::open("lora/logits.safetensors");
    for device in testing::devices() {
        for (name, base, _) in FOLDERS {
            let llama = open_base(base, &device);
            assert_close(name, logits(&llama, &folder(name)), golden.tensor(name, &device), LOGITS);
        }
    }
}

#[test]
fn peft_lora_converts_losslessly_between_folder_formats() {
    let device = testing::flex();
    let golden = Golden::open("lora/logits.safetensors");
    let work = tempfile::tempdir().unwrap();
    for (name, base, separate) in FOLDERS {
        let llama = open_base(base, &device);
        let data = read(&folder(name), &read_options(&llama)).unwrap();
        for format in [Format::LlamaAdapter, Format::Peft, Format::PeftBin] {
            let path = work.path().join(format!("{name} as {format}"));
            let written = write(&data, &path, format, GateActivation::Tanh, false);
            if format != Format::LlamaAdapter && !separate {
                let error = written.unwrap_err();
                assert!(
                    matches!(error, Error::Lossy { .. } | Error::NothingConvertible { .. }),
                    "{error}"
                );
                continue;
            }
            assert_eq!(written.unwrap(), [""; 0], "{name} as {format}");
            assert_close(name, logits(&llama, &path), golden.tensor(name, &device), LOGITS);
        }
    }
}

#[test]
fn lora_ranks_round_trip() {
    let device = testing::flex();
    let golden = Golden::open("lora/logits.safetensors");
    for (name, base, _) in FOLDERS {
        let llama = open_base(base, &device);
        let work = tempfile::tempdir().unwrap();
        let adapter = AdapterWeights::load(&folder(name), &llama, &device).unwrap();
        adapter.save(work.path(), &llama, base).unwrap();
        assert_close(name, logits(&llama, work.path()), golden.tensor(name, &device), LOGITS);
    }
}

#[test]
fn lora_is_summarized_without_a_model() {
    for (name, linears) in [("gpt2", 3 * 6), ("phi3", 3 * 6), ("head", 4), ("patterns", 5)] {
        let summary = AdapterSummary::read(&folder(name)).unwrap();
        assert_eq!(summary.lora.unwrap().linears, linears, "{name}");
    }
}

#[test]
fn missing_base_sizes_are_reported() {
    for (name, what) in [("phi3", "the model's heads"), ("head", "the model's number of layers")] {
        let error = read(&folder(name), &AdapterReadOptions::default()).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    // GPT-2 has as many key and value heads as query heads.
    read(&folder("gpt2"), &AdapterReadOptions::default()).unwrap();
}

#[test]
fn modules_of_another_family_are_refused() {
    let gpt2 = open_base("gpt2", &testing::flex());
    let llama = open_base("llama-mha", &testing::flex());
    let error = read(&folder("one-layer"), &read_options(&gpt2)).unwrap_err().to_string();
    assert!(error.contains("self_attn.k_proj, which is no module of a gpt2 model"), "{error}");
    let error = read(&folder("gpt2"), &read_options(&llama)).unwrap_err().to_string();
    assert!(error.contains("attn.c_attn, which is no module of a llama model"), "{error}");
}

/// A copy of a folder with other settings and tensors.
fn changed(
    name: &str,
    settings: &Value,
    rename: impl Fn(&str) -> Vec<String>,
) -> (tempfile::TempDir, PathBuf) {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().to_owned();
    let text = std::fs::read_to_string(folder(name).join(peft::CONFIG_FILE)).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (key, value) in settings.as_object().unwrap() {
        config[key] = value.clone();
    }
    std::fs::write(path.join(peft::CONFIG_FILE), config.to_string()).unwrap();
    let bytes = std::fs::read(folder(name).join(peft::TENSORS_FILE)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = BTreeMap::new();
    for (key, view) in file.iter() {
        for renamed in rename(key) {
            tensors.insert(renamed, view.clone());
        }
    }
    std::fs::write(path.join(peft::TENSORS_FILE), safetensors::serialize(tensors, None).unwrap())
        .unwrap();
    (work, path)
}

fn same(key: &str) -> Vec<String> {
    vec![key.to_owned()]
}

fn error(settings: &Value, rename: impl Fn(&str) -> Vec<String>) -> Error {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let (_work, path) = changed("stabilised", settings, rename);
    AdapterWeights::load(&path, &llama, &llama.device()).unwrap_err()
}

#[test]
fn alternative_tensor_names_are_accepted() {
    let device = testing::flex();
    let llama = open_base("llama-gqa-tied", &device);
    let expected = Golden::open("lora/logits.safetensors").tensor::<3>("stabilised", &device);
    let renames: [fn(&str) -> Vec<String>; 3] = [
        |key| vec![key.replace(".weight", ".default.weight")],
        |key| vec![key.replace(".weight", ".sql.weight")],
        |key| vec![key.strip_prefix("base_model.model.").unwrap().to_owned()],
    ];
    for rename in renames {
        let (_work, path) = changed("stabilised", &json!({}), rename);
        assert_close("renamed", logits(&llama, &path), expected.clone(), LOGITS);
    }
}

#[test]
fn unsupported_lora_tensors_are_refused_by_name() {
    for name in [
        "base_model.model.lm_head.weight",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.model.embed_tokens.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
        "base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias",
        "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta",
        "base_model.model.model.norm.weight",
    ] {
        let beside = "layers.0.self_attn.q_proj.lora_A";
        let error = error(&json!({}), |key| {
            let more = key.contains(beside).then(|| name.to_owned());
            [key.to_owned()].into_iter().chain(more).collect()
        });
        assert!(error.to_string().contains(&format!("unexpected: {name}")), "{error}");
    }
    let error = error(&json!({}), |key| vec![key.replace(".weight", ".a.weight"), key.into()]);
    assert!(error.to_string().contains("tensors of 2 adapters"), "{error}");
}

#[test]
fn unsupported_settings_are_refused_by_name() {
    for (setting, value) in [
        ("use_dora", json!(true)),
        ("use_qalora", json!(true)),
        ("alora_invocation_tokens", json!([3])),
        ("layer_replication", json!([[0, 2], [1, 3]])),
        ("modules_to_save", json!(["lm_head"])),
        ("lora_bias", json!(true)),
        ("trainable_token_indices", json!([1, 2])),
        ("target_parameters", json!(["mlp.experts.down_proj"])),
        ("megatron_config", json!({"a": 1})),
        ("arrow_config", json!({"top_k": 3})),
        ("task_type", json!("SEQ_CLS")),
    ] {
        let error = error(&json!({setting: value}), same);
        assert!(matches!(error, Error::UnsupportedSetting { .. }), "{error}");
        assert!(error.to_string().contains(&format!("`{setting}` of {value}")), "{error}");
        assert!(error.advice().unwrap().to_string().contains("merge_and_unload"));
    }
}

#[test]
fn lora_init_that_modifies_the_base_is_refused_with_a_hint() {
    for initial in ["pissa", "pissa_niter_16", "olora", "corda", "loftq"] {
        let error = error(&json!({"init_lora_weights": initial}), same);
        assert!(matches!(error, Error::ModifiesBase { .. }), "{error}");
        assert!(error.to_string().contains(&format!("`init_lora_weights` of \"{initial}\"")));
        assert!(
            error
                .advice()
                .unwrap()
                .to_string()
                .contains("path_initial_model_for_weight_conversion")
        );
    }
    let error = error(&json!({"init_lora_weights": "new"}), same).to_string();
    assert!(error.contains("`init_lora_weights` is \"new\", expected true, false"), "{error}");
}

#[test]
fn tensors_outside_of_target_modules_are_refused() {
    for settings in [
        json!({"target_modules": ["v_proj"]}),
        json!({"target_modules": ".*v_proj"}),
        json!({"exclude_modules": ["q_proj"]}),
        json!({"layers_to_transform": [0, 1]}),
    ] {
        let error = error(&settings, same).to_string();
        assert!(
            error.contains("not in `target_modules`: PEFT would ignore its tensors"),
            "{settings}: {error}"
        );
    }
    for settings in [json!({"target_modules": null}), json!({"target_modules": "all-linear"})] {
        let llama = open_base("llama-gqa-tied", &testing::flex());
        let (_work, path) = changed("stabilised", &settings, same);
        AdapterWeights::load(&path, &llama, &llama.device()).unwrap();
    }
}

#[test]
fn mismatched_ranks_are_refused() {
    for settings in [
        json!({"r": 5}),
        json!({"rank_pattern": {"q_proj": 2}}),
        json!({"rank_pattern": {"q_proj": 0}}),
        json!({"r": 0}),
    ] {
        let error = error(&settings, same).to_string();
        assert!(error.contains("expected rank"), "{settings}: {error}");
    }
    for (settings, expected) in [
        (json!({"rank_pattern": {"(": 4}}), "is not a valid pattern"),
        (json!({"rank_pattern": {"q_proj": "a"}}), "the value of `q_proj` is no number"),
        (json!({"alpha_pattern": [1]}), "`alpha_pattern` is not a map"),
    ] {
        let error = error(&settings, same).to_string();
        assert!(error.contains(expected), "{settings}: {error}");
    }
}

#[test]
fn zero_alpha_disables_lora_except_for_alpha_pattern() {
    let device = testing::flex();
    let llama = open_base("llama-gqa-tied", &device);
    let golden = Golden::open("lora/logits.safetensors");
    // The patterns give each module the scaling of the golden file.
    let settings = json!({"lora_alpha": 0, "alpha_pattern": {"q_proj": 6, "v_proj": 6}});
    let (_work, path) = changed("stabilised", &settings, same);
    let expected = golden.tensor::<3>("stabilised", &device);
    assert_close("by patterns", logits(&llama, &path), expected, LOGITS);
    let (_work, path) = changed("stabilised", &json!({"lora_alpha": 0}), same);
    let tokens = golden.int_tensor("input_ids", &device);
    let base = llama.forward(tokens, None, &llama::NoAdapter).unwrap();
    let base = llama.logits(base, &llama::NoAdapter);
    assert_close("no factor", logits(&llama, &path), base, 1e-5);
}

#[test]
fn unknown_settings_are_reported() {
    for (name, _, _) in FOLDERS {
        assert_eq!(unknown_settings(&folder(name)).unwrap(), [""; 0], "{name}");
    }
    let (_work, path) = changed("stabilised", &json!({"use_new": false, "a_new": {}}), same);
    assert_eq!(unknown_settings(&path).unwrap(), ["a_new", "use_new"]);

    // Settings of this program's folder, and of the components of a mix.
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let work = tempfile::tempdir().unwrap();
    let part = work.path().join("part");
    let adapter = AdapterWeights::load(&folder("patterns"), &llama, &llama.device()).unwrap();
    adapter.save(&part, &llama, "base").unwrap();
    assert_eq!(unknown_settings(&part).unwrap(), [""; 0]);
    let settings = part.join(adaption_prompt::files::SETTINGS_FILE);
    let text = std::fs::read_to_string(&settings).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    json["lora"]["warmth"] = json!(3);
    json["note"] = json!("x");
    std::fs::write(&settings, json.to_string()).unwrap();
    assert_eq!(unknown_settings(&part).unwrap(), ["lora.warmth", "note"]);
    let mix = json!({"format": 1, "mix": [{"name": "part", "weight": 1.0}]});
    std::fs::write(work.path().join(adaption_prompt::files::SETTINGS_FILE), mix.to_string())
        .unwrap();
    assert_eq!(unknown_settings(work.path()).unwrap(), ["lora.warmth", "note"]);
}

#[test]
fn target_modules_of_another_attention_are_refused() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let golden = golden_folder().join("llama-gqa-tied/adapter");
    let work = tempfile::tempdir().unwrap();
    std::fs::copy(golden.join(peft::TENSORS_FILE), work.path().join(peft::TENSORS_FILE)).unwrap();
    let text = std::fs::read_to_string(golden.join(peft::CONFIG_FILE)).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (value, works) in [(json!("self_attn"), true), (json!(null), true), (json!("attn"), false)]
    {
        config["target_modules"] = value;
        std::fs::write(work.path().join(peft::CONFIG_FILE), config.to_string()).unwrap();
        match AdapterWeights::load(work.path(), &llama, &llama.device()) {
            Ok(_) => assert!(works),
            Err(error) => {
                assert!(
                    !works && error.to_string().contains("`target_modules` is `attn`"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn half_precision_tensors_are_read() {
    // The golden file is bf16; f16 is the other common data type.
    let device = testing::flex();
    let llama = open_base("llama-gqa-tied", &device);
    let bytes = std::fs::read(folder("stabilised").join(peft::TENSORS_FILE)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let halves = file.iter().map(|(name, view)| {
        let floats = view.data().chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap()));
        let halves = floats.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect::<Vec<_>>();
        (name.to_owned(), (view.shape().to_vec(), halves))
    });
    let halves = halves.collect::<BTreeMap<_, _>>();
    let views = halves.iter().map(|(name, (shape, bytes))| {
        (name, TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap())
    });
    let (_work, path) = changed("stabilised", &json!({}), same);
    std::fs::write(path.join(peft::TENSORS_FILE), safetensors::serialize(views, None).unwrap())
        .unwrap();
    let expected = Golden::open("lora/logits.safetensors").tensor::<3>("stabilised", &device);
    assert_close("f16", logits(&llama, &path), expected, 2e-2);
}
