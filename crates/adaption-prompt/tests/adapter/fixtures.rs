//! Adapters of every method for any base, with nonzero gates and parameters away from their initial values.

use adaption_prompt::files::AdapterReadOptions;
use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterWeights, AdaptionPromptConfig, BaseInfo, Gate,
    GateActivation, LoraConfig, V2Config,
};
use burn::tensor::{Device, Tensor, TensorData};
use llama::{Adapter, LinearName, Llama};

use crate::golden_models::{CASES, open_base};
use crate::named_tensors;

/// Bases of the tests; each has three layers.
const BASES: [&str; CASES.len()] = CASES;

/// Runs a check for every base on every device.
pub fn for_each_base_and_device(check: impl Fn(&str, &Llama)) {
    for device in testing::devices() {
        for case in BASES {
            check(case, &open_base(case, &device));
        }
    }
}

/// As [`for_each_base_and_device`], on one device: for checks that do not depend on the device.
pub fn for_each_base(check: impl Fn(&str, &Llama)) {
    for case in BASES {
        check(case, &open_base(case, &testing::flex()));
    }
}

/// PEFT's name of an attention module, the prefix of its tensors.
pub fn attention_key(case: &str, layer: usize) -> String {
    if case.starts_with("gpt2") {
        format!("base_model.model.transformer.h.{layer}.attn")
    } else {
        format!("base_model.model.model.layers.{layer}.self_attn")
    }
}

/// Prompts that PEFT can compute.
pub fn prompt_config(adapter_len: usize, layers: AdaptedLayers) -> AdaptionPromptConfig {
    AdaptionPromptConfig { adapter_len, layers, ..Default::default() }
}

/// One adapter of each method, with different lengths and layers.
pub fn adapter_configs() -> Vec<(&'static str, AdapterConfig)> {
    use LinearName::{Down, Key, Output, Up};
    let heads = |adapter_len, layers, activation, factor| AdaptionPromptConfig {
        gate: Gate::PerHead,
        activation,
        factor,
        ..prompt_config(adapter_len, layers)
    };
    let tanh = heads(3, AdaptedLayers::Chosen(vec![0, 2]), GateActivation::Tanh, true);
    let lora = LoraConfig { rank: 3, alpha: 5.0, ..Default::default() };
    let wide = LoraConfig {
        linears: vec![Key, Output, Up, Down],
        layers: Some(AdaptedLayers::Chosen(vec![1])),
        ..lora.clone()
    };
    vec![
        ("scalar", prompt_config(5, AdaptedLayers::Last(2)).into()),
        ("scattered", prompt_config(2, AdaptedLayers::Chosen(vec![0, 2])).into()),
        ("heads", heads(7, AdaptedLayers::Last(3), GateActivation::Identity, false).into()),
        ("tanh", tanh.clone().into()),
        ("v2", V2Config::paper().into()),
        ("v2 on inputs", V2Config::input_scale().into()),
        ("v2 of biases", V2Config::bias_only().into()),
        ("lit", AdapterConfig { prompts: Some(tanh.clone()), ..V2Config::lit().into() }),
        ("lora", lora.into()),
        (
            "everything",
            AdapterConfig { v2: Some(V2Config::lit()), lora: Some(wide), ..tanh.into() },
        ),
    ]
}

/// An adapter with nonzero gates, and other parameters away from their initial values.
pub fn perturbed(
    config: impl Into<AdapterConfig>,
    llama: &Llama,
    seed: u64,
    device: &Device,
) -> AdapterWeights {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    // From 0.15 to 0.5, of either sign.
    let mut next = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = 0.15 + 0.35 * ((state >> 40) as f32 / (1 << 24) as f32);
        if state >> 39 & 1 == 0 { size } else { -size }
    };
    named_tensors::with_changed_tensors(&config.into(), llama, seed, device, |tensors| {
        for (name, numbers) in tensors {
            let by = match &name {
                name if name.ends_with("_prompt") || name.ends_with("lora_A.weight") => 0.0,
                name if name.ends_with("_gate") => 1.0,
                _ => 0.5,
            };
            for number in numbers {
                *number += by * next();
            }
        }
    })
}

/// One perturbed adapter of each method.
pub fn perturbed_adapters(llama: &Llama) -> Vec<(&'static str, AdapterWeights)> {
    let seeds = 10_u64..;
    let open = |((name, config), seed)| (name, perturbed(config, llama, seed, &llama.device()));
    adapter_configs().into_iter().zip(seeds).map(open).collect()
}

/// Logits of every position of some rows.
pub fn logits(llama: &Llama, rows: &[Vec<u32>], adapter: &dyn Adapter) -> Tensor<3> {
    let tokens = llama.tokens(rows).unwrap();
    llama.logits(llama.forward(tokens, None, adapter).unwrap(), adapter)
}

/// Logits of two fixed rows, for bit-for-bit comparisons.
pub fn fixed_logits(llama: &Llama, adapter: &dyn Adapter) -> TensorData {
    let rows = [vec![3, 1, 4, 1, 5, 9, 2, 6, 5, 3], vec![27, 18, 28, 18, 28, 45, 90, 45, 23, 53]];
    logits(llama, &rows, adapter).into_data()
}

/// The largest absolute difference.
pub fn max_abs_diff(a: &TensorData, b: &TensorData) -> f32 {
    a.iter::<f32>().zip(b.iter::<f32>()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The sum of the branches of a layer.
pub fn prompt_branch(adapter: &dyn Adapter, layer: usize, query: &Tensor<4>) -> Tensor<4> {
    let branches = adapter.prompts(layer).iter().map(|prompt| prompt.forward(query.clone()));
    branches.reduce(|sum, branch| sum + branch).expect("the layer has a prompt")
}

/// Read options with the base model.
pub fn read_options(llama: &Llama) -> AdapterReadOptions {
    AdapterReadOptions {
        base: BaseInfo::from_config(llama.config(), None),
        ..AdapterReadOptions::default()
    }
}
