//! Parity of logits, loss and gradients with PEFT, or with an independent reference where PEFT does not support
//! the adapter. The gates are nonzero in every golden file: a zero gate would hide any mistake.

use crate::golden_models::{CASES, golden_prompt_config, open_adapter, open_base};
use adaption_prompt::{AdapterWeights, AdaptionPromptConfig, Gate, GateActivation};
use burn::tensor::{Tensor, activation::log_softmax};
use llama::{Adapter, KvCache, Llama, NoAdapter};
use testing::{Golden, assert_close, assert_close_relative};

pub const LOGITS: f64 = 2e-4;
pub const LOSS: f64 = 1e-5;
pub const GRADIENTS: f64 = 1e-3;

/// Mean negative log-likelihood of the labels, as Hugging Face computes it.
pub fn mean_loss(logits: Tensor<3>, labels: &[Vec<i64>]) -> Tensor<1> {
    let [batch, seq, vocab] = logits.dims();
    let device = logits.device().without_autodiff();
    let log_probabilities = log_softmax(logits, 2).reshape([batch * seq, vocab]);
    let (mut places, mut wanted) = (Vec::new(), Vec::new());
    for (row, labels) in labels.iter().enumerate() {
        for (position, &label) in labels.iter().enumerate().skip(1) {
            if label >= 0 {
                places.push((row * seq + position - 1) as i64);
                wanted.push(label);
            }
        }
    }
    let count = places.len() as f64;
    let places = Tensor::from_ints(places.as_slice(), &device);
    let wanted = Tensor::<1, burn::tensor::Int>::from_ints(wanted.as_slice(), &device);
    let picked = log_probabilities.select(0, places).gather(1, wanted.unsqueeze_dim(1));
    picked.sum().neg() / count
}

pub fn logits(llama: &Llama, golden: &Golden, ids: &str, adapter: &dyn Adapter) -> Tensor<3> {
    let tokens = golden.int_tensor(ids, &llama.device());
    llama.logits(llama.forward(tokens, None, adapter).unwrap(), adapter)
}

/// Checks one forward and backward pass of a golden file: logits, loss, every gradient.
fn check_pass(case: &str, llama: &Llama, adapter: &AdapterWeights, golden: &Golden, prefix: &str) {
    let name = |key: &str| format!("{prefix}{key}");
    let plain = llama.device();
    let found = logits(llama, golden, &name("input_ids"), &adapter.prepare(llama));
    let expected = golden.tensor::<3>(&name("logits"), &plain);
    assert_close(&format!("{case} {prefix}logits"), found.clone().inner(), expected, LOGITS);

    let loss = mean_loss(found, &golden.int_rows(&name("labels")));
    let expected = golden.tensor::<1>(&name("loss"), &plain);
    assert_close_relative(&format!("{case} {prefix}loss"), loss.clone().inner(), expected, LOSS);

    let gradients = loss.backward();
    let prompts = adapter.prompts.as_ref().unwrap();
    for (index, layer) in prompts.layers.iter().enumerate() {
        let key = |what: &str| {
            let family = llama.config().architecture;
            let attention = family.attention_module(adapter.first_layer() + index);
            name(&format!("grad.base_model.model.{attention}.adaption_{what}"))
        };
        let found = layer.prompt.val().grad(&gradients).expect("prompts learn");
        let expected = golden.tensor::<3>(&key("prompt"), &plain).squeeze_dim::<2>(0);
        assert_close_relative(&format!("{case} {}", key("prompt")), found, expected, GRADIENTS);
        let found = layer.gate.val().grad(&gradients).expect("gates learn");
        let (_shape, expected) = golden.floats(&key("gate"));
        let expected = Tensor::<1>::from_floats(expected.as_slice(), &plain);
        assert_close_relative(&format!("{case} {}", key("gate")), found, expected, GRADIENTS);
    }
}

#[test]
fn base_logits_equal_transformers() {
    for device in testing::devices() {
        for case in CASES {
            let llama = open_base(case, &device);
            let golden = Golden::open(&format!("{case}/golden.safetensors"));
            let found = logits(&llama, &golden, "input_ids", &NoAdapter);
            let expected = golden.tensor::<3>("base_logits", &device);
            assert_close(&format!("{case} base logits"), found.clone(), expected, LOGITS);
            let loss = mean_loss(found, &golden.int_rows("labels"));
            let expected = golden.tensor::<1>("base_loss", &device);
            assert_close_relative(&format!("{case} base loss"), loss, expected, LOSS);
        }
    }
}

