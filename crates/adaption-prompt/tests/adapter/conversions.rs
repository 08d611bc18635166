//! Conversion between any two formats: what both can hold is kept, the rest is reported as lost.

use std::collections::BTreeMap;
use std::path::Path;

use adaption_prompt::files::{AdapterReadOptions, Format, read, write};
use adaption_prompt::parts::{
    LoraData, LoraPairData, PromptData, PromptLayerData, V2Data, V2LinearData, V2NormData,
};
use adaption_prompt::{
    AdapterData, Advice, BaseInfo, Diagnostic, Error, Gate, GateActivation, PromptProjection,
    V2Scale,
};
use llama::config::ModelShape;
use llama::model::NormName;
use llama::{LinearName, LlamaConfig};
use proptest::prelude::*;
use proptest::sample::subsequence;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use testing::tiny_model as seeded;

/// Shape of an adapter; its values are drawn from `seed`.
#[derive(Debug, Clone)]
struct AdapterShape {
    config: LlamaConfig,
    adapter_len: usize,
    layers: Vec<usize>,
    gate: Gate,
    activation: GateActivation,
    factor: bool,
    v2: Option<V2Scale>,
    seed: u64,
}

fn adapter_shapes() -> impl Strategy<Value = AdapterShape> {
    let sizes = (2..=4_usize, 1..=2_usize, 1..=2_usize, 1..=2_usize, 1..=6_usize);
    let config = sizes.prop_map(|(n_layers, n_kv_heads, group, half, d_model)| LlamaConfig {
        n_layers,
        n_kv_heads,
        n_heads: n_kv_heads * group,
        head_dim: 2 * half,
        d_model,
        d_ff: 5,
        vocab_size: 7,
        ..seeded::config()
    });
    let layers = |n: usize| subsequence((0..n).collect::<Vec<_>>(), 1..=n);
    let config = config.prop_flat_map(move |config| (layers(config.n_layers), Just(config)));
    let gate = prop_oneof![Just(Gate::Scalar), Just(Gate::PerHead)];
    let activation = prop_oneof![Just(GateActivation::Identity), Just(GateActivation::Tanh)];
    let scales = prop_oneof![Just(V2Scale::None), Just(V2Scale::Output), Just(V2Scale::Input)];
    let v2 = proptest::option::of(scales);
    (config, 1..=4_usize, gate, activation, any::<bool>(), v2, any::<u64>()).prop_map(
        |((layers, config), adapter_len, gate, activation, factor, v2, seed)| AdapterShape {
            config,
            adapter_len,
            layers,
            gate,
            activation,
            factor,
            v2,
            seed,
        },
    )
}

impl AdapterShape {
    fn data(&self) -> AdapterData {
        let Self { config, adapter_len, layers, .. } = self;
        let sizes = ModelShape::from(config);
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut numbers = |count: usize| {
            // Away from 0, so that no gate is zero.
            let number = |_| rng.random_range(0.05..1.5) * [-1.0, 1.0][rng.random_range(0..2)];
            (0..count).map(number).collect::<Vec<f32>>()
        };
        let gates = if self.gate == Gate::PerHead { config.n_heads } else { 1 };
        let prompts = layers.iter().map(|&layer| {
            let prompt = numbers(adapter_len * config.d_model);
            let factor = self.factor.then(|| numbers(1)[0]);
            (layer, PromptLayerData { prompt, gate: numbers(gates), factor })
        });
        let prompts = PromptData {
            adapter_len: *adapter_len,
            d_model: config.d_model,
            gate: self.gate,
            activation: self.activation,
            projection: PromptProjection::Adapted,
            layers: prompts.collect(),
        };
        let v2 = self.v2.map(|scale| {
            let mut data = V2Data { scale, linears: BTreeMap::new(), norms: BTreeMap::new() };
            for layer in 0..=config.n_layers {
                let names = LinearName::ALL_IN_LAYER.iter().copied().chain([LinearName::Head]);
                let some = names
                    .filter(|name| *name != LinearName::Value)
                    .filter(|&name| sizes.has_linear(layer, name));
                for name in some {
                    let [d_out, d_in] = sizes.linear_shape(name);
                    let own = match scale {
                        V2Scale::None => None,
                        V2Scale::Output => Some(numbers(d_out)),
                        V2Scale::Input => Some(numbers(d_in)),
                    };
                    let own = V2LinearData { scale: own, bias: Some(numbers(d_out)) };
                    data.linears.insert((layer, name), own);
                }
                let last = layer == config.n_layers;
                let name = if last { NormName::Final } else { NormName::FeedForward };
                let norm = V2NormData { weight: numbers(config.d_model), bias: None };
                data.norms.insert((layer, name), norm);
            }
            data
        });
        let base = BaseInfo::from_config(config, Some("some/base".into()));
        AdapterData { base, prompts: Some(prompts), v2, ..AdapterData::default() }
    }

