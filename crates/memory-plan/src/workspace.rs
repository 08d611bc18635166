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
use crate::trainable_layers::Learning;

/// Rows of a panel.
const PANEL: f64 = 16.0;
/// Rows of a gradient that a product works on at a time.
const ROWS: f64 = 1024.0;
/// Logits that are there at a time, and the most rows of them.
const LOGITS: f64 = (6 << 20) as f64;
const LABELS: f64 = 512.0;
/// Slots of a part of a text at least, and parts of it at most, on an attention's way back.
const CHUNK: f64 = 512.0;
const CHUNKS: f64 = 4.0;

/// The free buffers of a thread, by the rules of `kernels`.
#[derive(Debug, Default)]
struct Free(Vec<f64>);

impl Free {
    /// A call that takes buffers one after the other, and gives all of them back.
    fn call(&mut self, lens: &[f64]) {
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
pub(super) fn training(learning: &Learning, widths: &PassDims, labels: f64) -> f64 {
    let n_layers = learning.config.n_layers;
    let graphs =
        (learning.first_layer()..n_layers).rev().map(|layer| learning.layer(layer, widths));
    let graphs = graphs.collect::<Vec<_>>();
    let mut free = Free::default();
    // The second step finds what the first one left.
    for _step in 0..2 {
        free.call(&[stores(widths)]);
        if learning.fused_loss() {
            let most = (LOGITS / widths.vocab).clamp(1.0, LABELS).floor();
            let rows = (labels / (labels / most).ceil().max(1.0)).ceil();
            let back = product_back(learning, rows, widths.vocab);
            free.call(&[vec![rows * widths.vocab], back].concat());
        }
        for (graph, layer) in graphs.iter().zip((0..n_layers).rev()) {
            for lens in layer_back(learning, widths, graph, layer) {
                free.call(&lens);
            }
        }
    }
    free.0.iter().sum()
}

/// Parts of a text on an attention's way back.
fn parts(seq: f64) -> f64 {
    (seq / CHUNK.max(seq / CHUNKS)).ceil()
}

/// Keys and values of whole texts.
fn stores(widths: &PassDims) -> f64 {
    2.0 * widths.batch * panels(widths.seq) * widths.kv
}

/// What a layer's way back calls for.
fn layer_back(
    learning: &Learning,
    widths: &PassDims,
    graph: &LayerActivations,
    layer: usize,
) -> Vec<Vec<f64>> {
    let &PassDims { tokens, d, q, kv, f, .. } = widths;
    let changed = |name| learning.linear(layer, name);
    let parted = !learning.fused_swiglu() || changed(LinearName::Gate) || changed(LinearName::Up);
    let gate_and_up = if parted { f } else { 2.0 * f };
    let product = |is_there: bool, d_out| {
        (is_there && !learning.full).then(|| product_back(learning, tokens, d_out))
    };
    let parts = parts(widths.seq);
    let shares = if parts > 1.0 && graph.scores { parts * tokens * q } else { 0.0 };
    let attention =
        graph.back.output.then(|| vec![shares + records(learning, widths, parts, layer)]);
    let calls = [
        product(graph.back.down, d),
        product(graph.back.gate_and_up, gate_and_up),
        product(graph.back.output, d),
        attention,
        product(graph.back.qkv, q + 2.0 * kv),
    ];
    calls.into_iter().flatten().collect()
}

/// The prompts' gradients from each part of each text.
fn records(learning: &Learning, widths: &PassDims, parts: f64, layer: usize) -> f64 {
    let prompts = learning.prompt_layers.contains(&layer);
    let each = if prompts { 2.0 * learning.adapter_len * widths.kv + widths.heads } else { 0.0 };
    widths.batch * parts * each
}

/// The gradient in bf16, where such numbers are multiplied: two of them are a number.
fn product_back(learning: &Learning, rows: f64, d_out: f64) -> Vec<f64> {
    let rounded = learning.rounds().then(|| rows.min(ROWS) * panels(d_out) / 2.0);
    rounded.into_iter().collect()
}

fn panels(rows: f64) -> f64 {
    (rows / PANEL).ceil() * PANEL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_serves_all_calls_that_it_is_long_enough_for() {
        let mut free = Free::default();
        free.call(&[10.0]);
        free.call(&[8.0, 2.0]);
        free.call(&[1.0, 9.0]);
        assert_eq!(free.0, [2.0, 10.0]);
        // None is long enough: the longest goes.
        free.call(&[20.0]);
        assert_eq!(free.0, [2.0, 20.0]);
    }
}
