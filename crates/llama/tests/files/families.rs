//! Families of models: reading, writing and rejecting their configs and weights.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, Tensor, TensorData};
use checkpoint::folder::open_weights;
use checkpoint::{TensorSource, WeightFiles};
use llama::config::{Architecture, FeedForwardKind, RopeConfig, RopeScaling};
use llama::weights::huggingface::{parse_config, save};
use llama::{Error, Llama, LlamaConfig, ModelSource, NoAdapter, Precision};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use testing::{flex, golden_folder};

use testing::tiny_model;

/// Golden models that transformers has read, at least one per family.
const CASES: [&str; 8] = [
    "llama-bias",
    "llama-headdim16",
    "llama-rope3",
    "mistral-sw8",
    "gpt2",
    "phi3",
    "qwen2",
    "qwen3",
];

fn read(text: &Value) -> llama::Result<LlamaConfig> {
    parse_config(Path::new("config.json"), &text.to_string())
}

/// A config of a family with Llama's keys, with further keys.
fn like_llama(family: &str, more: Value) -> llama::Result<LlamaConfig> {
    let mut json = json!({
        "model_type": family, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 3,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 4, "vocab_size": 16,
    });
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    read(&json)
}

fn gpt2(more: Value) -> llama::Result<LlamaConfig> {
    let mut json = json!({
        "model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 16,
    });
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    read(&json)
}

fn base(case: &str) -> std::path::PathBuf {
    golden_folder().join(case).join("base")
}

fn numbers(source: &WeightFiles, name: &str) -> TensorData {
    source.read(name).unwrap().convert_dtype(DType::F32)
}

fn logits(llama: &Llama) -> Tensor<3> {
    let tokens = llama.tokens(&[vec![3, 1, 4, 1, 5]]).unwrap();
    llama.logits(llama.forward(tokens, None, &NoAdapter).unwrap(), &NoAdapter)
}

#[test]
fn every_family_round_trips() {
    for case in CASES {
        let source = ModelSource::open(base(case)).unwrap();
        let llama = source.load(Precision::F32, &flex()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        save(&llama, folder.path(), DType::F32).unwrap();

        let reopened = ModelSource::open(folder.path()).unwrap();
        assert_eq!(reopened.config(), source.config(), "{case}");
        // transformers reads the golden files: saved tensors must have the same names.
        let (ours, theirs) =
            (open_weights(folder.path()).unwrap(), open_weights(&base(case)).unwrap());
        assert_eq!(ours.shapes(), theirs.shapes(), "{case}");
        for name in theirs.shapes().keys() {
            assert_eq!(numbers(&ours, name), numbers(&theirs, name), "{case} {name}");
        }
    }
}

#[test]
fn every_family_has_random_init_and_serializes() {
    for config in tiny_model::configs() {
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<LlamaConfig>(&text).unwrap(), config);
        let llama = llama::weights::random_init(config.clone(), &flex()).unwrap();
        assert!(testing::values(logits(&llama)).iter().all(|x| x.is_finite()));
        assert_eq!(burn::module::Module::num_params(&llama), config.n_parameters());
    }
}

#[test]
fn settings_that_a_config_json_cannot_express_are_errors() {
    let save_error = |config: LlamaConfig, expected: &str| {
        let llama = tiny_model::model(config, &flex());
        let folder = tempfile::tempdir().unwrap();
        let error = save(&llama, folder.path(), DType::F32).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{expected}");
    };
    let llama = tiny_model::config();
    save_error(LlamaConfig { sliding_window: Some(4), ..llama.clone() }, "sliding_window is 4");
    save_error(
        LlamaConfig { qkv_bias: true, ..llama.clone() },
        "output_bias is false, expected true",
    );
    let scaling = RopeScaling::PerFrequency { divisors: vec![1.0; 4] };
    let rope = RopeConfig { theta: 10_000.0, scaling };
    save_error(LlamaConfig { rope, ..llama.clone() }, "expected {\"theta\":10000.0");
    let qwen2 = tiny_model::family_config(Architecture::by_model_type("qwen2").unwrap());
    save_error(
        LlamaConfig { output_bias: true, ..qwen2 },
        "the only value that a qwen2 config.json can hold",
    );
    let gpt2 = tiny_model::family_config(Architecture::by_model_type("gpt2").unwrap());
    save_error(LlamaConfig { feed_forward: FeedForwardKind::SwiGlu, ..gpt2 }, "feed_forward is");
}

#[test]
fn mistrals_window_is_4096_by_default_and_may_be_null() {
    let window = |more| like_llama("mistral", more).unwrap().sliding_window;
    assert_eq!(window(json!({"sliding_window": 16})), Some(16));
    assert_eq!(window(json!({"sliding_window": null})), None);
    assert_eq!(window(json!({})), Some(4096));
    // transformers' Llama has none, even if a file names it.
    let llama = like_llama("llama", json!({"sliding_window": 16})).unwrap();
    assert_eq!(llama.sliding_window, None);
}