    fn options(&self, original_gates: GateActivation) -> AdapterReadOptions {
        AdapterReadOptions { base: BaseInfo::from_config(&self.config, None), original_gates }
    }
}

/// Expected losses of an adapter in a format: a part of each text.
fn losses(data: &AdapterData, format: Format, gates: GateActivation) -> Vec<&'static str> {
    let mut losses = Vec::new();
    let prompts = data.prompts.as_ref().unwrap();
    let effective = || prompts.layers.values().map(|own| prompts.effective_gates(own));
    let v2 = data.v2.as_ref();
    match format {
        Format::LlamaAdapter => {}
        Format::Peft | Format::PeftBin => {
            losses.extend(v2.map(|_| "Adapter V2"));
            losses.extend(
                effective()
                    .filter(|gates| gates.iter().any(|g| *g != gates[0]))
                    .map(|_| "differ by head"),
            );
        }
        Format::Original => {
            losses.extend(v2.map(|_| "Adapter V2"));
            let as_it_is = prompts.activation == GateActivation::Tanh
                && prompts.layers.values().all(|own| own.factor.is_none());
            if gates == GateActivation::Tanh && !as_it_is {
                let large = effective().filter(|gates| gates.iter().any(|g| g.abs() >= 1.0));
                losses.extend(large.map(|_| "tanh stays between -1 and 1"));
            }
        }
        Format::LitLlama | Format::Litgpt => {
            let on_inputs = v2.filter(|v2| v2.scale == V2Scale::Input);
            losses.extend(on_inputs.map(|_| "scales on the inputs"));
        }
        other => panic!("{other} is new"),
    }
    losses
}

/// The effect of the prompts: for each layer its prompt and a gate per head.
fn effective_prompts(data: &AdapterData, n_heads: usize) -> BTreeMap<usize, (Vec<f32>, Vec<f32>)> {
    let prompts = data.prompts.as_ref().unwrap();
    let layers = prompts.layers.iter().map(|(layer, own)| {
        let gates = prompts.effective_gates(own);
        let gates = if gates.len() == 1 { vec![gates[0]; n_heads] } else { gates };
        (*layer, (own.prompt.clone(), gates))
    });
    layers.filter(|(_, (_, gates))| gates.iter().any(|gate| *gate != 0.0)).collect()
}

/// Every scale, bias and norm, with the neutral values of absent ones.
fn v2_values(data: &AdapterData, sizes: &ModelShape) -> Option<BTreeMap<String, Vec<f32>>> {
    let v2 = data.v2.as_ref()?;
    let mut all = BTreeMap::new();
    let names = LinearName::ALL_IN_LAYER.iter().copied().chain([LinearName::Head]);
    for (layer, name) in
        (0..=sizes.n_layers).flat_map(|layer| names.clone().map(move |n| (layer, n)))
    {
        if !sizes.has_linear(layer, name) {
            continue;
        }
        let own = v2.linears.get(&(layer, name)).cloned().unwrap_or_default();
        let [d_out, d_in] = sizes.linear_shape(name);
        let scaled = if v2.scale == V2Scale::Input { d_in } else { d_out };
        let scale = own.scale.unwrap_or_else(|| vec![1.0; scaled]);
        all.insert(format!("{layer} {name:?} scale"), scale);
        all.insert(format!("{layer} {name:?} bias"), own.bias.unwrap_or_else(|| vec![0.0; d_out]));
    }
    for ((layer, name), own) in &v2.norms {
        all.insert(format!("{layer} {name:?}"), own.weight.clone());
    }
    Some(all)
}