#[test]
pub fn logits_loss_and_gradients_equal_peft() {
    for device in testing::devices() {
        for case in CASES {
            let llama = open_base(case, &device);
            let golden = Golden::open(&format!("{case}/golden.safetensors"));
            let adapter = open_adapter(
                &golden,
                "",
                golden_prompt_config(),
                &llama,
                &device.clone().autodiff(),
            );
            check_pass(case, &llama, &adapter, &golden, "");
        }
    }
}

#[test]
fn per_head_and_tanh_gates_equal_the_reference() {
    for device in testing::devices() {
        for case in ["llama-gqa-tied", "llama-headdim16", "qwen2", "qwen3"] {
            let llama = open_base(case, &device);
            let golden = Golden::open(&format!("{case}/variants.safetensors"));
            for (prefix, gate, activation) in [
                ("head_identity.", Gate::PerHead, GateActivation::Identity),
                ("head_tanh.", Gate::PerHead, GateActivation::Tanh),
                ("scalar_tanh.", Gate::Scalar, GateActivation::Tanh),
            ] {
                if !golden.names().iter().any(|name| name.starts_with(prefix)) {
                    assert!(
                        case.starts_with("qwen") && activation == GateActivation::Tanh,
                        "{case}"
                    );
                    continue;
                }
                let config = AdaptionPromptConfig { gate, activation, ..golden_prompt_config() };
                let device = device.clone().autodiff();
                let adapter = open_adapter(&golden, prefix, config, &llama, &device);
                check_pass(case, &llama, &adapter, &golden, prefix);
            }
        }
    }
}

#[test]
fn left_padded_rows_equal_the_reference() {
    for device in testing::devices() {
        for case in CASES {
            let llama = open_base(case, &device);
            let golden = Golden::open(&format!("{case}/golden.safetensors"));
            let adapter = open_adapter(&golden, "", golden_prompt_config(), &llama, &device);
            let masks = golden.int_rows("pad_attention_mask");
            let padding = masks
                .iter()
                .map(|row| row.iter().filter(|&&real| real == 0).count())
                .collect::<Vec<_>>();
            let seq = masks[0].len();
            let mut state = KvCache::new(llama.config(), padding.clone(), seq, &device).unwrap();
            let tokens = golden.int_tensor("input_ids", &device);
            let projected = adapter.prepare(&llama);
            let hidden = llama.forward(tokens, Some(&mut state), &projected).unwrap();
            let found = llama.logits(hidden, &projected);
            let expected = golden.tensor::<3>("pad_logits", &device);
            for (row, &padding) in padding.iter().enumerate() {
                let real = |logits: &Tensor<3>| {
                    logits.clone().narrow(0, row, 1).narrow(1, padding, seq - padding)
                };
                assert_close(&format!("{case} row {row}"), real(&found), real(&expected), LOGITS);
            }
        }
    }
}

#[test]
fn zero_gate_equals_the_base_bit_for_bit() {
    for device in testing::devices() {
        for case in CASES {
            let llama = open_base(case, &device);
            let golden = Golden::open(&format!("{case}/golden.safetensors"));
            let fresh =
                AdapterWeights::from(golden_prompt_config().init(&llama, 7, &device).unwrap());
            let base = logits(&llama, &golden, "input_ids", &NoAdapter);
            let adapted = logits(&llama, &golden, "input_ids", &fresh.prepare(&llama));
            assert_eq!(adapted.into_data(), base.into_data(), "{case}");
        }
    }
}

#[test]
fn fresh_adapter_has_gradients_in_its_gates_only() {
    let device = testing::flex();
    let llama = open_base("llama-gqa-tied", &device);
    let golden = Golden::open("llama-gqa-tied/golden.safetensors");
    let fresh = golden_prompt_config().init(&llama, 7, &device.clone().autodiff()).unwrap();
    let fresh = AdapterWeights::from(fresh);
    let found = logits(&llama, &golden, "input_ids", &fresh.prepare(&llama));
    let gradients = mean_loss(found, &golden.int_rows("labels")).backward();
    for layer in &fresh.prompts.unwrap().layers {
        let gate = layer.gate.val().grad(&gradients).unwrap();
        let prompt = layer.prompt.val().grad(&gradients).unwrap();
        assert!(gate.abs().into_scalar::<f32>() > 0.0);
        assert_eq!(prompt.abs().max().into_scalar::<f32>(), 0.0);
    }
}
