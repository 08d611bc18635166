//! Named tensors ⇄ an adapter as plain numbers.

use std::collections::BTreeMap;
use std::path::Path;

use llama::LinearName;
use llama::config::Architecture;

use super::keys::{self, Part};
use super::tensors::{Array, Arrays, is_lora_pair};
use crate::config::{Gate, GateActivation, PromptProjection};
use crate::data::{
    AdapterData, BaseInfo, ImageData, LoraData, LoraPairData, PromptData, PromptLayerData, V2Data,
};
use crate::error::{Error, Result};
use crate::image::{ImageConfig, TENSOR_PREFIX};
use crate::v2::V2Scale;

/// What the settings say should be among the tensors.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    pub prompts: Option<(Gate, GateActivation, PromptProjection)>,
    /// Length and number of layers.
    pub prompt_shape: Option<(usize, usize)>,
    /// What the base calls its attention.
    pub attention: Option<String>,
    pub scale: Option<V2Scale>,
    pub lora: Option<LoraShape>,
    /// Layers of the model, where the base's sizes do not say it.
    pub n_layers: Option<usize>,
    pub image: Option<ImageConfig>,
}

/// Ranks of LoRA, and what its products are multiplied by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoraShape {
    /// Of all products that have no other one.
    pub rank: usize,
    /// All are multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Of those that do.
    pub ranks: BTreeMap<(usize, LinearName), usize>,
}

/// Named tensors ─► data, all that is wrong in one report.
pub(crate) fn assemble(
    mut base: BaseInfo,
    expected: &Expected,
    arrays: Arrays,
    path: &Path,
) -> Result<AdapterData> {
    let mut problems = Vec::new();
    let mut parts: BTreeMap<(usize, Part), Array> = BTreeMap::new();
    let last = base.sizes.as_ref().map(|sizes| sizes.n_layers).or(expected.n_layers);
    let is_image =
        |name: &str| name.strip_prefix(TENSOR_PREFIX).is_some_and(|rest| rest.starts_with('.'));
    let mut images = BTreeMap::new();
    for (name, array) in arrays {
        if expected.image.is_some() && is_image(&name) {
            images.insert(name, (array.shape, array.values));
            continue;
        }
        let known = keys::parse(&name).filter(|(_, _, part)| expected.knows(*part));
        match known {
            Some((family, layer, part)) => {
                base.architecture = base.architecture.or(family);
                match layer.or(last) {
                    Some(layer) => {
                        parts.insert((layer, part), array);
                    }
                    None => problems.push(format!("{name} needs the base's sizes in the settings")),
                }
            }
            None => problems.push(format!("unexpected: {name}")),
        }
    }
    let family = base.architecture;
    if let (Some(expected), Some(family)) = (&expected.attention, family) {
        let attention = family.attention_module(0);
        // PEFT puts prompts where the setting says, and looks for no tensors elsewhere.
        if attention.rsplit('.').next() != Some(expected) {
            problems.push(format!(
                "the setting `target_modules` is `{}`, the tensors are those of {attention}",
                expected.escape_debug()
            ));
        }
    }
    let prompts = expected
        .prompts
        .map(|gates| prompts_of(&parts, gates, expected.prompt_shape, family, &mut problems));
    let v2 = expected.scale.map(|scale| v2_of(&parts, scale, &mut problems));
    let lora = expected.lora.as_ref().map(|shape| lora_of(&parts, shape, &mut problems));
    if !problems.is_empty() {
        return Err(Error::TensorMismatch { path: path.into(), problems });
    }
    let image = expected.image.clone().map(|config| ImageData { config, tensors: images });
    Ok(AdapterData { base, prompts, v2, lora, image })
}

impl Expected {
    fn knows(&self, part: Part) -> bool {
        match part {
            Part::Prompt | Part::Gate | Part::Factor => self.prompts.is_some(),
            Part::Scale(_) | Part::Bias(_) | Part::NormWeight(_) | Part::NormBias(_) => {
                self.scale.is_some()
            }
            Part::LoraA(_) | Part::LoraB(_) => self.lora.is_some(),
        }
    }
}

