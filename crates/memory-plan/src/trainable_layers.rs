//! What is trainable in each layer of a workload.

use adaption_prompt::parts::{LinearCost, PartConfig};
use kernels::cpu::simd::SimdLevel;
use kernels::sizes::MAX_GPU_HEAD_DIM;
use llama::config::ModelShape;
use llama::{LinearName, LlamaConfig, Precision};
use train::FineTuningMethod;

use crate::layer_activations::PassDims;
use crate::workload::{Workload, WorkloadKind};

/// What is trainable in each layer, and therefore kept by its graph.
pub(super) struct TrainableLayers<'a> {
    pub config: &'a LlamaConfig,
    sizes: ModelShape,
    parts: Vec<&'a dyn PartConfig>,
    pub prompt_layers: Vec<usize>,
    pub prompt_len: f64,
    pub full: bool,
    /// Whether all operations are fused.
    pub fused: bool,
    /// Whether some of them are fused kernels of a GPU.
    gpu_kernels: bool,
    /// Labels of a batch.
    labels: f64,
    precision: Precision,
}

impl<'a> TrainableLayers<'a> {
    /// For a valid workload.
    pub fn new(workload: &'a Workload) -> Self {
        let config = &workload.config;
        let (parts, prompts) = match &workload.method {
            FineTuningMethod::Adapter(adapter) => {
                (adapter.parts(), adapter.prompt_shape(config.n_layers))
            }
            FineTuningMethod::Full => (Vec::new(), None),
        };
        Self {
            config,
            sizes: config.into(),
            parts: parts.into_iter().map(|(_, part)| part).collect(),
            prompt_len: prompts.as_ref().map_or(0.0, |prompts| prompts.adapter_len as f64),
            prompt_layers: prompts.map_or(Vec::new(), |prompts| prompts.layers),
            full: workload.method == FineTuningMethod::Full,
            fused: workload.device.fused,
            gpu_kernels: workload.device.gpu_kernels,
            labels: match workload.kind {
                WorkloadKind::Train { labels, .. } => (labels * workload.batch_size) as f64,
                WorkloadKind::Generate { .. } => 0.0,
            },
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
        let everywhere = self.full.then_some(0);
        let parts = self.parts.iter().filter_map(|part| part.first_layer(&self.sizes));
        everywhere.into_iter().chain(parts).min().unwrap_or(0)
    }

    /// Dimensions of a layer's feed-forward network in training: the last layer's runs for the labels'
    /// rows only.
    pub fn feed_forward_dims(&self, layer: usize, dims: &PassDims) -> PassDims {
        if layer + 1 < self.config.n_layers { *dims } else { self.label_dims(dims) }
    }

    /// Dimensions of what runs for the labels' rows only.
    pub fn label_dims(&self, dims: &PassDims) -> PassDims {
        PassDims { n_tokens: self.labels.min(dims.n_tokens), ..*dims }
    }

    /// Whether the weights of norms are trainable.
    pub fn trains_norms(&self) -> bool {
        self.full || self.parts.iter().any(|part| part.trains_norms())
    }

    /// Whether anything is trainable in a linear layer.
    pub fn trains_linear(&self, layer: usize, name: LinearName) -> bool {
        self.sizes.has_linear(layer, name)
            && (self.full || self.costs(layer, name).next().is_some())
    }

    /// Number of the adapter's parameters.
    pub fn n_adapter_parameters(&self) -> u64 {
        self.parts.iter().map(|part| part.n_parameters(self.config)).sum()
    }

    /// Whether head and loss are one fused operation.
    pub fn fused_loss(&self) -> bool {
        let on_gpu = self.gpu_kernels && self.precision == Precision::F32;
        (self.fused || on_gpu)
            && !self.full
            && !self.trains_linear(self.config.n_layers, LinearName::Head)
    }

    /// Whether norms and SwiGLU are fused operations.
    pub fn fused_row_operations(&self) -> bool {
        self.fused || self.gpu_kernels
    }

    /// Whether attention to whole sequences and prompts is one fused operation.
    pub fn fused_attention(&self) -> bool {
        let head_dim = self.config.head_dim;
        let fits = head_dim <= MAX_GPU_HEAD_DIM && head_dim.is_multiple_of(2);
        self.fused || (self.gpu_kernels && fits)
    }

    /// The costs of the adapter's parts that modify a linear layer.
    fn costs(&self, layer: usize, name: LinearName) -> impl Iterator<Item = LinearCost> {
        self.parts.iter().filter_map(move |part| part.linear_cost(layer, name, &self.sizes))
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
            let activations = self.costs(layer, name).map(|cost| cost.activations_per_token);
            kept += rows * activations.sum::<usize>() as f64;
            let input_is_tracked =
                tracked || self.costs(layer, name).any(|cost| cost.needs_input_gradient);
            if self.keeps_dequantized_weights() && input_is_tracked {
                kept += d_in * d_out;
            }
        }
        kept
    }

    /// Values per token of the input that these layers keep together.
    pub fn shared_input_width(&self, layer: usize, names: &[LinearName]) -> f64 {
        let keeps =
            |name: LinearName| self.full || self.costs(layer, name).any(|cost| cost.keeps_input);
        let present = names.iter().filter(|name| self.sizes.has_linear(layer, **name));
        let kept = present.copied().find(|name| keeps(*name));
        kept.map_or(0.0, |name| self.sizes.linear_shape(name)[1] as f64)
    }
}
