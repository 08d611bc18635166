//! Prompts and gates as host values: checks against a model, named tensors, settings.

use std::collections::{BTreeMap, BTreeSet};

use llama::config::{Architecture, ModelShape};
use serde::{Deserialize, Serialize};

use super::config::PromptProjection;
use crate::adapted_layers::AdaptedLayers;
use crate::base::BaseInfo;
use crate::error::{Error, Result};
use crate::gate::{Gate, GateActivation};
use crate::part::{PartData, PartSettings, PartTensors, PromptShape};
use crate::tensors::host_tensor::{HostTensor, HostTensors};
use crate::tensors::names::{ModuleName, tensor_name};

const PROMPT: &str = "adaption_prompt";
const GATE: &str = "adaption_gate";
const FACTOR: &str = "adaption_factor";
/// Suffixes of the tensors of an attention.
pub(super) const PROMPT_SUFFIXES: [&str; 3] = [PROMPT, GATE, FACTOR];

/// Prompts and gates in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptData {
    /// Prompt tokens per layer.
    pub adapter_len: usize,
    /// Width of the model.
    pub d_model: usize,
    /// Gates per layer.
    pub gate: Gate,
    /// Activation of the gates.
    pub activation: GateActivation,
    /// Projections that give keys and values.
    pub projection: PromptProjection,
    /// By layer index.
    pub layers: BTreeMap<usize, PromptLayerData>,
}

/// Prompt and gates of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptLayerData {
    /// `[adapter_len, d_model]`, row-major.
    pub prompt: Vec<f32>,
    /// One value, or one per head, before the activation.
    pub gate: Vec<f32>,
    /// Multiplies the activated gates.
    pub factor: Option<f32>,
}

impl PromptData {
    /// The activated gates of a layer times its factor.
    pub fn effective_gates(&self, layer: &PromptLayerData) -> Vec<f32> {
        let factor = layer.factor.unwrap_or(1.0);
        layer.gate.iter().map(|&gate| self.activation.apply(gate) * factor).collect()
    }

    /// Whether PEFT's own code computes the same: one gate per layer without activation or factor, and
    /// consecutive layers.
    pub fn is_peft_compatible(&self) -> bool {
        let indices = self.layers.keys().copied();
        let first = indices.clone().next().unwrap_or(0);
        self.gate == Gate::Scalar
            && self.activation == GateActivation::Identity
            && self.layers.values().all(|layer| layer.factor.is_none())
            && indices.eq(first..first + self.layers.len())
    }

    /// A problem if the prompts are not in the last layers of a model of `n_layers` layers.
    ///
    /// Other programs put prompts into the last layers only, and their files do not name the model:
    /// prompts in other layers were made for another model.
    pub(crate) fn check_last_layers(&self, n_layers: usize) -> Option<String> {
        let indices = self.indices();
        match AdaptedLayers::from_indices(&indices, n_layers) {
            AdaptedLayers::Last(_) => None,
            AdaptedLayers::Chosen(_) => Some(format!(
                "expected prompts in the last {} of {n_layers} layers, found them in {indices:?}",
                indices.len()
            )),
        }
    }

    fn indices(&self) -> Vec<usize> {
        self.layers.keys().copied().collect()
    }
}

impl PartData for PromptData {
    fn n_parameters(&self) -> usize {
        let layers = self.layers.values();
        layers
            .map(|own| own.prompt.len() + own.gate.len() + usize::from(own.factor.is_some()))
            .sum()
    }

    fn prompt_shape(&self) -> Option<PromptShape> {
        Some(PromptShape::new(self.adapter_len, self.indices()))
    }

    fn check_base(
        &self,
        base: &BaseInfo,
        model: &ModelShape,
        problems: &mut Vec<String>,
    ) -> Result<()> {
        let indices = self.indices();
        if indices.len() > model.n_layers {
            let (requested, available) = (indices.len(), model.n_layers);
            return Err(Error::TooManyLayers { requested, available });
        }
        AdaptedLayers::from_indices(&indices, model.n_layers).indices(model.n_layers)?;
        if base.sizes.is_none() {
            problems.extend(self.check_last_layers(model.n_layers));
        }
        let (adapter_family, model_family) = (base.architecture, model.architecture);
        if adapter_family
            .is_some_and(|own| own.attention_module(0) != model_family.attention_module(0))
        {
            let first = indices.first().copied().unwrap_or(0);
            let name = |family| tensor_name(family, first, ModuleName::Attention, PROMPT);
            let (found, expected) = (name(adapter_family), name(Some(model_family)));
            problems.push(format!("unexpected: {found}; its name in this model is {expected}"));
        }
        Ok(())
    }

    fn check_shapes(
        &self,
        _prompts: Option<&PromptShape>,
        model: &ModelShape,
        problems: &mut Vec<String>,
    ) {
        let n_layers = model.n_layers;
        for layer in self.layers.keys().filter(|layer| **layer >= n_layers) {
            problems.push(format!("prompt of layer {layer}: the model has {n_layers} layers"));
        }
        let Self { adapter_len, d_model, .. } = self;
        if *d_model != model.d_model {
            for layer in self.layers.keys() {
                problems.push(format!(
                    "prompt of layer {layer}: expected [1, {adapter_len}, {}], found [1, \
                     {adapter_len}, {d_model}]",
                    model.d_model
                ));
            }
        }
        let expected = self.gate.count(model.n_heads);
        for (layer, own) in &self.layers {
            let found = own.gate.len();
            if found != expected {
                problems
                    .push(format!("gates of layer {layer}: expected {expected}, found {found}"));
            }
        }
    }

