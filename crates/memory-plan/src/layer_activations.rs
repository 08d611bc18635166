//! The activations that one layer's graph keeps for its backward pass.
//!
//! Burn's autodiff keeps a tensor if the gradient of an operation needs its value: both factors of a
//! product if both have a gradient, one if only the other has; the input of `exp`, `sqrt`, `recip`,
//! `sigmoid`, `tanh`, `erf`; both sides of a division. Sums, casts, views and reshapes keep only shapes.
//! A fused operation (`crates/kernels`) keeps what its own backward pass needs. A tensor that several
//! operations keep is one buffer. In values per token (`q` = heads * head_dim, `kv` = kv_heads *
//! head_dim, `s` = seq, `p` = prompt length, `f` = d_ff; weights of the base exist anyway and are not
//! counted):
//!
//! | part of the layer | kept | composed | fused |
//! |---|---|---|---|
//! | norm | its input; composed also a few values per row | `d + 3` | `d` |
//! | trainable norm | also its normalized output; composed on every device for a whole model | `2 d + 3` | `2 d` |
//! | query and key norms | the heads before them; composed also 3 values per head | `q + kv + 3 (heads + kv_heads)` | `q + kv` |
//! | scores | composed: query, key and value of the matmul, repeated for each query head | `3 q` | |
//! | their softmax | composed: shifted scores, exponentials, quotients; maximum and sum | `3 heads s + 4 heads` | |
//! | causal mask | one byte per pair of positions | `s / 4` for a whole batch | |
//! | prompt branch | composed: heads before the gate, and the three tensors of its softmax | `q + heads (3 p + 1)` | |
//! | attention and prompt | fused: query, key, value; heads; the logarithm of each softmax's sum, on GPUs that of the prompt's too | | `2 q + 2 kv + heads` |
//! | output projection, residual | nothing | | |
//! | SwiGLU | gate, up; composed also the gate's sigmoid and their product | `4 f` | `2 f` |
//! | gelu, exact or with tanh (always composed) | three tensors | `3 f` | `3 f` |
//! | V2, scale on the output | the input of the scale | out of each linear layer | the same |
//! | V2, scale on the input; LoRA; trainable weight | the layer's input, shared by layers with the same input; LoRA also its rank | in | in; nothing more for the heads |
//! | quantized weight | composed: the dequantized weight, because the graph cannot refer to the base's | in * out, once | |
//!
//! The graph begins at the first trainable parameter. In the first adapted layer of prompts, composed
//! self-attention is therefore not tracked, and only the query of its heads is kept. A fused attention
//! is kept like any other. The feed-forward network of the last layer keeps values of the labels' rows
//! only.

use llama::config::{FeedForwardKind, NormKind};
use llama::{LinearName, LlamaConfig};

use crate::trainable_layers::TrainableLayers;

/// Dimensions of a forward pass, as f64 to avoid overflow.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassDims {
    pub batch: f64,
    pub seq: f64,
    /// Rows of every matmul: `batch * seq`.
    pub n_tokens: f64,
    pub d: f64,
    /// `heads * head_dim`
    pub q: f64,
    /// `kv_heads * head_dim`
    pub kv: f64,
    pub f: f64,
    pub heads: f64,
    pub kv_heads: f64,
    pub vocab: f64,
}

impl PassDims {
    pub fn new(config: &LlamaConfig, batch: usize, seq: usize) -> Self {
        let (batch, seq) = (batch as f64, seq as f64);
        Self {
            batch,
            seq,
            n_tokens: batch * seq,
            d: config.d_model as f64,
            q: (config.n_heads * config.head_dim) as f64,
            kv: (config.n_kv_heads * config.head_dim) as f64,
            f: config.d_ff as f64,
            heads: config.n_heads as f64,
            kv_heads: config.n_kv_heads as f64,
            vocab: config.vocab_size as f64,
        }
    }

    /// Attention scores of a layer.
    pub fn n_scores(&self) -> f64 {
        self.n_tokens * self.heads * self.seq
    }
}

/// Values that one layer's graph keeps.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LayerActivations {
    /// The layer's input.
    pub input: f64,
    /// Attention with its norm and projections.
    pub attention: f64,
    /// Feed-forward with its norm.
    pub feed_forward: f64,
    /// Whether self-attention is tracked.
    pub keeps_scores: bool,
    /// Matmuls whose input is tracked.
    pub backward_matmuls: BackwardMatmuls,
}

/// Matmuls of a layer with a backward pass.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct BackwardMatmuls {
    pub qkv: bool,
    pub output: bool,
    pub gate_and_up: bool,
    pub down: bool,
}

