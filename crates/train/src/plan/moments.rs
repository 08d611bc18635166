//! The moments at which most may be held; the highest is the plan's.
//!
//! ```text
//! training       lower layers │ ─► graph grows ─► head, loss ─► final norm back ─► feed-forward back ─► attention back
//! recomputing    layers without a graph ─► head, loss ─► layer by layer: graph, feed-forward back, attention back
//! answering      prompts through each layer ─► head ─► a token at a time
//! ```
//!
//! What they hold beside the graph, in numbers (`t` tokens, `l` labels), first where layers are composed,
//! by backends that hold one buffer where input and output would be two:
//!
//! | moment, composed | held |
//! |---|---|
//! | a layer without gradients, attention | hidden, normed, query, heads, key and value, both repeated: `t (2 d + 4 q + 2 kv)`, and the scores that exist at a time |
//! | a layer without gradients, feed-forward | hidden, normed, gate, its sigmoid, up: `t (2 d + 3 f)` |
//! | head and loss | shifted logits, their exponentials or gradient, one product more: `3 l vocab` |
//! | final norm, back | gradient, and its two factors' on the way: `3 t d` |
//! | feed-forward, back | gradients of residual and of both branches: `t (d + 2 f)` |
//! | attention, back | feed-forward's graph is gone; gradients of quotients and of exponentials: `2 t heads s`, of residual and heads: `t (d + q)` |
//!
//! and where they are fused, beside the workspaces (`workspace.rs`), which stay:
//!
//! | moment, fused | held |
//! |---|---|
//! | a layer without gradients, attention | hidden, normed, query, key and value: `t (2 d + q + 2 kv)`; hidden, these, heads: `t (d + 2 q + 2 kv)` |
//! | a layer without gradients, feed-forward | hidden, normed, gate and up, their product: `t (2 d + 3 f)` |
//! | head and loss | the labels' rows: `l d`; their gradient is what the graph keeps |
//! | final norm, back | its two gradients: `2 t d` |
//! | feed-forward, back | gradients of residual, product, gate and up: `t (d + 3 f)` |
//! | attention, back | feed-forward's graph is gone; gradients of residual, heads, query, key and value: `t (d + 2 q + 2 kv)` |

use llama::config::ModelShape;
use llama::{LinearName, Precision};

use super::MemoryPlan;
use super::graph::{LayerActivations, PassDims};
use super::learning::Learning;
use super::request::Workload;
use super::weights::{F32, base, learned};
use super::workspace;

/// Weights of a quantised matrix that are unpacked at a time: `quantized::QuantizedWeight`'s own number.
const AT_ONCE: f64 = (1 << 20) as f64;
/// Bytes of one of them on its way: packed, as an integer, as f32.
const UNPACKING: f64 = 6.0;
/// Where attention is composed of other operations, one number a score, worked on in place, and one
/// byte of mask.
const SCORES_AND_MASK: f64 = 1.25;
/// Slots of a fused cache are filled up to a multiple of this.
const CACHE: usize = 16;

struct Moments<'a> {
    request: &'a Workload,
    learning: Learning<'a>,
    widths: PassDims,
    sizes: ModelShape,
}

/// The plan of a step.
pub(super) fn training(request: &Workload, labels: usize) -> MemoryPlan {
    let moments = Moments::new(request);
    let PassDims { batch, .. } = moments.widths;
    let labels = labels as f64 * batch;
    let (kept, peak) =
        if request.recomputes() { moments.recomputed(labels) } else { moments.whole(labels) };
    let workspaces = if request.device.fused {
        workspace::training(&moments.learning, &moments.widths, labels)
    } else {
        0.0
    };
    let learned = F32 * learned(request);
    MemoryPlan {
        weights: bytes(base(request)),
        adapter: bytes(learned),
        gradients: bytes(learned),
        optimizer: bytes(2.0 * learned),
        activations: bytes(F32 * kept),
        cache: 0,
        working_set: bytes(F32 * (peak - kept + workspaces)),
    }
}

