//! What one layer's graph keeps for its backward pass.
//!
//! Burn's autodiff keeps a tensor where the gradient of an operation asks for its value: both factors
//! of a product if both have a gradient, one if only the other has; the input of `exp`, `sqrt`,
//! `recip`, `sigmoid`, `tanh`, `erf`; both sides of a division. Sums, casts, views and reshapes keep shapes
//! only. A fused operation (`crates/kernels`) keeps what its own backward pass says. A tensor that
//! several operations keep is one buffer. That gives, in numbers for each token (`q` = heads *
//! head_dim, `kv` = kv_heads * head_dim, `s` = seq, `p` = prompt tokens, `f` = d_ff, weights of the
//! base left out because they are there anyway):
//!
//! | part of the layer | kept | composed | fused |
//! |---|---|---|---|
//! | a norm | its input, and composed a few numbers a row | `d + 3` | `d` |
//! | a norm that learns | its unit output too; of a whole model it is composed anywhere | `2 d + 3` | `2 d` |
//! | query and key norms | the heads before them; composed 3 numbers a head | `q + kv + 3 (heads + kv_heads)` | `q + kv` |
//! | scores | composed: query, key and value as the product sees them, repeated for each query head | `3 q` | |
//! | their softmax | composed: shifted scores, exponentials, quotients; largest and sum | `3 heads s + 4 heads` | |
//! | causal mask | one byte a pair of positions | `s / 4` for a whole batch | |
//! | prompt branch | composed: heads before the gate, and the three of its softmax | `q + heads (3 p + 1)` | |
//! | attention and prompt | fused: query, key, value; heads; the logarithm of each softmax's sum | | `2 q + 2 kv + heads` |
//! | output projection, residual | nothing | | |
//! | SwiGLU | gate, up; composed the gate's sigmoid and their product too | `4 f` | `2 f` |
//! | gelu, exact or with tanh (composed anywhere) | three numbers | `3 f` | `3 f` |
//! | V2, scale on the output | what the scale multiplies | out of each linear layer | the same |
//! | V2, scale on the input; LoRA; a weight that learns | the layer's input, shared by those that have the same; LoRA its rank too | in | in; nothing more for the heads |
//! | a quantised weight | composed: itself, unpacked: no handle of the base's will do | in * out, not for each token | |
//!
//! The graph begins where something first learns. In the first adapted layer of prompts, the attention
//! to the text is therefore a plain operation where it is composed, and only the query of its heads is
//! kept. A fused one is kept as any other.

use llama::config::{FeedForwardKind, NormKind};
use llama::{LinearName, LlamaConfig};

use super::learning::Learning;

/// Sizes of a pass as numbers that no product overflows.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassDims {
    pub batch: f64,
    pub seq: f64,
    /// Rows of every product: `batch * seq`.
    pub tokens: f64,
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
            tokens: batch * seq,
            d: config.d_model as f64,
            q: (config.n_heads * config.head_dim) as f64,
            kv: (config.n_kv_heads * config.head_dim) as f64,
            f: config.d_ff as f64,
            heads: config.n_heads as f64,
            kv_heads: config.n_kv_heads as f64,
            vocab: config.vocab_size as f64,
        }
    }

    /// Numbers of all attention scores of a layer.
    pub fn scores(&self) -> f64 {
        self.tokens * self.heads * self.seq
    }
}

/// Numbers that one layer's graph keeps.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LayerActivations {
    /// Its input, where the graph keeps it.
    pub input: f64,
    /// The attention with everything around it.
    pub attention: f64,
    /// The feed-forward with its norm.
    pub feed_forward: f64,
    /// Whether the attention to the text has gradients.
    pub scores: bool,
    /// Products whose input has a gradient.
    pub back: Products,
}

/// Products of a layer.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts, each of its own")]
pub(super) struct Products {
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

impl Learning<'_> {
    /// What the graph of a layer keeps.
    pub fn layer(&self, layer: usize, widths: &PassDims) -> LayerActivations {
        use LinearName::{Down, Gate, Key, Output, Query, Up, Value};
        let &PassDims { tokens, d, q, f, .. } = widths;
        let learns = |names: &[LinearName]| names.iter().any(|name| self.linear(layer, *name));
        let linears = |names: &[LinearName], tracked| {
            self.linears(layer, names, tracked, tokens) + tokens * self.input(layer, names)
        };
        let prompts = self.prompt_layers.contains(&layer);
        let norms = self.norms();

        let below = layer > self.first_layer() || self.full;
        let input = if below { tokens * d } else { 0.0 };
        let mut graph = LayerActivations { input, ..LayerActivations::default() };
        let normed = below || norms;
        graph.attention += self.norm(widths, below) + linears(&[Query, Key, Value], normed);
        graph.scores = normed || learns(&[Query, Key, Value]);
        let joined = graph.scores || prompts;
        graph.attention += if self.fused {
            self.fused_attention(widths, graph.scores, prompts)
        } else {
            self.composed_attention(widths, graph.scores, prompts)
        };
        graph.attention += linears(&[Output], joined);
        if self.fused && joined && self.input(layer, &[Output]) > 0.0 {
            // The heads, which the attention keeps already.
            graph.attention -= tokens * q;
        }
        let hidden = below || joined || learns(&[Output]);

        graph.feed_forward += self.norm(widths, hidden);
        if hidden {
            graph.feed_forward += tokens * d;
        }
        let unit = hidden || norms;
        graph.feed_forward += linears(&[Gate, Up], unit);
        let inner = unit || learns(&[Gate, Up]);
        if inner {
            graph.feed_forward += tokens * f * self.inner();
        }
        graph.feed_forward += linears(&[Down], inner);
        graph.back = Products { qkv: normed, output: joined, gate_and_up: unit, down: inner };
        graph
    }