/// Writes an adapter and checks the reported losses. Returns whether there were none.
fn write_and_check_losses(
    data: &AdapterData,
    path: &Path,
    format: Format,
    gates: GateActivation,
) -> bool {
    let expected = losses(data, format, gates);
    let check = |found: &[String]| {
        assert_eq!(found.len(), expected.len(), "{format}: {found:?}, not {expected:?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!(found.contains(expected), "{format}: {found}");
        }
    };
    match write(data, path, format, gates, false) {
        Ok(losses) => {
            check(&losses);
            return true;
        }
        Err(Error::Lossy { losses, .. }) => check(&losses),
        Err(error) => panic!("{format}: {error}"),
    }
    assert!(!expected.is_empty() && !path.exists(), "{format}");
    check(&write(data, path, format, gates, true).unwrap());
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conversion_between_any_two_formats_keeps_what_both_hold(shape in adapter_shapes(), plain in any::<bool>()) {
        let gates = if plain { GateActivation::Identity } else { GateActivation::Tanh };
        let (data, options) = (shape.data(), shape.options(gates));
        let (sizes, n_heads) = (ModelShape::from(&shape.config), shape.config.n_heads);
        for &from in Format::ALL {
            let folder = tempfile::tempdir().unwrap();
            let first = folder.path().join("first");
            // Losses of the first conversion do not matter for the second.
            let whole = write_and_check_losses(&data, &first, from, gates);
            // With a single head the gate's shape does not identify the format.
            let clear = n_heads > 1 || from != Format::Litgpt;
            prop_assert!(!clear || Format::detect(&first).unwrap() == from);
            let there = read(&first, &options).unwrap();
            if from == Format::LlamaAdapter {
                prop_assert_eq!(&there, &data);
            }
            let near = |found: &AdapterData, expected: &AdapterData, through: &[Format]| {
                let (found, expected) = (effective_prompts(found, n_heads), effective_prompts(expected, n_heads));
                assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
                let exact = plain || !through.contains(&Format::Original);
                let tolerance = if exact { 0.0 } else { 2e-6 };
                for (layer, (prompt, gates)) in &expected {
                    assert_eq!(&found[layer].0, prompt, "{through:?}: prompt of layer {layer}");
                    for (found, expected) in found[layer].1.iter().zip(gates) {
                        assert!((found - expected).abs() <= tolerance, "{through:?}: {found} {expected}");
                    }
                }
            };
            if whole {
                near(&there, &data, &[from]);
                prop_assert_eq!(v2_values(&there, &sizes), v2_values(&data, &sizes));
            }
            for &to in Format::ALL {
                let second = folder.path().join(to.name());
                if !write_and_check_losses(&there, &second, to, gates) {
                    continue;
                }
                let arrived = read(&second, &options).unwrap();
                near(&arrived, &there, &[from, to]);
                prop_assert_eq!(v2_values(&arrived, &sizes), v2_values(&there, &sizes), "{} {}", from, to);
            }
        }
    }

    #[test]
    fn missing_or_wrong_base_sizes_are_errors(shape in adapter_shapes()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut data = shape.data();
        data.base = BaseInfo::default();
        for format in [Format::Original, Format::LitLlama, Format::Litgpt] {
            let error = write(&data, &path, format, GateActivation::Tanh, true).unwrap_err();
            prop_assert!(matches!(error, Error::MissingBaseInfo { .. }), "{error}");
            prop_assert!(error.advice() == Some(Advice::GiveBaseModel) && !path.exists());
        }
        // Sizes of another model.
        for change in [|sizes: &mut ModelShape| sizes.d_model += 1, |sizes: &mut ModelShape| sizes.n_layers = 0] {
            let mut sizes = ModelShape::from(&shape.config);
            change(&mut sizes);
            data.base.sizes = Some(sizes);
            for &format in Format::ALL {
                let error = write(&data, &path, format, GateActivation::Tanh, true).unwrap_err();
                prop_assert!(matches!(error, Error::TensorMismatch { .. }), "{error}");
                prop_assert!(!path.exists());
            }
        }
    }
}