/// The plan of an answer.
pub(super) fn generation(request: &Workload, new_tokens: usize) -> MemoryPlan {
    let moments = Moments::new(request);
    let PassDims { batch, seq, kv, vocab, d, .. } = moments.widths;
    let layers = request.config.n_layers as f64;
    let new_tokens = new_tokens.min(request.config.max_positions - request.seq_len);
    // The last token is never read again.
    let slots = request.seq_len + new_tokens.saturating_sub(1);
    let fused = request.device.fused;
    let slots = batch * if fused { slots.next_multiple_of(CACHE) } else { slots } as f64;
    let prompts = moments.learning.prompt_layers.len() as f64 * moments.learning.adapter_len;
    let logits = 2.0 * batch * vocab;
    let head = moments.product(LinearName::Head, batch);
    let tokens = batch * seq;
    let working = [
        moments.plain_attention(true),
        moments.plain_feed_forward(),
        tokens * d + logits + head,
        // A new token: keys and values of a layer are copied if they are not one piece.
        if fused { 0.0 } else { 2.0 * slots * kv },
    ];
    MemoryPlan {
        weights: bytes(base(request)),
        adapter: bytes(F32 * (learned(request) + 2.0 * prompts * kv)),
        cache: bytes(F32 * 2.0 * layers * slots * kv),
        working_set: bytes(F32 * largest(&working)),
        ..MemoryPlan::default()
    }
}

impl<'a> Moments<'a> {
    fn new(request: &'a Workload) -> Self {
        Self {
            request,
            learning: Learning::new(request),
            widths: PassDims::new(&request.config, request.batch_size, request.seq_len),
            sizes: (&request.config).into(),
        }
    }

    /// Numbers kept by the whole graph, and the highest moment, both above what stays.
    fn whole(&self, labels: f64) -> (f64, f64) {
        let PassDims { tokens, d, .. } = self.widths;
        let n_layers = self.request.config.n_layers;
        let graphs = (self.learning.first_layer()..n_layers)
            .map(|layer| self.learning.layer(layer, &self.widths));
        let graphs = graphs.collect::<Vec<_>>();
        let layers = graphs.iter().map(LayerActivations::total).sum::<f64>();
        let last_norm = tokens * d + self.final_norm();
        let kept = layers + last_norm + self.head_graph(labels);
        let top = graphs.last().copied().unwrap_or_default();
        let moments = [
            kept + self.loss(labels),
            layers + last_norm + self.final_norm_back(),
            layers + self.feed_forward_back(n_layers - 1),
            layers - top.feed_forward + self.attention_back(&top),
            self.plain_attention(false),
            self.plain_feed_forward(),
        ];
        (kept, largest(&moments))
    }

    /// The same where one layer's graph is kept at a time.
    fn recomputed(&self, labels: f64) -> (f64, f64) {
        let PassDims { tokens, d, .. } = self.widths;
        let (first, n_layers) = (self.learning.first_layer(), self.request.config.n_layers);
        let hidden = tokens * d;
        let inputs = (n_layers - first) as f64 * hidden;
        // What went into the final norm stays until the end.
        let above = inputs + hidden;
        let head = self.final_norm() + self.head_graph(labels);
        let plain = largest(&[self.plain_attention(false), self.plain_feed_forward()]);
        let (mut kept, mut peak) = (above + head, 0.0_f64);
        let back = above + head + self.final_norm_back();
        for moment in [inputs + plain, kept + self.loss(labels), back] {
            peak = peak.max(moment);
        }
        for layer in first..n_layers {
            let graph = self.learning.layer(layer, &self.widths);
            // Its input is one of those kept, and the gradient from above is a factor of the loss.
            let left = (layer - first + 1) as f64 * hidden + 2.0 * hidden;
            let own = graph.attention + graph.feed_forward;
            kept = kept.max(left + own);
            let plain = if graph.scores { 0.0 } else { self.plain_attention(false) };
            let moments = [
                left + own + self.feed_forward_back(layer),
                left + graph.attention + self.attention_back(&graph),
                left + plain,
            ];
            peak = peak.max(largest(&moments));
        }
        (kept, peak.max(kept))
    }

