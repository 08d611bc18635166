//! Workspaces of the fused operations. A thread keeps its buffers for later calls until it ends.
//!
//! ```text
//! the calls of a step, in order ─► the buffers that the calling thread holds at the end
//! ```
//!
//! Not counted: the buffers of other threads, some MiB each; nor that sequences with a shared prefix
//! share rows.
//!
//! | call | buffers |
//! |---|---|
//! | attention | keys and values, `2 kv` per token |
//! | attention, backward | gradients of the queries from each chunk of a long sequence; of the prompts from each head |
//! | frozen matmul, backward, in bf16 | the gradient in bf16, of at most 1024 rows |
//! | head and loss | logits of some rows, and the buffers of the head's backward pass |

use kernels::sizes;
use llama::LinearName;

use crate::layer_activations::{LayerActivations, PassDims};
use crate::trainable_layers::TrainableLayers;

/// Positions of a block of keys and values.
const BLOCK_TOKENS: f64 = sizes::BLOCK_TOKENS as f64;
/// Rows of a panel.
const PANEL_ROWS: f64 = sizes::PANEL as f64;
/// Rows of a gradient that a matmul processes at a time.
const GEMM_BACKWARD_ROWS: f64 = sizes::MAX_BF16_GEMM_ROWS as f64;
/// Maximum number of logits in memory, and of their rows.
const MAX_LOGITS: f64 = sizes::MAX_LOGITS as f64;
const MAX_LABEL_ROWS: f64 = sizes::MAX_LOGIT_ROWS as f64;
/// Minimum length of a chunk of a sequence, and maximum number of chunks, in attention's backward pass.
const MIN_CHUNK_LEN: f64 = sizes::MIN_ATTENTION_CHUNK as f64;
const MAX_CHUNKS: f64 = sizes::MAX_ATTENTION_CHUNKS as f64;

/// The free buffers of a thread, with the rules of `kernels`.
#[derive(Debug, Default)]
struct BufferPool(Vec<f64>);

impl BufferPool {
    /// A call that takes buffers one after another and returns all of them.
    fn run_call(&mut self, lens: &[f64]) {
        let taken = lens.iter().map(|&len| self.take(len)).collect::<Vec<_>>();
        self.0.extend(taken);
    }

    /// The smallest buffer that is long enough, or a new one instead of the longest.
    fn take(&mut self, len: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        if let Some(index) = self.0.iter().position(|&free| free >= len) {
            return self.0.remove(index);
        }
        self.0.pop();
        len
    }
}

/// f32 values of the buffers that stay allocated between steps.
pub(super) fn training_workspace(trainable: &TrainableLayers, dims: &PassDims, labels: f64) -> f64 {
    let n_layers = trainable.config.n_layers;
    let graphs =
        (trainable.first_layer()..n_layers).rev().map(|layer| trainable.layer(layer, dims));
    let graphs = graphs.collect::<Vec<_>>();
    let mut pool = BufferPool::default();
    // The second step reuses the buffers of the first.
    for _step in 0..2 {
        pool.run_call(&[kv_panels(dims)]);
        if trainable.fused_loss() {
            let max_rows = (MAX_LOGITS / dims.vocab).clamp(1.0, MAX_LABEL_ROWS).floor();
            let rows = (labels / (labels / max_rows).ceil().max(1.0)).ceil();
            let backward = gemm_backward(trainable, rows, dims.vocab);
            pool.run_call(&[vec![rows * dims.vocab], backward].concat());
        }
        for (graph, layer) in graphs.iter().zip((0..n_layers).rev()) {
            for lens in layer_backward(trainable, dims, graph, layer) {
                pool.run_call(&lens);
            }
        }
    }
    pool.0.iter().sum()
}

/// f32 values of the temporary tensors of a GPU's kernels: the logits of some rows, or in attention's
/// backward pass the sums of every query, and the gradients of the prompts from each sequence.
pub(super) fn gpu_workspace(trainable: &TrainableLayers, dims: &PassDims, labels: f64) -> f64 {
    let logits = if trainable.fused_loss() && !trainable.fused {
        let max_rows = (MAX_LOGITS / dims.vocab).clamp(1.0, MAX_LABEL_ROWS).floor();
        labels.min(max_rows) * dims.vocab
    } else {
        0.0
    };
    if !trainable.fused_attention() {
        return logits;
    }
    let layers = trainable.first_layer()..trainable.config.n_layers;
    let prompts = layers.map(|layer| prompt_gradients(trainable, dims, 1.0, layer));
    logits.max(2.0 * dims.n_tokens * dims.heads + prompts.fold(0.0, f64::max))
}

