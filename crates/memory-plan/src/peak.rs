//! The points of a training step, or of a generation, that may have the highest memory use.
//!
//! ```text
//! training        lower layers │ ─► graph grows ─► head, loss ─► final norm backward ─► feed-forward backward ─► attention backward
//! checkpointing   layers without a graph ─► head, loss ─► per layer: graph, feed-forward backward, attention backward
//! generation      prefill through each layer ─► head ─► decode one token at a time
//! ```
//!
//! What they hold in addition to the graph, in values (`t` tokens, `l` labels). The feed-forward network
//! of the last layer has `l` rows in training. With composed layers, on
//! backends that reuse the buffer of an input for an output:
//!
//! | point, composed | held |
//! |---|---|
//! | layer without gradients, attention | hidden, normed, query, heads, key and value, both repeated: `t (2 d + 4 q + 2 kv)`, and the scores that exist at a time |
//! | layer without gradients, feed-forward | hidden, normed, gate, its sigmoid, up: `t (2 d + 3 f)` |
//! | head and loss | shifted logits, their exponentials or gradient, one product more: `3 l vocab` |
//! | final norm, backward | gradient, and the temporary gradients of its two factors: `3 l d` |
//! | feed-forward, backward | gradients of residual and of both branches: `t (d + 2 f)` |
//! | attention, backward | feed-forward's graph is freed; gradients of quotients and of exponentials: `2 t heads s`, of residual and heads: `t (d + q)` |
//!
//! With fused layers, in addition to the workspaces of `workspace.rs`, which stay allocated:
//!
//! | point, fused | held |
//! |---|---|
//! | layer without gradients, attention | hidden, normed, query, key and value: `t (2 d + q + 2 kv)`; hidden, these, heads: `t (d + 2 q + 2 kv)` |
//! | layer without gradients, feed-forward | hidden, normed, gate and up, their product: `t (2 d + 3 f)` |
//! | head and loss | the labels' rows: `l d`; the graph keeps their gradient |
//! | final norm, backward | its two gradients: `2 l d` |
//! | feed-forward, backward | gradients of residual, product, gate and up: `t (d + 3 f)` |
//! | attention, backward | feed-forward's graph is freed; gradients of residual, heads, query, key and value: `t (d + 2 q + 2 kv)` |
//!
//! With kernels of GPUs, norms, SwiGLU, attention and loss are as with fused layers, the rest is composed.

use llama::config::ModelShape;
use llama::{LinearName, Precision};
use train::Result;

use crate::layer_activations::{LayerActivations, PassDims};
use crate::memory_plan::MemoryPlan;
use crate::trainable_layers::TrainableLayers;
use crate::weight_bytes::{F32, base_bytes, n_trainable};
use crate::workload::{Workload, WorkloadKind};
use crate::workspace;

/// Weights of a quantized matrix that are dequantized at a time, as in `llama`'s quantized weight.
const DEQUANT_CHUNK: f64 = (1 << 20) as f64;
/// Bytes of one of them while it is dequantized: packed, as an integer, as f32.
const DEQUANT_BYTES: f64 = 6.0;
/// f32 values per score of composed attention: one score, updated in place, and one byte of mask.
const SCORES_AND_MASK: f64 = 1.25;
/// The positions of a fused cache are padded to whole blocks.
const CACHE_ALIGNMENT: usize = kernels::BLOCK_TOKENS;

impl MemoryPlan {
    /// Plans the memory of a workload.
    ///
    /// On flex the plan is within 20 % of the measured peak of a process (`tests/peak_memory.rs`), and
    /// on ndarray for the cases measured there; for other devices the same rules apply without a
    /// measurement. Not counted: the program itself (some MiB), memory that a GPU allocator holds in
    /// reserve, the scratch of each thread of a fused device (about 0.3 to 5 MiB, depending on heads and
    /// length), loading the model (one tensor), the nodes of the graph (about 0.1 MiB per layer). For a
    /// whole model the sum is too large by up to the smaller of gradients and graph, because one grows
    /// while the other shrinks. Gradient accumulation needs the gradients once more.
    ///
    /// # Errors
    /// As [`Workload::validate`].
    pub fn new(workload: &Workload) -> Result<Self> {
        workload.validate()?;
        Ok(match workload.kind {
            WorkloadKind::Train { labels, .. } => training(workload, labels),
            WorkloadKind::Generate { max_new_tokens } => generation(workload, max_new_tokens),
        })
    }
}

struct PeakEstimator<'a> {
    workload: &'a Workload,
    trainable: TrainableLayers<'a>,
    dims: PassDims,
    sizes: ModelShape,
}