    /// What the final norm keeps beside its input.
    fn final_norm(&self) -> f64 {
        self.learning.norm(&self.widths, true)
    }

    fn final_norm_back(&self) -> f64 {
        let PassDims { tokens, d, .. } = self.widths;
        let frozen = self.learning.fused_norms() && !self.learning.norms();
        tokens * d * if frozen { 2.0 } else { 3.0 }
    }

    /// What head and loss keep: the shifted logits, and what learns in the head; fused, the gradient
    /// of the labels' rows.
    fn head_graph(&self, labels: f64) -> f64 {
        let layer = self.request.config.n_layers;
        let PassDims { vocab, d, .. } = self.widths;
        if self.learning.fused_loss() {
            return labels * d;
        }
        let head = &[LinearName::Head];
        let learning = &self.learning;
        let input = labels * learning.input(layer, head);
        labels * vocab + input + learning.linears(layer, head, true, labels)
    }

    /// What head and loss hold beside that. When the head's product comes back, the shifted logits are
    /// gone and their gradient is in their place.
    fn loss(&self, labels: f64) -> f64 {
        let PassDims { vocab, d, .. } = self.widths;
        if self.learning.fused_loss() {
            return labels * d;
        }
        (2.0 * labels * (vocab + d)).max(self.product(LinearName::Head, labels))
    }

    fn feed_forward_back(&self, layer: usize) -> f64 {
        let PassDims { tokens, d, f, .. } = self.widths;
        // A scale or bias behind the last product parts its gradient from the residual's.
        let learned = self.learning.linear(layer, LinearName::Down);
        let residual = tokens * (d + if learned { d } else { 0.0 });
        if self.learning.fused_swiglu() {
            return residual + tokens * 3.0 * f;
        }
        let product = self.product(LinearName::Down, tokens);
        residual + (tokens * 2.0 * f).max(tokens * f + product)
    }

    fn attention_back(&self, graph: &LayerActivations) -> f64 {
        let PassDims { tokens, d, q, kv, .. } = self.widths;
        let scores = match graph.scores {
            false => 0.0,
            true if self.request.device.fused => tokens * (q + 2.0 * kv),
            true => 2.0 * self.widths.scores(),
        };
        tokens * (d + q) + scores.max(self.product(LinearName::Output, tokens))
    }

    /// A layer's attention without gradients; keys and values may lie in a cache.
    fn plain_attention(&self, cached: bool) -> f64 {
        let PassDims { tokens, d, q, kv, .. } = self.widths;
        if self.request.device.fused {
            return tokens * (d + q + 2.0 * kv + d.max(q));
        }
        let own = if cached { 0.0 } else { 2.0 * kv };
        let scores = SCORES_AND_MASK * self.widths.scores();
        tokens * (2.0 * d + own)
            + (tokens * 4.0 * q + scores).max(self.product(LinearName::Query, tokens))
    }

    fn plain_feed_forward(&self) -> f64 {
        let PassDims { tokens, d, f, .. } = self.widths;
        let product = self.product(LinearName::Up, tokens);
        tokens * 2.0 * d + (tokens * 3.0 * f).max(tokens * 2.0 * f + product)
    }

    /// What a product with a weight holds beside its input and output.
    fn product(&self, name: LinearName, rows: f64) -> f64 {
        let [d_out, d_in] = self.sizes.linear_shape(name).map(|size| size as f64);
        match self.request.precision {
            _ if self.request.device.fused => 0.0,
            // Its input, and its output before it becomes f32.
            Precision::BF16 | Precision::F16 => 2.0 / F32 * rows * (d_in + d_out),
            // Its parts, before they are joined.
            Precision::Bits8 | Precision::Bits4 => {
                UNPACKING / F32 * AT_ONCE.min(d_in * d_out) + rows * d_out
            }
            Precision::F32 => 0.0,
        }
    }
}

fn largest(moments: &[f64]) -> f64 {
    moments.iter().copied().fold(0.0, f64::max)
}

fn bytes(value: f64) -> u64 {
    value.max(0.0).round() as u64
}
