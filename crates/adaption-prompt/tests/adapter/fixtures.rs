//! Adapters of every kind for any base, all their numbers open: what tests switch, mix and batch.

use adaption_prompt::files::AdapterReadOptions;
use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterWeights, AdaptionPromptConfig, BaseInfo, Gate,
    GateActivation, LoraConfig, V2Config,
};
use burn::tensor::{Device, Tensor, TensorData};
use llama::{Adapter, LinearName, Llama};

use crate::golden_models::{CASES, open_base};
use crate::named_tensors;

/// Bases that every test here runs on; each has three layers.
const BASES: [&str; CASES.len()] = CASES;

/// Runs a check for every base on every device.
pub fn for_each_base_and_device(check: impl Fn(&str, &Llama)) {
    for device in testing::devices() {
        for case in BASES {
            check(case, &open_base(case, &device));
        }
    }
}

/// As [`everywhere`], on one device: for what no device can change.
pub fn for_each_base(check: impl Fn(&str, &Llama)) {
    for case in BASES {
        check(case, &open_base(case, &testing::flex()));
    }
}

/// What every tensor of an attention is called before its last word, as PEFT has it.
pub fn attention_key(case: &str, layer: usize) -> String {
    if case.starts_with("gpt2") {
        format!("base_model.model.transformer.h.{layer}.attn")
    } else {
        format!("base_model.model.model.layers.{layer}.self_attn")
    }
}

/// Prompts as PEFT has them.
pub fn prompt_config(adapter_len: usize, layers: AdaptedLayers) -> AdaptionPromptConfig {
    AdaptionPromptConfig { adapter_len, layers, ..Default::default() }
}

/// One adapter of each kind, with lengths and layers of its own.
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

/// An adapter whose gates are open, and whose other numbers are away from their start.
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

/// One opened adapter of each kind.
pub fn perturbed_adapters(llama: &Llama) -> Vec<(&'static str, AdapterWeights)> {
    let seeds = 10_u64..;
    let open = |((name, config), seed)| (name, perturbed(config, llama, seed, &llama.device()));
    adapter_configs().into_iter().zip(seeds).map(open).collect()
}

/// Scores of every position of some rows.
pub fn logits(llama: &Llama, rows: &[Vec<u32>], adapter: &dyn Adapter) -> Tensor<3> {
    let tokens = llama.tokens(rows).unwrap();
    llama.logits(llama.forward(tokens, None, adapter).unwrap(), adapter)
}

/// Scores of two fixed rows, for comparisons bit for bit.
pub fn fixed_logits(llama: &Llama, adapter: &dyn Adapter) -> TensorData {
    let rows = [vec![3, 1, 4, 1, 5, 9, 2, 6, 5, 3], vec![27, 18, 28, 18, 28, 45, 90, 45, 23, 53]];
    logits(llama, &rows, adapter).into_data()
}

/// The largest difference between two answers.
pub fn max_abs_diff(a: &TensorData, b: &TensorData) -> f32 {
    a.iter::<f32>().zip(b.iter::<f32>()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// What the prompts of a layer add to its heads.
pub fn prompt_branch(adapter: &dyn Adapter, layer: usize, query: &Tensor<4>) -> Tensor<4> {
    let branches = adapter.prompts(layer).iter().map(|prompt| prompt.forward(query.clone()));
    branches.reduce(|sum, branch| sum + branch).expect("the layer has a prompt")
}

/// The base model of an adapter, for reading.
pub fn read_options(llama: &Llama) -> AdapterReadOptions {
    AdapterReadOptions {
        base: BaseInfo::from_config(llama.config(), None),
        ..AdapterReadOptions::default()
    }
}
