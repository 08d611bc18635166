//! What is trainable in each layer of a workload.

use adaption_prompt::{LoraConfig, V2Config, V2Scale};
use kernels::cpu::simd::SimdLevel;
use llama::{LinearName, LlamaConfig, ModelShape, Precision};
use train::FineTuningMethod;

use crate::workload::Workload;

/// What is trainable in each layer, and therefore kept by its graph.
pub(super) struct TrainableLayers<'a> {
    pub config: &'a LlamaConfig,
    sizes: ModelShape,
    pub prompt_layers: Vec<usize>,
    pub prompt_len: f64,
    pub v2: Option<&'a V2Config>,
    lora: Option<(&'a LoraConfig, Vec<usize>)>,
    pub full: bool,
    /// Whether operations are fused.
    pub fused: bool,
    precision: Precision,
}

impl<'a> TrainableLayers<'a> {
    /// For a valid workload.
    pub fn new(workload: &'a Workload) -> Self {
        let config = &workload.config;
        let n_layers = config.n_layers;
        let (prompts, v2, lora) = match &workload.method {
            FineTuningMethod::Adapter(adapter) => {
                (adapter.prompts.as_ref(), adapter.v2.as_ref(), adapter.lora.as_ref())
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
                .map_or(Vec::new(), |prompts| prompts.layers.indices(n_layers).unwrap_or_default()),
            prompt_len: prompts.map_or(0.0, |prompts| prompts.adapter_len as f64),
            v2,
            lora: lora.map(|lora| (lora, lora_layers(lora))),
            full: workload.method == FineTuningMethod::Full,
            fused: workload.device.fused,
            precision: workload.precision,
        }
    }

    /// Whether matmuls round their inputs to bf16 on this processor.
    pub fn multiplies_in_bf16(&self) -> bool {
        self.fused && self.precision == Precision::BF16 && SimdLevel::best().rounds_inputs_to_bf16()
    }

    /// Whether the graph keeps dequantized weights.
    fn keeps_dequantized_weights(&self) -> bool {
        !self.fused && self.precision.bits().is_some()
    }

    /// The lowest layer with a graph.
    pub fn first_layer(&self) -> usize {
        let everywhere = (self.full || self.v2.is_some()).then_some(0);
        let lora = self.lora.iter().filter_map(|(_, layers)| layers.first().copied());
        let prompts = self.prompt_layers.first().copied();
        everywhere.into_iter().chain(lora).chain(prompts).min().unwrap_or(0)
    }

    /// Whether the weights of norms are trainable.
    pub fn trains_norms(&self) -> bool {
        self.full || self.v2.is_some_and(|v2| v2.norms)
    }

    /// Whether anything is trainable in a linear layer.
    pub fn trains_linear(&self, layer: usize, name: LinearName) -> bool {
        let v2 = self.v2.is_some_and(|v2| v2.linears.contains(&name));
        self.sizes.has_linear(layer, name)
            && (self.full || v2 || self.lora_at(layer, name).is_some())
    }

    /// Whether head and loss are one fused operation.
    pub fn fused_loss(&self) -> bool {
        self.fused && !self.full && !self.trains_linear(self.config.n_layers, LinearName::Head)
    }

    fn lora_at(&self, layer: usize, name: LinearName) -> Option<&LoraConfig> {
        let (lora, layers) = self.lora.as_ref()?;
        (layers.contains(&layer) && lora.linears.contains(&name)).then_some(lora)
    }

    /// Values that linear layers keep in addition to their input: dequantized weights too, if the input
    /// is tracked.
    pub fn linear_activations(
        &self,
        layer: usize,
        names: &[LinearName],
        tracked: bool,
        rows: f64,
    ) -> f64 {
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
            let input_is_tracked = tracked || v2.is_some_and(|v2| v2.scale == V2Scale::Input);
            if self.keeps_dequantized_weights() && input_is_tracked {
                kept += d_in * d_out;
            }
        }
        kept
    }

    /// Values per token of the input that these layers keep together.
    pub fn shared_input_width(&self, layer: usize, names: &[LinearName]) -> f64 {
        let keeps = |name: LinearName| {
            let v2 = self.v2.filter(|v2| v2.linears.contains(&name));
            let scaled = v2.is_some_and(|v2| v2.scale == V2Scale::Input);
            self.full || scaled || self.lora_at(layer, name).is_some()
        };
        let present = names.iter().filter(|name| self.sizes.has_linear(layer, **name));
        let kept = present.copied().find(|name| keeps(*name));
        kept.map_or(0.0, |name| self.sizes.linear_shape(name)[1] as f64)
    }
}