/// One layer of prompts, or no part, for the small model of three layers.
fn small(prompts: bool) -> AdapterData {
    let config = seeded::config();
    let d_model = config.d_model;
    let own = PromptLayerData { prompt: vec![0.5; d_model], gate: vec![0.25], factor: None };
    let prompts = prompts.then(|| PromptData {
        adapter_len: 1,
        d_model,
        gate: Gate::Scalar,
        activation: GateActivation::Identity,
        projection: PromptProjection::Adapted,
        layers: [(0, own)].into(),
    });
    AdapterData { base: BaseInfo::from_config(&config, None), prompts, ..AdapterData::default() }
}

fn lora(layers: usize) -> LoraData {
    let own = LoraPairData { rank: 1, a: vec![0.5; 32], b: vec![0.5; 32] };
    let pair = |layer| ((layer, LinearName::Query), own.clone());
    LoraData { rank: 1, alpha: 2.0, pairs: (0..layers).map(pair).collect() }
}

#[test]
fn peft_conversion_fills_layers_up_to_the_last() {
    let folder = tempfile::tempdir().unwrap();
    let data = small(true);
    // PEFT adapts the last layer; here the prompt is in the first of three layers.
    assert!(!adaption_prompt::files::peft::is_peft_compatible(&data));
    let losses = write(&data, folder.path(), Format::Peft, GateActivation::Tanh, false).unwrap();
    assert!(losses.is_empty());
    let there = read(folder.path(), &AdapterReadOptions::default()).unwrap().prompts.unwrap();
    let gates = there.layers.values().map(|own| own.gate[0]);
    assert_eq!(gates.collect::<Vec<_>>(), [0.25, 0.0, 0.0]);
}

#[test]
fn peft_conversion_keeps_lora_and_drops_v2() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = AdapterData { lora: Some(lora(3)), ..small(false) };
    let norm = V2NormData { weight: vec![1.0; 32], bias: None };
    let norms = [((0, NormName::Attention), norm)].into();
    data.v2 = Some(V2Data { scale: V2Scale::Output, linears: BTreeMap::new(), norms });
    let losses = write(&data, folder.path(), Format::Peft, GateActivation::Tanh, true).unwrap();
    assert_eq!(losses, ["Adapter V2's 0 scales and biases and 1 norms"]);
    let there = read(folder.path(), &AdapterReadOptions::default()).unwrap();
    assert_eq!(there.lora, data.lora);
}

#[test]
fn nothing_is_written_if_no_part_is_convertible() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let data = AdapterData { lora: Some(lora(2)), ..small(false) };
    for format in [Format::Original, Format::LitLlama, Format::Litgpt] {
        let error = write(&data, &path, format, GateActivation::Tanh, true).unwrap_err();
        let expected = format!("{format} can hold nothing of this adapter\n  LoRA of rank 1 on 2 ");
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(error.advice() != Some(Advice::AllowLossyConversion) && !path.exists());
    }
}

#[test]
fn lora_on_a_fused_linear_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = AdapterData { lora: Some(lora(3)), ..small(false) };
    data.base.architecture = llama::config::Architecture::by_model_type("phi3");
    let path = folder.path().join("x");
    let error =
        write(&data, &path, Format::Peft, GateActivation::Tanh, true).unwrap_err().to_string();
    assert!(error.contains("which are fused in this model"), "{error}");
}

#[test]
fn norm_biases_are_reported_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let mut data = small(true);
    let norm = V2NormData { weight: vec![1.0; 32], bias: Some(vec![0.5; 32]) };
    let norms = [((0, NormName::Attention), norm)].into();
    data.v2 = Some(V2Data { scale: V2Scale::Output, linears: BTreeMap::new(), norms });
    let error = write(&data, &path, Format::Litgpt, GateActivation::Tanh, false).unwrap_err();
    assert!(error.to_string().contains("biases of 1 norms"), "{error}");
}