    /// Whether norms are fused operations; those of a whole model that learns are not.
    pub fn fused_norms(&self) -> bool {
        self.fused && !self.full && self.config.norm == NormKind::Rms
    }

    /// Whether SwiGLU is one operation.
    pub fn fused_swiglu(&self) -> bool {
        self.fused && self.config.feed_forward == FeedForwardKind::SwiGlu
    }

    /// What a norm keeps beside its input, which has a gradient or not.
    pub fn norm(&self, widths: &PassDims, tracked: bool) -> f64 {
        let learned = if self.norms() { widths.d } else { 0.0 };
        let row = if tracked && !self.fused_norms() { 3.0 } else { 0.0 };
        widths.tokens * (learned + row)
    }

    fn fused_attention(&self, widths: &PassDims, scores: bool, prompts: bool) -> f64 {
        let &PassDims { tokens, q, kv, heads, .. } = widths;
        let mut kept = 0.0;
        if scores && self.config.qk_norm {
            kept += tokens * (q + kv);
        }
        if scores || prompts {
            kept += tokens * (2.0 * q + 2.0 * kv + heads);
        }
        if prompts {
            kept += 2.0 * self.adapter_len * kv;
        }
        kept
    }

    fn composed_attention(&self, widths: &PassDims, scores: bool, prompts: bool) -> f64 {
        let &PassDims { tokens, batch, seq, q, kv, heads, kv_heads, .. } = widths;
        let mut kept = 0.0;
        if scores {
            if self.config.qk_norm {
                kept += tokens * (q + kv + 3.0 * (heads + kv_heads));
            }
            let softmax = 3.0 * widths.scores() + tokens * 4.0 * heads;
            kept += tokens * 3.0 * q + softmax + tokens * seq / 4.0 / batch;
        }
        if prompts {
            let query = if scores { 0.0 } else { q };
            let softmax = heads * (3.0 * self.adapter_len + 1.0);
            kept += tokens * (query + q + softmax);
        }
        kept
    }

    /// Numbers that the activation keeps for each of `d_ff`.
    fn inner(&self) -> f64 {
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
    use crate::learner::FineTuningMethod;
    use crate::plan::request::Workload;
    use crate::plan::{DeviceTraits, WorkloadKind};

    fn request(adapter: impl Into<AdapterConfig>) -> Workload {
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
        let request =
            request(AdaptionPromptConfig { layers: AdaptedLayers::Last(2), ..Default::default() });
        let learning = Learning::new(&request);
        let widths = PassDims::new(&request.config, request.batch_size, request.seq_len);
        assert_eq!(learning.first_layer(), 1);
        let [first, second] = [1, 2].map(|layer| learning.layer(layer, &widths));
        // Query, gated heads, and the softmax over 10 prompt tokens.
        assert_eq!(first.attention, 32.0 * (32.0 + 32.0 + 4.0 * 31.0));
        assert_eq!(first.input, 0.0);
        assert!(second.scores && second.attention > first.attention + 3.0 * widths.scores());
        assert_eq!(second.feed_forward, 32.0 * (3.0 + 32.0 + 4.0 * 48.0));
    }

    #[test]
    fn fused_layers_keep_no_scores_and_half_of_swiglu() {
        let own = AdaptionPromptConfig { layers: AdaptedLayers::Last(2), ..Default::default() };
        let request = Workload { device: DeviceTraits::fused(), ..request(own) };
        let learning = Learning::new(&request);
        let widths = PassDims::new(&request.config, request.batch_size, request.seq_len);
        let [first, second] = [1, 2].map(|layer| learning.layer(layer, &widths));
        // Query, key, value, heads, sums; and the prompt's keys and values.
        let attention = 32.0 * (32.0 + 2.0 * 16.0 + 32.0 + 4.0) + 2.0 * 10.0 * 16.0;
        assert_eq!((first.attention, second.attention), (attention, attention));
        assert_eq!((first.input, second.input), (0.0, 32.0 * 32.0));
        assert_eq!(second.feed_forward, 32.0 * (32.0 + 2.0 * 48.0));
    }

    #[test]
    fn inputs_that_layers_share_are_kept_once() {
        let request = request(V2Config { norms: false, ..V2Config::input_scale() });
        let learning = Learning::new(&request);
        assert_eq!(learning.input(0, &[LinearName::Query]), 32.0);
        assert_eq!(learning.input(0, &[LinearName::Query, LinearName::Key]), 32.0);
    }
}
