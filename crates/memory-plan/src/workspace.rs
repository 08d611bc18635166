//! Workspaces of the fused operations. A thread keeps them from call to call: they stay until the end.
//!
//! ```text
//! a step's calls, in their order ─► the buffers that the calling thread holds in the end
//! ```
//!
//! What the other threads keep for one task at a time, some MiB each, is not counted; nor is that
//! texts which begin alike share rows.
//!
//! | call | held, one within the other |
//! |---|---|
//! | attention | keys and values, `2 kv` for each token |
//! | attention, back | gradients of the queries from each part of a long text; the prompts' from each head |
//! | a frozen product, back, multiplied in bf16 | the gradient in bf16, of at most 1024 rows |
//! | head and loss | logits of some rows, and what the head's way back holds |

use llama::LinearName;

use crate::layer_activations::{LayerActivations, PassDims};
use crate::trainable_layers::TrainableLayers;

/// Rows of a panel.
const PANEL_ROWS: f64 = 16.0;
/// Rows of a gradient that a product works on at a time.
const GEMM_BACKWARD_ROWS: f64 = 1024.0;
/// Logits that are there at a time, and the most rows of them.
const MAX_LOGITS: f64 = (6 << 20) as f64;
const MAX_LABEL_ROWS: f64 = 512.0;
/// Slots of a part of a text at least, and parts of it at most, on an attention's way back.
const MIN_CHUNK_LEN: f64 = 512.0;
const MAX_CHUNKS: f64 = 4.0;

/// The free buffers of a thread, by the rules of `kernels`.
#[derive(Debug, Default)]
struct BufferPool(Vec<f64>);

impl BufferPool {
    /// A call that takes buffers one after the other, and gives all of them back.
    fn run_call(&mut self, lens: &[f64]) {
        let taken = lens.iter().map(|&len| self.take(len)).collect::<Vec<_>>();
        self.0.extend(taken);
    }

    /// The smallest that is long enough, or a new one in place of the longest.
    fn take(&mut self, len: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        if let Some(index) = self.0.iter().position(|&own| own >= len) {
            return self.0.remove(index);
        }
        self.0.pop();
        len
    }
}

/// Numbers of the buffers that stay allocated while steps go on.
pub(super) fn training_workspace(
    learning: &TrainableLayers,
    widths: &PassDims,
    labels: f64,
) -> f64 {
    let n_layers = learning.config.n_layers;
    let graphs =
        (learning.first_layer()..n_layers).rev().map(|layer| learning.layer(layer, widths));
    let graphs = graphs.collect::<Vec<_>>();
    let mut free = BufferPool::default();
    // The second step finds what the first one left.
    for _step in 0..2 {
        free.run_call(&[kv_panels(widths)]);
        if learning.fused_loss() {
            let most = (MAX_LOGITS / widths.vocab).clamp(1.0, MAX_LABEL_ROWS).floor();
            let rows = (labels / (labels / most).ceil().max(1.0)).ceil();
            let back = gemm_backward(learning, rows, widths.vocab);
            free.run_call(&[vec![rows * widths.vocab], back].concat());
        }
        for (graph, layer) in graphs.iter().zip((0..n_layers).rev()) {
            for lens in layer_backward(learning, widths, graph, layer) {
                free.run_call(&lens);
            }
        }
    }
    free.0.iter().sum()
}

/// Parts of a text on an attention's way back.
fn n_chunks(seq: f64) -> f64 {
    (seq / MIN_CHUNK_LEN.max(seq / MAX_CHUNKS)).ceil()
}

/// Keys and values of whole texts.
fn kv_panels(widths: &PassDims) -> f64 {
    2.0 * widths.batch * round_up_to_panel(widths.seq) * widths.kv
}

/// What a layer's way back calls for.
fn layer_backward(
    learning: &TrainableLayers,
    widths: &PassDims,
    graph: &LayerActivations,
    layer: usize,
) -> Vec<Vec<f64>> {
    let &PassDims { n_tokens: tokens, d, q, kv, f, .. } = widths;
    let changed = |name| learning.trains_linear(layer, name);
    let parted = !learning.fused_swiglu() || changed(LinearName::Gate) || changed(LinearName::Up);
    let gate_and_up = if parted { f } else { 2.0 * f };
    let product = |is_there: bool, d_out| {
        (is_there && !learning.full).then(|| gemm_backward(learning, tokens, d_out))
    };
    let parts = n_chunks(widths.seq);
    let shares = if parts > 1.0 && graph.keeps_scores { parts * tokens * q } else { 0.0 };
    let attention = graph
        .backward_matmuls
        .output
        .then(|| vec![shares + prompt_gradients(learning, widths, parts, layer)]);
    let calls = [
        product(graph.backward_matmuls.down, d),
        product(graph.backward_matmuls.gate_and_up, gate_and_up),
        product(graph.backward_matmuls.output, d),
        attention,
        product(graph.backward_matmuls.qkv, q + 2.0 * kv),
    ];
    calls.into_iter().flatten().collect()
}

/// The prompts' gradients from each part of each text.
fn prompt_gradients(
    learning: &TrainableLayers,
    widths: &PassDims,
    parts: f64,
    layer: usize,
) -> f64 {
    let prompts = learning.prompt_layers.contains(&layer);
    let each = if prompts { 2.0 * learning.prompt_len * widths.kv + widths.heads } else { 0.0 };
    widths.batch * parts * each
}

/// The gradient in bf16, where such numbers are multiplied: two of them are a number.
fn gemm_backward(learning: &TrainableLayers, rows: f64, d_out: f64) -> Vec<f64> {
    let rounded = learning
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
    fn a_buffer_is_reused_by_every_call_it_fits() {
        let mut free = BufferPool::default();
        free.run_call(&[10.0]);
        free.run_call(&[8.0, 2.0]);
        free.run_call(&[1.0, 9.0]);
        assert_eq!(free.0, [2.0, 10.0]);
        // None is long enough: the longest goes.
        free.run_call(&[20.0]);
        assert_eq!(free.0, [2.0, 20.0]);
    }
}
