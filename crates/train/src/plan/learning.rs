//! What learns in each layer of a request.

use adaption_prompt::{LoraConfig, V2Config, V2Scale};
use kernels::cpu::simd::SimdLevel;
use llama::config::ModelShape;
use llama::{LinearName, LlamaConfig, Precision};

use super::request::Workload;
use crate::learner::FineTuningMethod;

/// What learns in a layer, and what the graph therefore keeps.
pub(super) struct Learning<'a> {
    pub config: &'a LlamaConfig,
    sizes: ModelShape,
    pub prompt_layers: Vec<usize>,
    pub adapter_len: f64,
    pub v2: Option<&'a V2Config>,
    lora: Option<(&'a LoraConfig, Vec<usize>)>,
    pub full: bool,
    /// Whether operations are fused.
    pub fused: bool,
    precision: Precision,
}

impl<'a> Learning<'a> {
    /// For a request whose method was checked.
    pub fn new(request: &'a Workload) -> Self {
        let config = &request.config;
        let n_layers = config.n_layers;
        let (prompts, v2, lora) = match &request.method {
            FineTuningMethod::Adapter(own) => {
                (own.prompts.as_ref(), own.v2.as_ref(), own.lora.as_ref())
            }
            FineTuningMethod::Full => (None, None, None),
        };
        let lora_layers = |lora: &LoraConfig| match &lora.layers {
            Some(layers) => layers.indices(n_layers).unwrap_or_default(),
            None => (0..n_layers).collect(),
        };
        Self {
            config,
            sizes: config.into(),
            prompt_layers: prompts
                .map_or(Vec::new(), |own| own.layers.indices(n_layers).unwrap_or_default()),
            adapter_len: prompts.map_or(0.0, |own| own.adapter_len as f64),
            v2,
            lora: lora.map(|own| (own, lora_layers(own))),
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
        let everywhere = (self.full || self.v2.is_some()).then_some(0);
        let lora = self.lora.iter().filter_map(|(_, layers)| layers.first().copied());
        let prompts = self.prompt_layers.first().copied();
        everywhere.into_iter().chain(lora).chain(prompts).min().unwrap_or(0)
    }

    /// Whether the norms' weights learn.
    pub fn norms(&self) -> bool {
        self.full || self.v2.is_some_and(|v2| v2.norms)
    }

    /// Whether anything learns in a linear layer.
    pub fn linear(&self, layer: usize, name: LinearName) -> bool {
        let v2 = self.v2.is_some_and(|v2| v2.linears.contains(&name));
        self.sizes.has_linear(layer, name)
            && (self.full || v2 || self.lora_at(layer, name).is_some())
    }

    /// Whether head and loss are one operation.
    pub fn fused_loss(&self) -> bool {
        self.fused && !self.full && !self.linear(self.config.n_layers, LinearName::Head)
    }

    fn lora_at(&self, layer: usize, name: LinearName) -> Option<&LoraConfig> {
        let (lora, layers) = self.lora.as_ref()?;
        (layers.contains(&layer) && lora.linears.contains(&name)).then_some(lora)
    }

    /// Numbers that linear layers keep beside their input; with gradients on that, unpacked weights
    /// too.
    pub fn linears(&self, layer: usize, names: &[LinearName], tracked: bool, rows: f64) -> f64 {
        let mut kept = 0.0;
        for &name in names.iter().filter(|name| self.sizes.has_linear(layer, **name)) {
            let [d_out, d_in] = self.sizes.linear_shape(name).map(|size| size as f64);
            let v2 = self.v2.filter(|v2| v2.linears.contains(&name));
            if v2.is_some_and(|v2| v2.scale == V2Scale::Output) {
                kept += rows * d_out;
            }
            if let Some(lora) = self.lora_at(layer, name) {
                kept += rows * lora.rank as f64;
            }
            let input_learns = tracked || v2.is_some_and(|v2| v2.scale == V2Scale::Input);
            if self.unpacks() && input_learns {
                kept += d_in * d_out;
            }
        }
        kept
    }

    /// Numbers a token of the input that such layers keep together.
    pub fn input(&self, layer: usize, names: &[LinearName]) -> f64 {
        let keeps = |name: LinearName| {
            let v2 = self.v2.filter(|v2| v2.linears.contains(&name));
            let scaled = v2.is_some_and(|v2| v2.scale == V2Scale::Input);
            self.full || scaled || self.lora_at(layer, name).is_some()
        };
        let here = names.iter().filter(|name| self.sizes.has_linear(layer, **name));
        let kept = here.copied().find(|name| keeps(*name));
        kept.map_or(0.0, |name| self.sizes.linear_shape(name)[1] as f64)
    }
}