    fn to_tensors(&self, family: Option<&'static Architecture>, tensors: &mut HostTensors) {
        let Self { adapter_len, d_model, .. } = *self;
        for (&layer, own) in &self.layers {
            let mut insert = |suffix: &str, shape: Vec<usize>, values: &[f32]| {
                let name = tensor_name(family, layer, ModuleName::Attention, suffix);
                tensors.insert(name, HostTensor::new(shape, values.to_vec()));
            };
            insert(PROMPT, vec![1, adapter_len, d_model], &own.prompt);
            insert(GATE, vec![own.gate.len()], &own.gate);
            if let Some(factor) = own.factor {
                insert(FACTOR, vec![1], &[factor]);
            }
        }
    }

    fn loss(&self) -> String {
        format!("prompts of {} tokens in {} layers", self.adapter_len, self.layers.len())
    }
}

/// The prompts' section of `llama_adapter.json`, and what PEFT's config says of them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PromptSettings {
    pub gate: Gate,
    pub activation: GateActivation,
    #[serde(default, skip_serializing_if = "is_default_projection")]
    pub projection: PromptProjection,
    /// From PEFT's config: prompt length and number of adapted layers.
    #[serde(skip)]
    pub shape: Option<(usize, usize)>,
    /// From PEFT's config: the name of the base's attention modules.
    #[serde(skip)]
    pub attention: Option<String>,
}

impl PromptSettings {
    pub fn new(gate: Gate, activation: GateActivation, projection: PromptProjection) -> Self {
        Self { gate, activation, projection, shape: None, attention: None }
    }
}

impl PartSettings for PromptSettings {
    const KEYS: &'static [&'static str] = &["activation", "gate", "projection"];
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde needs")]
fn is_default_projection(projection: &PromptProjection) -> bool {
    *projection == PromptProjection::default()
}

/// Assembles prompts from their tensors.
pub(super) fn prompts_from_tensors(
    settings: &PromptSettings,
    tensors: &PartTensors,
    family: Option<&'static Architecture>,
    problems: &mut Vec<String>,
) -> PromptData {
    if let (Some(expected), Some(family)) = (&settings.attention, family) {
        let attention = family.attention_module(0);
        // PEFT adds prompts to the modules of this setting, and reads no tensors of other modules.
        if attention.rsplit('.').next() != Some(expected) {
            problems.push(format!(
                "the setting `target_modules` is `{}`, the tensors are those of {attention}",
                expected.escape_debug()
            ));
        }
    }
    let PromptSettings { gate, activation, projection, shape, .. } = *settings;
    let layers = BTreeMap::new();
    let mut data = PromptData { adapter_len: 0, d_model: 0, gate, activation, projection, layers };
    let indices = tensors.by_address.keys().map(|(layer, _, _)| *layer).collect::<BTreeSet<_>>();
    for layer in indices {
        if let Err(problem) = layer_from_tensors(layer, &mut data, shape, tensors, family) {
            problems.extend(problem);
        }
    }
    if let Some((_, expected)) = shape
        && data.layers.len() != expected
        && problems.is_empty()
    {
        problems
            .push(format!("expected prompts of {expected} layers, found {}", data.layers.len()));
    }
    if data.layers.is_empty() && problems.is_empty() {
        problems.push("no prompts".into());
    }
    data
}

/// Adds one layer to `data`. The first layer determines the prompt length and width.
fn layer_from_tensors(
    layer: usize,
    data: &mut PromptData,
    shape: Option<(usize, usize)>,
    tensors: &PartTensors,
    family: Option<&'static Architecture>,
) -> Result<(), Vec<String>> {
    let get = |suffix| tensors.get(layer, ModuleName::Attention, suffix);
    let name = |suffix| tensor_name(family, layer, ModuleName::Attention, suffix);
    let (Some(prompt), Some(gates)) = (get(PROMPT), get(GATE)) else {
        let missing = [PROMPT, GATE].into_iter().filter(|suffix| get(suffix).is_none());
        return Err(missing.map(|suffix| format!("missing: {}", name(suffix))).collect());
    };
    let (&[adapter_len, d_model] | &[1, adapter_len, d_model]) = &prompt.shape[..] else {
        let found = &prompt.shape;
        return Err(vec![format!("{}: expected [1, K, C], found {found:?}", name(PROMPT))]);
    };
    let expected_len = shape.map_or(adapter_len, |(len, _)| len);
    let first = data.layers.is_empty();
    if adapter_len != expected_len
        || !first && (adapter_len, d_model) != (data.adapter_len, data.d_model)
    {
        let width = if first { d_model } else { data.d_model };
        let (name, found) = (name(PROMPT), &prompt.shape);
        return Err(vec![format!(
            "{name}: expected [1, {expected_len}, {width}], found {found:?}"
        )]);
    }
    if adapter_len == 0 || d_model == 0 {
        return Err(vec![format!("{}: {:?} is empty", name(PROMPT), prompt.shape)]);
    }
    let count = gates.values.len();
    if gates.squeezed().len() > 1 || count == 0 || data.gate == Gate::Scalar && count != 1 {
        let unit = if data.gate == Gate::Scalar { "layer" } else { "head" };
        let (name, found) = (name(GATE), &gates.shape);
        return Err(vec![format!("{name}: expected one gate per {unit}, found {found:?}")]);
    }
    (data.adapter_len, data.d_model) = (adapter_len, d_model);
    let factor = match get(FACTOR).map(|factor| (&factor.values[..], &factor.shape)) {
        Some((&[factor], _)) => Some(factor),
        Some((_, found)) => {
            let name = name(FACTOR);
            return Err(vec![format!("{name}: expected one factor per layer, found {found:?}")]);
        }
        None => None,
    };
    let (prompt, gate) = (prompt.values.clone(), gates.values.clone());
    data.layers.insert(layer, PromptLayerData { prompt, gate, factor });
    Ok(())
}