#[test]
fn qwens_window_is_in_the_upper_layers_if_enabled() {
    let window = |more: Value| {
        let config = like_llama("qwen2", more)?;
        Ok((0..3).map(|layer| config.window(layer)).collect::<Vec<_>>())
    };
    let on = |key: &str, value: Value| {
        let mut json = json!({"use_sliding_window": true, "sliding_window": 4});
        json[key] = value;
        window(json)
    };
    let none = vec![None; 3];
    assert_eq!(window(json!({"sliding_window": 4, "max_window_layers": 0})).unwrap(), none);
    assert_eq!(on("max_window_layers", 3.into()).unwrap(), none);
    assert_eq!(on("sliding_window", Value::Null).unwrap(), none);
    let upper = vec![None, Some(4), Some(4)];
    assert_eq!(on("max_window_layers", 1.into()).unwrap(), upper);
    let (full, sliding) = ("full_attention", "sliding_attention");
    assert_eq!(on("layer_types", json!([full, sliding, sliding])).unwrap(), upper);
    let error: Error = on("layer_types", json!([sliding, full, sliding])).unwrap_err();
    assert!(error.to_string().contains("layer_types is sliding_attention full"), "{error}");
}

#[test]
fn qwen3s_head_dim_is_128_by_default() {
    let config = like_llama("qwen3", json!({"head_dim": null})).unwrap();
    assert_eq!((config.head_dim, config.qk_norm), (128, true));
}

#[test]
fn gpt2_has_defaults_and_rejects_unsupported_settings() {
    let config = gpt2(json!({"n_inner": null})).unwrap();
    assert_eq!((config.d_ff, config.max_positions, config.tied_head), (32, 1024, true));
    assert_eq!(config.feed_forward, FeedForwardKind::GeluTanh);
    let exact = gpt2(json!({"activation_function": "gelu"})).unwrap();
    assert_eq!(exact.feed_forward, FeedForwardKind::Gelu);
    for (key, value, expected) in [
        ("activation_function", json!("relu"), "relu, expected gelu_new or"),
        ("scale_attn_by_inverse_layer_idx", json!(true), "idx is true, expected false"),
        ("scale_attn_weights", json!(false), "weights is false, expected true"),
        ("n_head", json!(3), "head_dim is 2, expected 8 / 3"),
        ("n_embd", json!("wide"), "n_embd: invalid type"),
        ("n_layer", Value::Null, "n_layer is missing"),
    ] {
        let error = gpt2(json!({key: value})).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_unknown_family_is_an_error_that_lists_the_known_ones() {
    let error = like_llama("mamba", json!({})).unwrap_err().to_string();
    let known = "`mamba` is not supported (known: gpt2, llama, mistral, phi3, qwen2, qwen3)";
    assert!(error.contains(known), "{error}");
}

/// Older files of GPT-2 have no prefix and contain the causal mask.
#[test]
fn gpt2_files_without_prefix_and_with_masks_load() {
    let theirs = open_weights(&base("gpt2")).unwrap();
    let bytes = |name: &String| theirs.read(name).unwrap().as_bytes().to_vec();
    let mut tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = theirs
        .shapes()
        .iter()
        .map(|(name, shape)| {
            let bare = name.strip_prefix("transformer.").unwrap().to_owned();
            (bare, (Dtype::F32, shape.clone(), bytes(name)))
        })
        .collect();
    tensors.insert("h.0.attn.bias".into(), (Dtype::BOOL, vec![1, 1, 2, 2], vec![1, 0, 1, 1]));
    tensors.insert("h.0.attn.masked_bias".into(), (Dtype::F32, vec![], vec![0; 4]));
    let folder = tempfile::tempdir().unwrap();
    let write = |tensors: &BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>| {
        let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        let file = safetensors::serialize(views, None).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), file).unwrap();
    };
    write(&tensors);
    std::fs::copy(base("gpt2").join("config.json"), folder.path().join("config.json")).unwrap();
    let source = ModelSource::open(folder.path()).unwrap();
    let found = logits(&source.load(Precision::F32, &flex()).unwrap());
    let original = ModelSource::open(base("gpt2")).unwrap().load(Precision::F32, &flex()).unwrap();
    assert_eq!(testing::values(found), testing::values(logits(&original)));

    // Missing tensors are reported once, with the file's name.
    tensors.remove("h.1.attn.c_attn.weight");
    write(&tensors);
    let error = source.load(Precision::F32, &flex()).unwrap_err().to_string();
    assert!(error.ends_with("  missing (1):\n    h.1.attn.c_attn.weight"), "{error}");
}
