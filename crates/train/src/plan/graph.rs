//! What one layer's graph keeps for its backward pass.
//!
//! Burn's autodiff keeps a tensor where the gradient of an operation asks for its value: both factors
//! of a product if both have a gradient, one if only the other has; the input of `exp`, `sqrt`,
//! `recip`, `sigmoid`, `gelu`; both sides of a division. Sums, casts, views and reshapes keep shapes
//! only. A tensor that several operations keep is one buffer. That gives, in numbers for each token
//! (`q` = heads * head_dim, `s` = seq, `p` = prompt tokens, `f` = d_ff, weights of the base left out
//! because they are there anyway):
//!
//! | part of the layer | kept | numbers |
//! |---|---|---|
//! | a norm | its input, and a few numbers a row | `d + 3`; a norm that learns: its unit output too, `d` |
//! | query and key norms | the heads before them | `q + kv` and 3 a head |
//! | rotation | nothing but its tables | |
//! | scores | query, key and value as the product sees them: repeated for each query head | `3 q` |
//! | their softmax | shifted scores, exponentials, quotients; largest and sum | `3 heads s + 4 heads` |
//! | causal mask | one byte a pair of positions | `s / 4` for a whole batch |
//! | prompt branch | heads before the gate, and the three of its softmax | `q + 3 heads p` |
//! | output projection, residual | nothing | |
//! | SwiGLU | gate, its sigmoid, their product, up | `4 f` |
//! | gelu | its input | `f`; with tanh `3 f` |
//! | V2, scale on the output | what the scale multiplies | out of each linear layer |
//! | V2, scale on the input; LoRA; a weight that learns | the layer's input, shared by those that have the same | in; LoRA its rank too |
//! | a quantised weight | itself, unpacked: no handle of the base's will do | in * out, not for each token |
//!
//! The graph begins where something first learns. In the first adapted layer of prompts, the attention
//! to the text is therefore a plain, fused operation; of its heads only the query is kept.

use adaption_prompt::{LoraConfig, Scale, V2Config};
use llama::{FeedForwardKind, LinearName, LlamaConfig, Sizes};

use super::request::Request;
use crate::learner::Method;

/// Sizes of a pass as numbers that no product overflows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Widths {
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

impl Widths {
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
pub(super) struct LayerGraph {
    /// Its input, where the graph keeps it.
    pub input: f64,
    /// The attention with everything around it.
    pub attention: f64,
    /// The feed-forward with its norm.
    pub feed_forward: f64,
    /// Whether the attention to the text has gradients.
    pub scores: bool,
    /// Whether the feed-forward has.
    pub inner: bool,
}

impl LayerGraph {
    pub fn total(&self) -> f64 {
        self.input + self.attention + self.feed_forward
    }
}

/// What learns in a layer, and what the graph therefore keeps.
pub(super) struct Learning<'a> {
    config: &'a LlamaConfig,
    sizes: Sizes,
    pub prompt_layers: Vec<usize>,
    pub adapter_len: f64,
    pub v2: Option<&'a V2Config>,
    lora: Option<(&'a LoraConfig, Vec<usize>)>,
    pub full: bool,
    quantised: bool,
}

impl<'a> Learning<'a> {
    /// For a request whose method was checked.
    pub fn new(request: &'a Request) -> Self {
        let config = &request.config;
        let n_layers = config.n_layers;
        let (prompts, v2, lora) = match &request.method {
            Method::Adapter(own) => (own.prompts.as_ref(), own.v2.as_ref(), own.lora.as_ref()),
            Method::Full => (None, None, None),
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
            full: request.method == Method::Full,
            quantised: request.precision.bits().is_some(),
        }
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
        self.sizes.has(layer, name) && (self.full || v2 || self.lora_at(layer, name).is_some())
    }

    fn lora_at(&self, layer: usize, name: LinearName) -> Option<&LoraConfig> {
        let (lora, layers) = self.lora.as_ref()?;
        (layers.contains(&layer) && lora.linears.contains(&name)).then_some(lora)
    }

    /// Numbers a token that linear layers with the same input keep; with gradients on the input,
    /// and unpacked weights.
    pub fn linears(&self, layer: usize, names: &[LinearName], tracked: bool, rows: f64) -> f64 {
        let (mut kept, mut input, mut d_input) = (0.0, false, 0.0);
        for &name in names.iter().filter(|name| self.sizes.has(layer, **name)) {
            let [d_out, d_in] = self.sizes.linear_shape(name).map(|size| size as f64);
            d_input = d_in;
            let v2 = self.v2.filter(|v2| v2.linears.contains(&name));
            match v2.map(|v2| v2.scale) {
                Some(Scale::Output) => kept += rows * d_out,
                Some(Scale::Input) => input = true,
                Some(Scale::None) | None => {}
            }
            if let Some(lora) = self.lora_at(layer, name) {
                input = true;
                kept += rows * lora.rank as f64;
            }
            input |= self.full;
            let input_learns = tracked || v2.is_some_and(|v2| v2.scale == Scale::Input);
            if self.quantised && input_learns {
                kept += d_in * d_out;
            }
        }
        if input { kept + rows * d_input } else { kept }
    }