/// The plan of a training step.
fn training(workload: &Workload, labels: usize) -> MemoryPlan {
    let estimator = PeakEstimator::new(workload);
    let PassDims { batch, .. } = estimator.dims;
    let labels = labels as f64 * batch;
    let (kept, peak) = if workload.uses_activation_checkpointing() {
        estimator.checkpointed(labels)
    } else {
        estimator.full_graph(labels)
    };
    let workspaces = if workload.device.fused {
        workspace::training_workspace(&estimator.trainable, &estimator.dims, labels)
    } else {
        workspace::gpu_workspace(&estimator.trainable, &estimator.dims, labels)
    };
    let trained = F32 * n_trainable(workload);
    MemoryPlan {
        weights: bytes(base_bytes(workload)),
        adapter: bytes(trained),
        gradients: bytes(trained),
        optimizer: bytes(2.0 * trained),
        activations: bytes(F32 * kept),
        cache: 0,
        working_set: bytes(F32 * (peak - kept + workspaces)),
    }
}

/// The plan of a generation.
fn generation(workload: &Workload, new_tokens: usize) -> MemoryPlan {
    let estimator = PeakEstimator::new(workload);
    let PassDims { batch, seq, kv, vocab, d, .. } = estimator.dims;
    let layers = workload.config.n_layers as f64;
    let new_tokens = new_tokens.min(workload.config.max_positions - workload.seq_len);
    // The last token is not processed.
    let positions = workload.seq_len + new_tokens.saturating_sub(1);
    let fused = workload.device.fused;
    let positions = if fused { positions.next_multiple_of(CACHE_ALIGNMENT) } else { positions };
    let positions = batch * positions as f64;
    let prompts = estimator.trainable.prompt_layers.len() as f64 * estimator.trainable.prompt_len;
    let logits = 2.0 * batch * vocab;
    let head = estimator.matmul_scratch(LinearName::Head, batch);
    let tokens = batch * seq;
    let working = [
        estimator.inference_attention(true),
        estimator.inference_feed_forward(),
        tokens * d + logits + head,
        // Each new token copies the keys and values of a layer, unless the cache is one buffer.
        if fused { 0.0 } else { 2.0 * positions * kv },
    ];
    MemoryPlan {
        weights: bytes(base_bytes(workload)),
        adapter: bytes(F32 * (n_trainable(workload) + 2.0 * prompts * kv)),
        cache: bytes(F32 * 2.0 * layers * positions * kv),
        working_set: bytes(F32 * maximum(&working)),
        ..MemoryPlan::default()
    }
}

impl<'a> PeakEstimator<'a> {
    fn new(workload: &'a Workload) -> Self {
        Self {
            workload,
            trainable: TrainableLayers::new(workload),
            dims: PassDims::new(&workload.config, workload.batch_size, workload.seq_len),
            sizes: (&workload.config).into(),
        }
    }

    /// Values that the whole graph keeps, and the peak including them.
    fn full_graph(&self, labels: f64) -> (f64, f64) {
        let PassDims { d, .. } = self.dims;
        let n_layers = self.workload.config.n_layers;
        let mut peak = self.inference_attention(false).max(self.inference_feed_forward());
        let mut layers = 0.0;
        for layer in self.trainable.first_layer()..n_layers {
            let graph = self.trainable.layer(layer, &self.dims);
            layers += graph.total();
            let candidates = [
                layers + self.feed_forward_backward(layer),
                layers - graph.feed_forward + self.attention_backward(&graph),
            ];
            peak = peak.max(maximum(&candidates));
        }
        let last_norm = labels * d + self.final_norm();
        let kept = layers + last_norm + self.head_graph(labels);
        let candidates =
            [kept + self.loss(labels), layers + last_norm + self.final_norm_backward()];
        (kept, peak.max(maximum(&candidates)))
    }

    /// The same with activation checkpointing.
    fn checkpointed(&self, labels: f64) -> (f64, f64) {
        let PassDims { n_tokens: tokens, d, .. } = self.dims;
        let (first, n_layers) = (self.trainable.first_layer(), self.workload.config.n_layers);
        let hidden = tokens * d;
        let inputs = (n_layers - first) as f64 * hidden;
        // The input of the final norm stays until the end.
        let kept_inputs = inputs + labels * d;
        let head = self.final_norm() + self.head_graph(labels);
        let plain = maximum(&[self.inference_attention(false), self.inference_feed_forward()]);
        let (mut kept, mut peak) = (kept_inputs + head, 0.0_f64);
        let backward = kept_inputs + head + self.final_norm_backward();
        for candidate in [inputs + plain, kept + self.loss(labels), backward] {
            peak = peak.max(candidate);
        }
        for layer in first..n_layers {
            let graph = self.trainable.layer(layer, &self.dims);
            // The inputs still kept, the output gradient, and its product with the output.
            let output = self.trainable.feed_forward_dims(layer, &self.dims).n_tokens * d;
            let remaining = (layer - first + 1) as f64 * hidden + 2.0 * output;
            let layer_graph = graph.attention + graph.feed_forward;
            kept = kept.max(remaining + layer_graph);
            let plain = if graph.keeps_scores { 0.0 } else { self.inference_attention(false) };
            let candidates = [
                remaining + layer_graph + self.feed_forward_backward(layer),
                remaining + graph.attention + self.attention_backward(&graph),
                remaining + plain,
            ];
            peak = peak.max(maximum(&candidates));
        }
        (kept, peak.max(kept))
    }