impl LayerActivations {
    pub fn total(&self) -> f64 {
        self.input + self.attention + self.feed_forward
    }
}

impl TrainableLayers<'_> {
    /// The activations of a layer.
    pub fn layer(&self, layer: usize, dims: &PassDims) -> LayerActivations {
        use LinearName::{Down, Gate, Key, Output, Query, Up, Value};
        let &PassDims { n_tokens: tokens, d, q, f, .. } = dims;
        let trains =
            |names: &[LinearName]| names.iter().any(|name| self.trains_linear(layer, *name));
        let linears = |names: &[LinearName], tracked, rows| {
            self.linear_activations(layer, names, tracked, rows)
                + rows * self.shared_input_width(layer, names)
        };
        let prompts = self.prompt_layers.contains(&layer);
        let norms = self.trains_norms();

        let is_tracked = layer > self.first_layer() || self.full;
        let input = if is_tracked { tokens * d } else { 0.0 };
        let mut graph = LayerActivations { input, ..LayerActivations::default() };
        let normed = is_tracked || norms;
        graph.attention +=
            self.norm(dims, is_tracked) + linears(&[Query, Key, Value], normed, tokens);
        graph.keeps_scores = normed || trains(&[Query, Key, Value]);
        let joined = graph.keeps_scores || prompts;
        graph.attention += if self.fused_attention() {
            self.fused_attention_activations(dims, graph.keeps_scores, prompts)
        } else {
            self.composed_attention_activations(dims, graph.keeps_scores, prompts)
        };
        graph.attention += linears(&[Output], joined, tokens);
        if self.fused_attention() && joined && self.shared_input_width(layer, &[Output]) > 0.0 {
            // The attention keeps the heads already.
            graph.attention -= tokens * q;
        }
        let hidden = is_tracked || joined || trains(&[Output]);

        let dims = self.feed_forward_dims(layer, dims);
        let rows = dims.n_tokens;
        graph.feed_forward += self.norm(&dims, hidden);
        if hidden {
            graph.feed_forward += rows * d;
        }
        let unit = hidden || norms;
        graph.feed_forward += linears(&[Gate, Up], unit, rows);
        let inner = unit || trains(&[Gate, Up]);
        if inner {
            graph.feed_forward += rows * f * self.activation_width();
        }
        graph.feed_forward += linears(&[Down], inner, rows);
        graph.backward_matmuls =
            BackwardMatmuls { qkv: normed, output: joined, gate_and_up: unit, down: inner };
        graph
    }

    /// Whether norms are fused operations; trainable norms of a whole model are not.
    pub fn fused_norms(&self) -> bool {
        self.fused_row_operations() && !self.full && self.config.norm == NormKind::Rms
    }

    /// Whether SwiGLU is one fused operation.
    pub fn fused_swiglu(&self) -> bool {
        self.fused_row_operations() && self.config.feed_forward == FeedForwardKind::SwiGlu
    }

    /// Values that a norm keeps in addition to its input.
    pub fn norm(&self, dims: &PassDims, tracked: bool) -> f64 {
        let output = if self.trains_norms() { dims.d } else { 0.0 };
        let row = if tracked && !self.fused_norms() { 3.0 } else { 0.0 };
        dims.n_tokens * (output + row)
    }

    fn fused_attention_activations(&self, dims: &PassDims, scores: bool, prompts: bool) -> f64 {
        let &PassDims { n_tokens: tokens, q, kv, heads, .. } = dims;
        let mut kept = 0.0;
        if scores && self.config.qk_norm {
            kept += tokens * (q + kv);
        }
        if scores || prompts {
            kept += tokens * (2.0 * q + 2.0 * kv + heads);
        }
        if prompts {
            kept += 2.0 * self.prompt_len * kv;
            if !self.fused {
                kept += tokens * heads;
            }
        }
        kept
    }

    fn composed_attention_activations(&self, dims: &PassDims, scores: bool, prompts: bool) -> f64 {
        let &PassDims { n_tokens: tokens, batch, seq, q, kv, heads, kv_heads, .. } = dims;
        let mut kept = 0.0;
        if scores {
            if self.config.qk_norm {
                kept += tokens * (q + kv + 3.0 * (heads + kv_heads));
            }
            let softmax = 3.0 * dims.n_scores() + tokens * 4.0 * heads;
            kept += tokens * 3.0 * q + softmax + tokens * seq / 4.0 / batch;
        }
        if prompts {
            let query = if scores { 0.0 } else { q };
            let softmax = heads * (3.0 * self.prompt_len + 1.0);
            kept += tokens * (query + q + softmax);
        }
        kept
    }

    /// Values per element of `d_ff` that the activation function keeps.
    fn activation_width(&self) -> f64 {
        match self.config.feed_forward {
            FeedForwardKind::SwiGlu if self.fused_swiglu() => 2.0,
            FeedForwardKind::SwiGlu => 4.0,
            FeedForwardKind::Gelu | FeedForwardKind::GeluTanh => 3.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use adaption_prompt::{AdaptedLayers, AdapterConfig, AdaptionPromptConfig, V2Config};
    use llama::Precision;

    use super::*;
    use crate::workload::Workload;
    use crate::{DeviceTraits, WorkloadKind};
    use train::FineTuningMethod;

    fn workload(adapter: impl Into<AdapterConfig>) -> Workload {
        let config = LlamaConfig {
            n_layers: 3,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 8,
            d_model: 32,
            d_ff: 48,
            vocab_size: 128,
            ..LlamaConfig::default()
        };
        Workload {
            config,
            precision: Precision::F32,
            method: FineTuningMethod::from(adapter.into()),
            kind: WorkloadKind::Train { labels: 1, activation_checkpointing: false },
            batch_size: 2,
            seq_len: 16,
            device: DeviceTraits::composed(None),
        }
    }

    #[test]
    fn only_the_first_adapted_layer_keeps_no_scores() {
        let workload =
            workload(AdaptionPromptConfig { layers: AdaptedLayers::Last(2), ..Default::default() });
        let trainable = TrainableLayers::new(&workload);
        let dims = PassDims::new(&workload.config, workload.batch_size, workload.seq_len);
        assert_eq!(trainable.first_layer(), 1);
        let [first, second] = [1, 2].map(|layer| trainable.layer(layer, &dims));
        // Query, gated heads, and the softmax over 10 prompt positions.
        assert_eq!(first.attention, 32.0 * (32.0 + 32.0 + 4.0 * 31.0));
        assert_eq!(first.input, 0.0);
        assert!(second.keeps_scores && second.attention > first.attention + 3.0 * dims.n_scores());
        assert_eq!(first.feed_forward, 32.0 * (3.0 + 32.0 + 4.0 * 48.0));
        // One label in each of two sequences.
        assert_eq!(second.feed_forward, 2.0 * (3.0 + 32.0 + 4.0 * 48.0));
    }

    #[test]
    fn fused_layers_keep_no_scores_and_half_of_swiglu() {
        let prompts = AdaptionPromptConfig { layers: AdaptedLayers::Last(2), ..Default::default() };
        let workload = Workload { device: DeviceTraits::fused(), ..workload(prompts) };
        let trainable = TrainableLayers::new(&workload);
        let dims = PassDims::new(&workload.config, workload.batch_size, workload.seq_len);
        let [first, second] = [1, 2].map(|layer| trainable.layer(layer, &dims));
        // Query, key, value, heads, sums; and the prompt K/V.
        let attention = 32.0 * (32.0 + 2.0 * 16.0 + 32.0 + 4.0) + 2.0 * 10.0 * 16.0;
        assert_eq!((first.attention, second.attention), (attention, attention));
        assert_eq!((first.input, second.input), (0.0, 32.0 * 32.0));
        assert_eq!(first.feed_forward, 32.0 * (32.0 + 2.0 * 48.0));
    }

    #[test]
    fn kernels_of_gpus_keep_as_much_and_the_sums_of_prompts() {
        let prompts = AdaptionPromptConfig { layers: AdaptedLayers::Last(2), ..Default::default() };
        let fused = Workload { device: DeviceTraits::fused(), ..workload(prompts) };
        let gpu = Workload { device: DeviceTraits::gpu(None), ..fused.clone() };
        let dims = PassDims::new(&gpu.config, gpu.batch_size, gpu.seq_len);
        let [fused_layer, gpu_layer] =
            [&fused, &gpu].map(|workload| TrainableLayers::new(workload).layer(2, &dims));
        assert_eq!(gpu_layer.total(), fused_layer.total() + 32.0 * 4.0);
        // Wider heads have no kernel.
        let mut wide = gpu.clone();
        wide.config.head_dim = 256;
        assert!(!TrainableLayers::new(&wide).fused_attention());
    }

    #[test]
    fn inputs_that_layers_share_are_kept_once() {
        let workload = workload(V2Config { norms: false, ..V2Config::input_scale() });
        let trainable = TrainableLayers::new(&workload);
        assert_eq!(trainable.shared_input_width(0, &[LinearName::Query]), 32.0);
        assert_eq!(trainable.shared_input_width(0, &[LinearName::Query, LinearName::Key]), 32.0);
    }
}
