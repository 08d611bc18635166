//! Parity of the original release's gates, Adapter V2 and LoRA with an independent reference and PEFT's LoRA:
//! logits, loss, and the gradient of every tensor.

use adaption_prompt::files::peft;
use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterWeights, AdaptionPromptConfig, Gate, GateActivation,
    LoraConfig, PreparedAdapter, V2Config,
};
use burn::tensor::Tensor;
use checkpoint::{ByteSource, SafetensorsFile};
use llama::Llama;
use testing::{Golden, assert_close, assert_close_relative, golden_folder};

use crate::golden_models::open_base;
use crate::named_tensors;
use crate::parity::{GRADIENTS, LOGITS, LOSS, logits, mean_loss};

/// Grouped-query attention with a tied head, biases, another head width.
const BASES: [&str; 3] = ["llama-gqa-tied", "llama-bias", "llama-headdim16"];

/// Prompts of the golden files: four tokens, a gate per head.
fn heads(layers: AdaptedLayers, factor: bool) -> AdaptionPromptConfig {
    let gate = Gate::PerHead;
    AdaptionPromptConfig { adapter_len: 4, layers, gate, factor, ..Default::default() }
}

fn tanh(layers: AdaptedLayers, factor: bool) -> AdapterConfig {
    AdaptionPromptConfig { activation: GateActivation::Tanh, ..heads(layers, factor) }.into()
}

fn lora() -> LoraConfig {
    LoraConfig { rank: 4, alpha: 6.0, ..Default::default() }
}

/// Checks logits, loss and every gradient of a golden file on every device.
fn check(case: &str, kind: &str, config: &AdapterConfig) {
    for device in testing::devices() {
        let llama = open_base(case, &device);
        let golden = Golden::open(&format!("{case}/kinds/{kind}.safetensors"));
        let adapter =
            named_tensors::open_golden(&golden, config, &llama, &device.clone().autodiff());
        check_golden(
            &format!("{case} {kind}"),
            &llama,
            &golden,
            &adapter,
            &adapter.prepare(&llama),
        );
    }
}

/// Checks logits, loss and every gradient of an adapter that was prepared for a golden file's rows.
pub fn check_golden(
    what: &str,
    llama: &Llama,
    golden: &Golden,
    adapter: &AdapterWeights,
    prepared: &PreparedAdapter,
) {
    let device = llama.device();
    let what = |key: &str| format!("{what} {key}");
    let found = logits(llama, golden, "input_ids", prepared);
    let expected = golden.tensor::<3>("logits", &device);
    assert_close(&what("logits"), found.clone().inner(), expected, LOGITS);
    let loss = mean_loss(found, &golden.int_rows("labels"));
    let expected = golden.tensor::<1>("loss", &device);
    assert_close_relative(&what("loss"), loss.clone().inner(), expected, LOSS);

    for (key, found) in named_tensors::gradients(adapter, &loss.backward()) {
        let (_shape, expected) = golden.floats(&format!("grad.{key}"));
        if key.ends_with(".attn.key.bias") {
            // A bias of all keys does not change the softmax: both gradients are rounding errors.
            assert!(found.iter().chain(&expected).all(|x| x.abs() < 1e-6), "{key}");
            continue;
        }
        let tensor = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
        assert_close_relative(&what(&key), tensor(&found), tensor(&expected), GRADIENTS);
    }
}

#[test]
fn per_head_tanh_gates_equal_the_original() {
    for case in BASES {
        check(case, "v1", &tanh(AdaptedLayers::Last(2), false));
    }
}

#[test]
fn gate_factor_equals_the_reference() {
    for case in BASES {
        check(case, "v1_factor", &tanh(AdaptedLayers::Last(2), true));
    }
}

#[test]
fn scattered_layers_equal_the_reference() {
    for case in BASES {
        check(case, "v1_scattered", &tanh(AdaptedLayers::Chosen(vec![0, 2]), true));
    }
}

#[test]
fn v2_scales_and_biases_equal_lit() {
    for case in BASES {
        // Keys and values of the prompts pass through the adapted projections.
        let prompts = Some(heads(AdaptedLayers::Last(2), false));
        let config = AdapterConfig { prompts, ..V2Config::lit().into() };
        check(case, "v2_lit", &config);
    }
}

#[test]
fn v2_input_scales_equal_the_original() {
    for case in BASES {
        check(case, "v2_input", &V2Config::input_scale().into());
    }
}

#[test]
fn v2_biases_equal_the_original() {
    for case in BASES {
        check(case, "v2_bias", &V2Config::bias_only().into());
    }
}

#[test]
fn lora_equals_peft() {
    check("llama-gqa-tied", "lora", &lora().into());
}

#[test]
fn peft_lora_folder_round_trips() {
    let read = |folder: &std::path::Path| {
        SafetensorsFile::new(ByteSource::open(folder.join(peft::TENSORS_FILE)).unwrap()).unwrap()
    };
    for device in testing::devices() {
        let llama = open_base("llama-gqa-tied", &device);
        let theirs = golden_folder().join("llama-gqa-tied/lora");
        let adapter = AdapterWeights::load(&theirs, &llama, &device).unwrap();
        assert_eq!(adapter.config(), lora().into());

        let golden = Golden::open("llama-gqa-tied/kinds/lora.safetensors");
        let found = logits(&llama, &golden, "input_ids", &adapter.prepare(&llama));
        assert_close("logits", found, golden.tensor::<3>("logits", &device), LOGITS);

        let folder = tempfile::tempdir().unwrap();
        adapter.save(folder.path(), &llama, "llama-gqa-tied").unwrap();
        let (ours_file, theirs_file) = (read(folder.path()), read(&theirs));
        assert_eq!(ours_file.shapes(), theirs_file.shapes());
        assert_eq!(ours_file.dtypes(), theirs_file.dtypes());
        for key in theirs_file.shapes().keys() {
            assert_eq!(ours_file.read(key).unwrap(), theirs_file.read(key).unwrap(), "{key}");
        }
        let config = |folder: &std::path::Path| -> serde_json::Value {
            let text = std::fs::read_to_string(folder.join(peft::CONFIG_FILE)).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        let (ours, theirs) = (config(folder.path()), config(&theirs));
        // `6` and `6.0` are the same number.
        assert_eq!(ours["lora_alpha"].as_f64(), theirs["lora_alpha"].as_f64());
        for (key, value) in ours.as_object().unwrap() {
            if key != "lora_alpha" {
                assert_eq!(Some(value), theirs.get(key), "{key}");
            }
        }
    }
}
