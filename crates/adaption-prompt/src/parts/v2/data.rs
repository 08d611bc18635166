//! Adapter V2 as host values: checks against a model, named tensors, settings.

use std::collections::BTreeMap;

use llama::LinearName;
use llama::config::{Architecture, ModelShape};
use llama::model::NormName;
use serde::{Deserialize, Serialize};

use super::config::V2Scale;
use crate::part::{PartData, PartSettings, PartTensors, PromptShape};
use crate::tensors::host_tensor::{HostTensor, HostTensors};
use crate::tensors::names::{ModuleName, tensor_name};

const SCALE: &str = "adapter_scale";
const BIAS: &str = "adapter_bias";
/// Suffixes of the tensors of a linear layer.
pub(super) const LINEAR_SUFFIXES: [&str; 2] = [SCALE, BIAS];

const NORM_WEIGHT: &str = "weight";
const NORM_BIAS: &str = "bias";
/// Suffixes of the tensors of a norm.
pub(super) const NORM_SUFFIXES: [&str; 2] = [NORM_WEIGHT, NORM_BIAS];

/// Adapter V2 in host memory. The layer index of the head and of the final norm is the model's number of
/// layers.
#[derive(Debug, Clone, PartialEq)]
pub struct V2Data {
    /// Position of the scales.
    pub scale: V2Scale,
    /// By layer and linear layer.
    pub linears: BTreeMap<(usize, LinearName), V2LinearData>,
    /// By layer and norm.
    pub norms: BTreeMap<(usize, NormName), V2NormData>,
}

/// Scale and bias of a linear layer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct V2LinearData {
    /// One value per output, or per input.
    pub scale: Option<Vec<f32>>,
    /// One value per output.
    pub bias: Option<Vec<f32>>,
}

/// Weights of a norm.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct V2NormData {
    /// `[d_model]`
    pub weight: Vec<f32>,
    /// `[d_model]`
    pub bias: Option<Vec<f32>>,
}

impl V2Data {
    pub(crate) fn new(scale: V2Scale) -> Self {
        Self { scale, linears: BTreeMap::new(), norms: BTreeMap::new() }
    }
}

fn len(values: Option<&Vec<f32>>) -> usize {
    values.map_or(0, Vec::len)
}

impl PartData for V2Data {
    fn n_parameters(&self) -> usize {
        let linears =
            self.linears.values().map(|own| len(own.scale.as_ref()) + len(own.bias.as_ref()));
        let norms = self.norms.values().map(|own| own.weight.len() + len(own.bias.as_ref()));
        linears.chain(norms).sum()
    }

    fn check_shapes(
        &self,
        _prompts: Option<&PromptShape>,
        model: &ModelShape,
        problems: &mut Vec<String>,
    ) {
        for ((layer, name), own) in &self.linears {
            if !model.has_linear(*layer, *name) {
                problems.push(format!("the model has no {name:?} in layer {layer}"));
                continue;
            }
            let [d_out, d_in] = model.linear_shape(*name);
            let scale_len = match self.scale {
                V2Scale::None => None,
                V2Scale::Output => Some(d_out),
                V2Scale::Input => Some(d_in),
            };
            let scale = own.scale.as_ref().map(Vec::len);
            let bias = own.bias.as_ref().map(Vec::len);
            for (tensor, found, expected) in
                [("scale", scale, scale_len), ("bias", bias, bias.map(|_| d_out))]
            {
                if found != expected {
                    let shape =
                        |len: Option<usize>| len.map_or("none".into(), |len| format!("[{len}]"));
                    let (expected, found) = (shape(expected), shape(found));
                    problems.push(format!(
                        "{tensor} of {name:?} in layer {layer}: expected {expected}, found {found}"
                    ));
                }
            }
        }
        for ((layer, name), own) in &self.norms {
            let last = *layer == model.n_layers;
            if *layer > model.n_layers || last != (*name == NormName::Final) {
                problems.push(format!("the model has no norm {name:?} in layer {layer}"));
                continue;
            }
            let lengths = [Some(own.weight.len()), own.bias.as_ref().map(Vec::len)];
            for found in lengths.into_iter().flatten().filter(|found| *found != model.d_model) {
                problems.push(format!(
                    "norm {name:?} in layer {layer}: expected [{}], found [{found}]",
                    model.d_model
                ));
            }
        }
    }

    fn to_tensors(&self, _family: Option<&'static Architecture>, tensors: &mut HostTensors) {
        let mut insert = |layer, module, suffix, values: &[f32]| {
            let name = tensor_name(None, layer, module, suffix);
            tensors.insert(name, HostTensor::new([values.len()], values.to_vec()));
        };
        for (&(layer, name), own) in &self.linears {
            let module = ModuleName::Linear(name);
            own.scale.iter().for_each(|values| insert(layer, module, SCALE, values));
            own.bias.iter().for_each(|values| insert(layer, module, BIAS, values));
        }
        for (&(layer, name), own) in &self.norms {
            let module = ModuleName::Norm(name);
            insert(layer, module, NORM_WEIGHT, &own.weight);
            own.bias.iter().for_each(|values| insert(layer, module, NORM_BIAS, values));
        }
    }

    fn needs_n_layers(&self) -> bool {
        self.linears.keys().any(|(_layer, name)| *name == LinearName::Head)
            || self.norms.keys().any(|(_layer, name)| *name == NormName::Final)
    }

    fn modifies(&self, name: LinearName) -> bool {
        self.linears.keys().any(|(_layer, own)| *own == name)
    }

    fn loss(&self) -> String {
        let (linears, norms) = (self.linears.len(), self.norms.len());
        format!("Adapter V2's {linears} scales and biases and {norms} norms")
    }
}

/// The section of `llama_adapter.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct V2Settings {
    pub scale: V2Scale,
}

impl PartSettings for V2Settings {
    const KEYS: &'static [&'static str] = &["scale"];
}

/// Assembles scales, biases and norm weights from their tensors.
pub(super) fn v2_from_tensors(
    settings: V2Settings,
    tensors: PartTensors,
    problems: &mut Vec<String>,
) -> V2Data {
    let mut data = V2Data::new(settings.scale);
    for ((layer, module, suffix), tensor) in tensors.by_address {
        let values = tensor.values;
        match (module, suffix.as_str()) {
            (ModuleName::Linear(name), SCALE) => {
                data.linears.entry((layer, name)).or_default().scale = Some(values);
            }
            (ModuleName::Linear(name), _) => {
                data.linears.entry((layer, name)).or_default().bias = Some(values);
            }
            (ModuleName::Norm(name), NORM_WEIGHT) => {
                data.norms.entry((layer, name)).or_default().weight = values;
            }
            (ModuleName::Norm(name), _) => {
                data.norms.entry((layer, name)).or_default().bias = Some(values);
            }
            (ModuleName::Attention, _) => {}
        }
    }
    if data.linears.is_empty() && data.norms.is_empty() && problems.is_empty() {
        problems.push("no scales, biases or norms".into());
    }
    data
}