/// Chunks of a sequence in attention's backward pass.
fn n_chunks(seq: f64) -> f64 {
    (seq / MIN_CHUNK_LEN.max(seq / MAX_CHUNKS)).ceil()
}

/// Keys and values of whole sequences.
fn kv_panels(dims: &PassDims) -> f64 {
    2.0 * dims.batch * (dims.seq / BLOCK_TOKENS).ceil() * BLOCK_TOKENS * dims.kv
}

/// The buffers of each call of a layer's backward pass.
fn layer_backward(
    trainable: &TrainableLayers,
    dims: &PassDims,
    graph: &LayerActivations,
    layer: usize,
) -> Vec<Vec<f64>> {
    let &PassDims { n_tokens: tokens, d, q, kv, f, .. } = dims;
    let PassDims { n_tokens: rows, .. } = trainable.feed_forward_dims(layer, dims);
    let is_trained = |name| trainable.trains_linear(layer, name);
    let is_split =
        !trainable.fused_swiglu() || is_trained(LinearName::Gate) || is_trained(LinearName::Up);
    let gate_and_up = if is_split { f } else { 2.0 * f };
    let matmul = |has_backward: bool, d_out, rows| {
        (has_backward && !trainable.full).then(|| gemm_backward(trainable, rows, d_out))
    };
    let chunks = n_chunks(dims.seq);
    let query_gradients =
        if chunks > 1.0 && graph.keeps_scores { chunks * tokens * q } else { 0.0 };
    let attention = graph
        .backward_matmuls
        .output
        .then(|| vec![query_gradients + prompt_gradients(trainable, dims, chunks, layer)]);
    let calls = [
        matmul(graph.backward_matmuls.down, d, rows),
        matmul(graph.backward_matmuls.gate_and_up, gate_and_up, rows),
        matmul(graph.backward_matmuls.output, d, tokens),
        attention,
        matmul(graph.backward_matmuls.qkv, q + 2.0 * kv, tokens),
    ];
    calls.into_iter().flatten().collect()
}

/// The gradients of the prompts from each chunk of each sequence.
fn prompt_gradients(
    trainable: &TrainableLayers,
    dims: &PassDims,
    chunks: f64,
    layer: usize,
) -> f64 {
    let has_prompts = trainable.prompt_layers.contains(&layer);
    let per_chunk =
        if has_prompts { 2.0 * trainable.prompt_len * dims.kv + dims.heads } else { 0.0 };
    dims.batch * chunks * per_chunk
}

/// The gradient in bf16, if matmuls use it: two values per f32.
fn gemm_backward(trainable: &TrainableLayers, rows: f64, d_out: f64) -> Vec<f64> {
    let rounded = trainable
        .multiplies_in_bf16()
        .then(|| rows.min(GEMM_BACKWARD_ROWS) * round_up_to_panel(d_out) / 2.0);
    rounded.into_iter().collect()
}

fn round_up_to_panel(rows: f64) -> f64 {
    (rows / PANEL_ROWS).ceil() * PANEL_ROWS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_of_gpus_hold_some_logits_or_sums_of_queries_and_gradients_of_prompts() {
        use crate::{DeviceTraits, Workload, WorkloadKind};
        let workload = Workload {
            config: llama::LlamaConfig { vocab_size: 1000, ..llama::LlamaConfig::default() },
            precision: llama::Precision::F32,
            method: train::FineTuningMethod::default(),
            kind: WorkloadKind::Train { labels: 1, activation_checkpointing: false },
            batch_size: 2,
            seq_len: 16,
            device: DeviceTraits::gpu(None),
        };
        let trainable = TrainableLayers::new(&workload);
        let dims = PassDims::new(&workload.config, 2, 16);
        let prompts = 2.0 * (2.0 * trainable.prompt_len * dims.kv + dims.heads);
        let attention = 2.0 * 32.0 * dims.heads + prompts;
        assert_eq!(gpu_workspace(&trainable, &dims, 2.0), attention.max(2.0 * 1000.0));
        let many = 1e9;
        assert_eq!(gpu_workspace(&trainable, &dims, many), attention.max(512.0 * 1000.0));
    }

    #[test]
    fn a_buffer_is_reused_by_every_call_it_fits() {
        let mut pool = BufferPool::default();
        pool.run_call(&[10.0]);
        pool.run_call(&[8.0, 2.0]);
        pool.run_call(&[1.0, 9.0]);
        assert_eq!(pool.0, [2.0, 10.0]);
        // None is long enough: the longest is replaced.
        pool.run_call(&[20.0]);
        assert_eq!(pool.0, [2.0, 20.0]);
    }
}
