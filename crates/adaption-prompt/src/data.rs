//! An adapter as plain numbers: what every file format is read into and written from.

use std::collections::BTreeMap;

use llama::config::{Architecture, ModelShape};
use llama::fingerprint::Fingerprint;
use llama::model::NormName;
use llama::{LinearName, LlamaConfig};

use crate::config::{Gate, GateActivation, PromptProjection};
use crate::image::ImageConfig;
use crate::v2::V2Scale;

/// An adapter without a model or a device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AdapterData {
    /// What it was made for.
    pub base: BaseInfo,
    /// Gated prompts.
    pub prompts: Option<PromptData>,
    /// Scales, biases and norms.
    pub v2: Option<V2Data>,
    /// Low-rank products.
    pub lora: Option<LoraData>,
    /// What makes it see pictures.
    pub image: Option<ImageData>,
}

/// What is known of the base model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BaseInfo {
    /// Its name or path, as files say it.
    pub name: Option<String>,
    /// Its family, where it is known: it says what PEFT calls the layers.
    pub architecture: Option<&'static Architecture>,
    /// Its shapes. Some formats cannot be written without.
    pub sizes: Option<ModelShape>,
    /// What tells it from others.
    pub fingerprint: Option<Fingerprint>,
}

impl BaseInfo {
    /// What is known of a model whose config is at hand.
    pub fn from_config(config: &LlamaConfig, name: Option<String>) -> Self {
        let sizes = Some(ModelShape::from(config));
        Self { name, architecture: Some(config.architecture), sizes, fingerprint: None }
    }
}

/// Prompts and gates.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptData {
    /// Prompt tokens of a layer.
    pub adapter_len: usize,
    /// Width of the model.
    pub d_model: usize,
    /// One gate a layer or one a head.
    pub gate: Gate,
    /// What gates pass through.
    pub activation: GateActivation,
    /// Which weights make keys and values of them.
    pub projection: PromptProjection,
    /// By the layer's index in the model.
    pub layers: BTreeMap<usize, PromptLayerData>,
}

/// Numbers of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptLayerData {
    /// `[adapter_len, d_model]`, row by row.
    pub prompt: Vec<f32>,
    /// One number, or one a head, before the activation.
    pub gate: Vec<f32>,
    /// Multiplies the activated gates.
    pub factor: Option<f32>,
}

impl PromptData {
    /// What a layer's branch is multiplied by: gates after activation and factor.
    pub fn effective_gates(&self, layer: &PromptLayerData) -> Vec<f32> {
        let factor = layer.factor.unwrap_or(1.0);
        layer.gate.iter().map(|&gate| self.activation.apply(gate) * factor).collect()
    }

    /// Whether PEFT's own code can compute these prompts: a plain gate a layer, and no layer above
    /// the first adapted one left out.
    pub fn is_peft_compatible(&self) -> bool {
        let indices = self.layers.keys().copied();
        let first = indices.clone().next().unwrap_or(0);
        self.gate == Gate::Scalar
            && self.activation == GateActivation::Identity
            && self.layers.values().all(|layer| layer.factor.is_none())
            && indices.eq(first..first + self.layers.len())
    }
}

/// Adapter V2's numbers. The layer's index is the number of layers for the head and the final norm.
#[derive(Debug, Clone, PartialEq)]
pub struct V2Data {
    /// Where the scale is.
    pub scale: V2Scale,
    /// By layer and linear layer.
    pub linears: BTreeMap<(usize, LinearName), V2LinearData>,
    /// By layer and norm.
    pub norms: BTreeMap<(usize, NormName), V2NormData>,
}

/// Scale and bias of a linear layer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct V2LinearData {
    /// One number for each output, or input.
    pub scale: Option<Vec<f32>>,
    /// One number for each output.
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

/// LoRA's numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraData {
    /// Inner width of most products.
    pub rank: usize,
    /// All products are multiplied by `alpha / rank`, whatever their own widths.
    pub alpha: f64,
    /// By layer and linear layer.
    pub pairs: BTreeMap<(usize, LinearName), LoraPairData>,
}

/// The two matrices of a linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraPairData {
    /// Inner width, at least 1.
    pub rank: usize,
    /// `[rank, in]`, row by row.
    pub a: Vec<f32>,
    /// `[out, rank]`, row by row.
    pub b: Vec<f32>,
}

/// An image condition's numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageData {
    /// Its shape.
    pub config: ImageConfig,
    /// Shapes and numbers by the names that files have for them.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl AdapterData {
    /// Numbers that training changed.
    pub fn n_parameters(&self) -> usize {
        let prompts = self.prompts.iter().flat_map(|prompts| prompts.layers.values());
        let prompts = prompts
            .map(|own| own.prompt.len() + own.gate.len() + usize::from(own.factor.is_some()));
        let len = |numbers: &Option<Vec<f32>>| numbers.as_ref().map_or(0, Vec::len);
        let linears = self.v2.iter().flat_map(|v2| v2.linears.values());
        let linears = linears.map(|own| len(&own.scale) + len(&own.bias));
        let norms = self.v2.iter().flat_map(|v2| v2.norms.values());
        let norms = norms.map(|own| own.weight.len() + len(&own.bias));
        let pairs = self.lora.iter().flat_map(|lora| lora.pairs.values());
        let pairs = pairs.map(|own| own.a.len() + own.b.len());
        let image = self.image.iter().flat_map(|image| image.tensors.values());
        let image = image.map(|(_shape, values)| values.len());
        prompts.chain(linears).chain(norms).chain(pairs).chain(image).sum()
    }
}