    /// What the graph of a layer keeps.
    pub fn layer(&self, layer: usize, widths: &Widths) -> LayerGraph {
        use LinearName::{Down, Gate, Key, Output, Query, Up, Value};
        let &Widths { tokens, d, q, kv, f, heads, kv_heads, batch, seq, .. } = widths;
        let learns = |names: &[LinearName]| names.iter().any(|name| self.linear(layer, *name));
        let prompts = self.prompt_layers.contains(&layer);
        let norms = self.norms();
        let norm = |tracked: bool| {
            let learned = if norms { d } else { 0.0 };
            tokens * (learned + if tracked { 3.0 } else { 0.0 })
        };

        let below = layer > self.first_layer() || self.full;
        let input = if below { tokens * d } else { 0.0 };
        let mut graph = LayerGraph { input, ..LayerGraph::default() };
        graph.attention += norm(below);
        let normed = below || norms;
        graph.attention += self.linears(layer, &[Query, Key, Value], normed, tokens);
        graph.scores = normed || learns(&[Query, Key, Value]);
        if graph.scores {
            if self.config.qk_norm {
                graph.attention += tokens * (q + kv + 3.0 * (heads + kv_heads));
            }
            let softmax = 3.0 * widths.scores() + tokens * 4.0 * heads;
            graph.attention += tokens * 3.0 * q + softmax + tokens * seq / 4.0 / batch;
        }
        if prompts {
            let query = if graph.scores { 0.0 } else { q };
            let softmax = heads * (3.0 * self.adapter_len + 1.0);
            graph.attention += tokens * (query + q + softmax);
        }
        let joined = graph.scores || prompts;
        graph.attention += self.linears(layer, &[Output], joined, tokens);
        let hidden = below || joined || learns(&[Output]);

        graph.feed_forward += norm(hidden);
        if hidden {
            graph.feed_forward += tokens * d;
        }
        let normed = hidden || norms;
        graph.feed_forward += self.linears(layer, &[Gate, Up], normed, tokens);
        graph.inner = normed || learns(&[Gate, Up]);
        if graph.inner {
            graph.feed_forward += tokens * self.inner(f);
        }
        graph.feed_forward += self.linears(layer, &[Down], graph.inner, tokens);
        graph
    }

    fn inner(&self, f: f64) -> f64 {
        match self.config.feed_forward {
            FeedForwardKind::SwiGlu => 4.0 * f,
            FeedForwardKind::Gelu => f,
            FeedForwardKind::GeluTanh => 3.0 * f,
        }
    }
}

#[cfg(test)]
mod tests {
    use adaption_prompt::{AdapterConfig, AdaptionPromptConfig, Layers};
    use llama::Precision;

    use LinearName::{Key, Query, Value};

    use super::*;
    use crate::plan::{DeviceTraits, Purpose};

    fn request(adapter: impl Into<AdapterConfig>) -> Request {
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
        Request {
            config,
            precision: Precision::F32,
            method: Method::from(adapter.into()),
            purpose: Purpose::Train { labels: 1, recompute: false },
            batch: 2,
            seq: 16,
            device: DeviceTraits::composed(None),
        }
    }

    #[test]
    fn only_the_first_adapted_layer_keeps_no_scores() {
        let request =
            request(AdaptionPromptConfig { layers: Layers::Last(2), ..Default::default() });
        let learning = Learning::new(&request);
        let widths = Widths::new(&request.config, request.batch, request.seq);
        assert_eq!(learning.first_layer(), 1);
        let [first, second] = [1, 2].map(|layer| learning.layer(layer, &widths));
        // Query, gated heads, and the softmax over 10 prompt tokens.
        assert_eq!(first.attention, 32.0 * (32.0 + 32.0 + 4.0 * 31.0));
        assert_eq!(first.input, 0.0);
        assert!(second.scores && second.attention > first.attention + 3.0 * widths.scores());
        assert_eq!(second.feed_forward, 32.0 * (3.0 + 32.0 + 4.0 * 48.0));
    }

    #[test]
    fn inputs_that_layers_share_are_kept_once() {
        let request = request(V2Config { norms: false, ..V2Config::input_scale() });
        let learning = Learning::new(&request);
        let one = learning.linears(0, &[Query], true, 10.0);
        assert_eq!(one, 320.0);
        assert_eq!(learning.linears(0, &[Query, Key, Value], true, 10.0), one);
    }
}