    /// Values that the final norm keeps in addition to its input.
    fn final_norm(&self) -> f64 {
        self.trainable.norm(&self.trainable.label_dims(&self.dims), true)
    }

    fn final_norm_backward(&self) -> f64 {
        let PassDims { n_tokens: rows, d, .. } = self.trainable.label_dims(&self.dims);
        let frozen = self.trainable.fused_norms() && !self.trainable.trains_norms();
        rows * d * if frozen { 2.0 } else { 3.0 }
    }

    /// Values that head and loss keep: the shifted logits and the head's trainable part; if fused, the
    /// gradient of the labels' rows.
    fn head_graph(&self, labels: f64) -> f64 {
        let layer = self.workload.config.n_layers;
        let PassDims { vocab, d, .. } = self.dims;
        if self.trainable.fused_loss() {
            return labels * d;
        }
        let head = &[LinearName::Head];
        let trainable = &self.trainable;
        let input = labels * trainable.shared_input_width(layer, head);
        labels * vocab + input + trainable.linear_activations(layer, head, true, labels)
    }

    /// Temporary values of head and loss. In the backward pass of the head's matmul the shifted logits
    /// are replaced by their gradient.
    fn loss(&self, labels: f64) -> f64 {
        let PassDims { vocab, d, .. } = self.dims;
        if self.trainable.fused_loss() {
            return labels * d;
        }
        (2.0 * labels * (vocab + d)).max(self.matmul_scratch(LinearName::Head, labels))
    }

    fn feed_forward_backward(&self, layer: usize) -> f64 {
        let PassDims { n_tokens: rows, d, f, .. } =
            self.trainable.feed_forward_dims(layer, &self.dims);
        // After a trainable scale or bias the gradient differs from the residual's.
        let is_trained = self.trainable.trains_linear(layer, LinearName::Down);
        let residual = rows * (d + if is_trained { d } else { 0.0 });
        if self.trainable.fused_swiglu() {
            return residual + rows * 3.0 * f;
        }
        let scratch = self.matmul_scratch(LinearName::Down, rows);
        residual + (rows * 2.0 * f).max(rows * f + scratch)
    }

    fn attention_backward(&self, graph: &LayerActivations) -> f64 {
        let PassDims { n_tokens: tokens, d, q, kv, .. } = self.dims;
        let scores = match graph.keeps_scores {
            false => 0.0,
            true if self.trainable.fused_attention() => tokens * (q + 2.0 * kv),
            true => 2.0 * self.dims.n_scores(),
        };
        tokens * (d + q) + scores.max(self.matmul_scratch(LinearName::Output, tokens))
    }

    /// Attention of a layer without gradients; keys and values may be in a cache.
    fn inference_attention(&self, cached: bool) -> f64 {
        let PassDims { n_tokens: tokens, d, q, kv, .. } = self.dims;
        if self.workload.device.fused {
            return tokens * (d + q + 2.0 * kv + d.max(q));
        }
        if self.trainable.fused_attention() && !cached {
            // Queries, keys and values, and their concatenation.
            let concatenation = 2.0 * (q + 2.0 * kv);
            let scratch = self.matmul_scratch(LinearName::Query, tokens);
            return tokens * 2.0 * d + (tokens * concatenation).max(scratch);
        }
        let key_value = if cached { 0.0 } else { 2.0 * kv };
        let scores = SCORES_AND_MASK * self.dims.n_scores();
        tokens * (2.0 * d + key_value)
            + (tokens * 4.0 * q + scores).max(self.matmul_scratch(LinearName::Query, tokens))
    }

    fn inference_feed_forward(&self) -> f64 {
        let PassDims { n_tokens: tokens, d, f, .. } = self.dims;
        let scratch = self.matmul_scratch(LinearName::Up, tokens);
        tokens * 2.0 * d + (tokens * 3.0 * f).max(tokens * 2.0 * f + scratch)
    }

    /// Temporary values of a matmul with a weight, besides input and output.
    fn matmul_scratch(&self, name: LinearName, rows: f64) -> f64 {
        let [d_out, d_in] = self.sizes.linear_shape(name).map(|size| size as f64);
        match self.workload.precision {
            _ if self.workload.device.fused => 0.0,
            // Input and output in half precision.
            Precision::BF16 | Precision::F16 => 2.0 / F32 * rows * (d_in + d_out),
            // The outputs of its chunks, before they are concatenated.
            Precision::Bits8 | Precision::Bits4 => {
                DEQUANT_BYTES / F32 * DEQUANT_CHUNK.min(d_in * d_out) + rows * d_out
            }
            Precision::F32 => 0.0,
        }
    }
}

fn maximum(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn bytes(value: f64) -> u64 {
    value.max(0.0).round() as u64
}