fn prompts_of(
    parts: &BTreeMap<(usize, Part), Array>,
    (gate, activation, projection): (Gate, GateActivation, PromptProjection),
    shape: Option<(usize, usize)>,
    family: Option<&Architecture>,
    problems: &mut Vec<String>,
) -> PromptData {
    let layers = BTreeMap::new();
    let mut data = PromptData { adapter_len: 0, d_model: 0, gate, activation, projection, layers };
    let of_layers =
        parts.keys().filter(|(_, part)| matches!(part, Part::Prompt | Part::Gate | Part::Factor));
    let mut layers = of_layers.map(|(layer, _)| *layer).collect::<Vec<_>>();
    layers.dedup();
    for layer in layers {
        let get = |part| parts.get(&(layer, part));
        let (Some(prompt), Some(gates)) = (get(Part::Prompt), get(Part::Gate)) else {
            for part in [Part::Prompt, Part::Gate] {
                if get(part).is_none() {
                    problems.push(format!("missing: {}", keys::key(family, layer, part)));
                }
            }
            continue;
        };
        let key = keys::key(family, layer, Part::Prompt);
        let (&[adapter_len, d_model] | &[1, adapter_len, d_model]) = &prompt.shape[..] else {
            problems.push(format!("{key}: expected [1, K, C], found {:?}", prompt.shape));
            continue;
        };
        let wanted = shape.map_or(adapter_len, |(len, _)| len);
        let first = data.layers.is_empty();
        if adapter_len != wanted
            || !first && (adapter_len, d_model) != (data.adapter_len, data.d_model)
        {
            let width = if first { d_model } else { data.d_model };
            problems
                .push(format!("{key}: expected [1, {wanted}, {width}], found {:?}", prompt.shape));
            continue;
        }
        if adapter_len == 0 || d_model == 0 {
            problems.push(format!("{key}: {:?} is empty", prompt.shape));
            continue;
        }
        let count = gates.values.len();
        if gates.squeezed().len() > 1 || count == 0 || gate == Gate::Scalar && count != 1 {
            let key = keys::key(family, layer, Part::Gate);
            problems.push(format!(
                "{key}: expected one gate a {}, found {:?}",
                if gate == Gate::Scalar { "layer" } else { "head" },
                gates.shape
            ));
            continue;
        }
        (data.adapter_len, data.d_model) = (adapter_len, d_model);
        let factor = match get(Part::Factor).map(|factor| (&factor.values[..], &factor.shape)) {
            Some((&[factor], _)) => Some(factor),
            Some((_, shape)) => {
                let key = keys::key(family, layer, Part::Factor);
                problems.push(format!("{key}: expected one factor a layer, found {shape:?}"));
                continue;
            }
            None => None,
        };
        let own =
            PromptLayerData { prompt: prompt.values.clone(), gate: gates.values.clone(), factor };
        data.layers.insert(layer, own);
    }
    if let Some((_, wanted)) = shape
        && data.layers.len() != wanted
        && problems.is_empty()
    {
        problems.push(format!("expected prompts of {wanted} layers, found {}", data.layers.len()));
    }
    if data.layers.is_empty() && problems.is_empty() {
        problems.push("no prompts".into());
    }
    data
}

fn v2_of(
    parts: &BTreeMap<(usize, Part), Array>,
    scale: V2Scale,
    problems: &mut Vec<String>,
) -> V2Data {
    let mut data = V2Data { scale, linears: BTreeMap::new(), norms: BTreeMap::new() };
    for ((layer, part), array) in parts {
        let values = array.values.clone();
        match *part {
            Part::Scale(name) => {
                data.linears.entry((*layer, name)).or_default().scale = Some(values);
            }
            Part::Bias(name) => data.linears.entry((*layer, name)).or_default().bias = Some(values),
            Part::NormWeight(name) => data.norms.entry((*layer, name)).or_default().weight = values,
            Part::NormBias(name) => {
                data.norms.entry((*layer, name)).or_default().bias = Some(values);
            }
            _ => {}
        }
    }
    if data.linears.is_empty() && data.norms.is_empty() && problems.is_empty() {
        problems.push("no scales, biases or norms".into());
    }
    data
}

