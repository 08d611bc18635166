//! What learns in each layer of a request.

use adaption_prompt::parts::{LinearCost, PartConfig};
use kernels::cpu::simd::SimdLevel;
use llama::{LinearName, LlamaConfig, ModelShape, Precision};

use super::request::Workload;
use crate::learner::FineTuningMethod;

/// What learns in a layer, and what the graph therefore keeps.
pub(super) struct Learning<'a> {
    pub config: &'a LlamaConfig,
    sizes: ModelShape,
    parts: Vec<&'a dyn PartConfig>,
    pub prompt_layers: Vec<usize>,
    pub adapter_len: f64,
    pub full: bool,
    /// Whether operations are fused.
    pub fused: bool,
    precision: Precision,
}

impl<'a> Learning<'a> {
    /// For a request whose method was checked.
    pub fn new(request: &'a Workload) -> Self {
        let config = &request.config;
        let (parts, prompts) = match &request.method {
            FineTuningMethod::Adapter(own) => (own.parts(), own.prompt_shape(config.n_layers)),
            FineTuningMethod::Full => (Vec::new(), None),
        };
        Self {
            config,
            sizes: config.into(),
            parts: parts.into_iter().map(|(_, part)| part).collect(),
            adapter_len: prompts.as_ref().map_or(0.0, |own| own.adapter_len as f64),
            prompt_layers: prompts.map_or(Vec::new(), |own| own.layers),
            full: request.method == FineTuningMethod::Full,
            fused: request.device.fused,
            precision: request.precision,
        }
    }

    /// Whether products round what goes in to bf16, on this processor.
    pub fn rounds(&self) -> bool {
        self.fused && self.precision == Precision::BF16 && SimdLevel::best().rounds_inputs_to_bf16()
    }

    /// Whether a backward pass finds weights unpacked.
    fn unpacks(&self) -> bool {
        !self.fused && self.precision.bits().is_some()
    }

    /// The lowest layer with a graph.
    pub fn first_layer(&self) -> usize {
        let everywhere = self.full.then_some(0);
        let parts = self.parts.iter().filter_map(|part| part.first_layer(&self.sizes));
        everywhere.into_iter().chain(parts).min().unwrap_or(0)
    }

    /// Whether the norms' weights learn.
    pub fn norms(&self) -> bool {
        self.full || self.parts.iter().any(|part| part.trains_norms())
    }

    /// Whether anything learns in a linear layer.
    pub fn linear(&self, layer: usize, name: LinearName) -> bool {
        self.sizes.has_linear(layer, name)
            && (self.full || self.costs(layer, name).next().is_some())
    }

    /// Number of the adapter's parameters.
    pub fn n_adapter_parameters(&self) -> u64 {
        self.parts.iter().map(|part| part.n_parameters(self.config)).sum()
    }

    /// Whether head and loss are one operation.
    pub fn fused_loss(&self) -> bool {
        self.fused && !self.full && !self.linear(self.config.n_layers, LinearName::Head)
    }

    /// What each part of the adapter that modifies a linear layer costs there.
    fn costs(&self, layer: usize, name: LinearName) -> impl Iterator<Item = LinearCost> {
        self.parts.iter().filter_map(move |part| part.linear_cost(layer, name, &self.sizes))
    }

    /// Numbers that linear layers keep beside their input; with gradients on that, unpacked weights
    /// too.
    pub fn linears(&self, layer: usize, names: &[LinearName], tracked: bool, rows: f64) -> f64 {
        let mut kept = 0.0;
        for &name in names.iter().filter(|name| self.sizes.has_linear(layer, **name)) {
            let [d_out, d_in] = self.sizes.linear_shape(name).map(|size| size as f64);
            let activations = self.costs(layer, name).map(|own| own.activations_per_token);
            kept += rows * activations.sum::<usize>() as f64;
            let input_learns =
                tracked || self.costs(layer, name).any(|own| own.needs_input_gradient);
            if self.unpacks() && input_learns {
                kept += d_in * d_out;
            }
        }
        kept
    }

    /// Numbers a token of the input that such layers keep together.
    pub fn input(&self, layer: usize, names: &[LinearName]) -> f64 {
        let keeps =
            |name: LinearName| self.full || self.costs(layer, name).any(|own| own.keeps_input);
        let here = names.iter().filter(|name| self.sizes.has_linear(layer, **name));
        let kept = here.copied().find(|name| keeps(*name));
        kept.map_or(0.0, |name| self.sizes.linear_shape(name)[1] as f64)
    }
}