fn lora_of(
    parts: &BTreeMap<(usize, Part), Array>,
    shape: &LoraShape,
    problems: &mut Vec<String>,
) -> LoraData {
    let LoraShape { rank, alpha, ref ranks } = *shape;
    let mut pairs = BTreeMap::new();
    if rank == 0 || ranks.values().any(|&rank| rank == 0) {
        problems.push("LoRA of rank 0".into());
    }
    for ((layer, part), a) in parts {
        let name = match *part {
            Part::LoraA(name) => name,
            Part::LoraB(name) => {
                if !parts.contains_key(&(*layer, Part::LoraA(name))) {
                    let key = keys::key(None, *layer, Part::LoraA(name));
                    problems.push(format!("missing: {key}"));
                }
                continue;
            }
            _ => continue,
        };
        let Some(b) = parts.get(&(*layer, Part::LoraB(name))) else {
            let key = keys::key(None, *layer, Part::LoraB(name));
            problems.push(format!("missing: {key}"));
            continue;
        };
        let rank = ranks.get(&(*layer, name)).copied().unwrap_or(rank);
        if !is_lora_pair(a, b, rank) {
            let key = keys::key(None, *layer, Part::LoraA(name));
            let (a, b) = (&a.shape, &b.shape);
            problems.push(format!("{key}: expected rank {rank}, found {a:?} and {b:?}"));
        }
        let own = LoraPairData { rank, a: a.values.clone(), b: b.values.clone() };
        pairs.insert((*layer, name), own);
    }
    if pairs.is_empty() && problems.is_empty() {
        problems.push("no low-rank products".into());
    }
    LoraData { rank, alpha, pairs }
}

/// Every tensor of an adapter under its name.
pub(crate) fn arrays(data: &AdapterData) -> Arrays {
    let family = data.base.architecture;
    let mut arrays = Arrays::new();
    let mut put = |layer: usize, part: Part, shape: Vec<usize>, values: &[f32]| {
        arrays.insert(keys::key(family, layer, part), Array::new(shape, values.to_vec()));
    };
    if let Some(prompts) = &data.prompts {
        let PromptData { adapter_len, d_model, .. } = *prompts;
        for (&layer, own) in &prompts.layers {
            put(layer, Part::Prompt, vec![1, adapter_len, d_model], &own.prompt);
            put(layer, Part::Gate, vec![own.gate.len()], &own.gate);
            if let Some(factor) = own.factor {
                put(layer, Part::Factor, vec![1], &[factor]);
            }
        }
    }
    if let Some(v2) = &data.v2 {
        let mut vector = |layer, part, values: &[f32]| put(layer, part, vec![values.len()], values);
        for (&(layer, name), own) in &v2.linears {
            own.scale.iter().for_each(|values| vector(layer, Part::Scale(name), values));
            own.bias.iter().for_each(|values| vector(layer, Part::Bias(name), values));
        }
        for (&(layer, name), own) in &v2.norms {
            vector(layer, Part::NormWeight(name), &own.weight);
            own.bias.iter().for_each(|values| vector(layer, Part::NormBias(name), values));
        }
    }
    if let Some(lora) = &data.lora {
        for (&(layer, name), LoraPairData { rank, a, b }) in &lora.pairs {
            put(layer, Part::LoraA(name), vec![*rank, a.len() / rank], a);
            put(layer, Part::LoraB(name), vec![b.len() / rank, *rank], b);
        }
    }
    for (name, (shape, values)) in data.image.iter().flat_map(|own| &own.tensors) {
        arrays.insert(name.clone(), Array::new(shape.clone(), values.clone()));
    }
    arrays
}
