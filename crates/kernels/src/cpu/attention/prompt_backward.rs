//! Gradients of the gated attention to a prompt, from a block of queries at a time.

use crate::cpu::simd::Simd;
use crate::sizes::PANEL;

use super::group_shape::GroupShape;
use super::key_panels::{pack_key_panels, pad_rows};
use super::matmul::{MatrixView, MatrixViewMut, OutMode, matmul, score_tile_positions, scores};
use super::prompts::PromptHead;
use super::query_gradients::QueryGradients;
use super::softmax::{MASKED_SCORE, row_max, softmax_weights};

/// The prompt of one KV head.
pub struct PromptBackward<'a> {
    shape: GroupShape,
    head: PromptHead<'a>,
    /// Prompt tokens that a partial gradient has room for.
    max_len: usize,
    /// `[len, width]`
    keys: &'a mut [f32],
    key_panels: &'a mut [f32],
    value_panels: &'a mut [f32],
    /// Scores, then gated weights.
    weights: &'a mut [f32],
    /// Gradients of the weights, then of the scores.
    d_scores: &'a mut [f32],
}

impl<'a> PromptBackward<'a> {
    /// Elements of a partial gradient: of keys and values, `[max_len, width]` each, then of gates.
    pub fn partial_len(shape: GroupShape, max_len: usize) -> usize {
        (2 * max_len * shape.width + shape.group).next_multiple_of(PANEL)
    }

    /// Lengths of the buffers for `rows` rows of queries.
    pub fn buffers(shape: GroupShape, rows: usize, head: Option<PromptHead>) -> [usize; 5] {
        let len = head.map_or(0, |head| head.len);
        let positions = len.next_multiple_of(PANEL);
        let panels = positions * shape.head_dim;
        let scores = rows * (positions + PANEL);
        [len * shape.width, panels, panels, scores, scores]
    }

    /// Loads a prompt, which must not be empty, into the given buffers.
    pub fn new<S: Simd>(
        simd: S,
        shape: GroupShape,
        head: PromptHead<'a>,
        max_len: usize,
        buffers: [&'a mut [f32]; 5],
    ) -> Self {
        let [keys, key_panels, value_panels, weights, d_scores] = buffers;
        let GroupShape { head_dim, width, .. } = shape;
        pad_rows(head.key, head_dim, width, keys);
        for (from, to) in [(head.key, &mut *key_panels), (head.value, &mut *value_panels)] {
            // Padding in the last panel is part of sums, with a weight of 0: it must be finite.
            let last = to.len() - PANEL * head_dim;
            to[last..].fill(0.0);
            pack_key_panels(simd, from, head_dim, head_dim, 0, to);
        }
        Self { shape, head, max_len, keys, key_panels, value_panels, weights, d_scores }
    }

    /// Subtracts the prompt's part from the queries' `delta`. With a `partial` gradient, also adds
    /// to the gradients in it, unless it is empty, and to those of the queries if
    /// `with_query_gradients`.
    pub fn backward<S: Simd>(
        &mut self,
        simd: S,
        queries: &mut QueryGradients,
        partial: Option<&mut [f32]>,
        with_query_gradients: bool,
    ) {
        let GroupShape { head_dim, width, group } = self.shape;
        let PromptHead { gate, len, .. } = self.head;
        let (rows, positions) = (queries.rows, len.next_multiple_of(PANEL));
        let stride = positions + PANEL;
        let step = score_tile_positions::<S>();
        for position in (0..positions).step_by(step) {
            let panels = position * head_dim..positions.min(position + step) * head_dim;
            for (lhs, rhs, out) in [
                (&*queries.query, &self.key_panels[panels.clone()], &mut *self.weights),
                (&*queries.d_out, &self.value_panels[panels.clone()], &mut *self.d_scores),
            ] {
                let elements = &mut out[position..];
                let out = MatrixViewMut { elements, row_stride: stride, mode: OutMode::Overwrite };
                scores(simd, rows, head_dim, MatrixView::new(lhs, width), rhs, out);
            }
        }
        let with_gradients = partial.is_some();
        let partial = partial.unwrap_or_default();
        let (gradients, d_gate) = partial.split_at_mut(partial.len().min(2 * self.max_len * width));
        simd.vectorize(
            #[inline(always)]
            || {
                let weights = self.weights.chunks_exact_mut(stride);
                let scores = weights.zip(self.d_scores.chunks_exact_mut(stride));
                for (i, (weights, d_scores)) in scores.take(rows).enumerate() {
                    let (weights, d_scores) =
                        (&mut weights[..positions], &mut d_scores[..positions]);
                    let gate = gate[i % group];
                    let product = gated_softmax_backward(simd, weights, d_scores, len, gate);
                    queries.delta[i] -= gate * product;
                    if let Some(d_gate) = d_gate.get_mut(i % group) {
                        *d_gate += product;
                    }
                }
            },
        );
        if !with_gradients {
            return;
        }
        if !gradients.is_empty() {
            let (d_key, d_value) = gradients.split_at_mut(self.max_len * width);
            for (lhs, rhs, out) in [
                (&*self.weights, &*queries.d_out, d_value),
                (&*self.d_scores, &*queries.query, d_key),
            ] {
                matmul(
                    simd,
                    [len, rows, width],
                    MatrixView::transposed(lhs, stride),
                    MatrixView::new(rhs, width),
                    MatrixViewMut { elements: out, row_stride: width, mode: OutMode::Add },
                );
            }
        }
        if with_query_gradients {
            matmul(
                simd,
                [rows, len, width],
                MatrixView::new(self.d_scores, stride),
                MatrixView::new(self.keys, width),
                MatrixViewMut { elements: queries.d_query, row_stride: width, mode: OutMode::Add },
            );
        }
    }
}

/// Replaces scores by gated weights, and the gradients of the weights by those of the scores.
/// Returns `d_out · attention` without the gate, which is the gradient of the gate.
#[inline(always)]
fn gated_softmax_backward<S: Simd>(
    simd: S,
    weights: &mut [f32],
    d_scores: &mut [f32],
    len: usize,
    gate: f32,
) -> f32 {
    let max = row_max(simd, weights, 0..len, MASKED_SCORE);
    let positions = weights.len();
    let total = softmax_weights(simd, weights, 0..len, 0..positions, max);
    let rows = weights.chunks_exact(S::LANES).zip(d_scores.chunks_exact(S::LANES));
    let mut product = simd.splat(0.0);
    for (weight, gradient) in rows {
        product = simd.mul_add(simd.read(weight), simd.read(gradient), product);
    }
    let product = simd.reduce_sum(product) / total;
    let (factor, product_vector) = (simd.splat(gate / total), simd.splat(product));
    let rows = weights.chunks_exact_mut(S::LANES).zip(d_scores.chunks_exact_mut(S::LANES));
    for (weight, gradient) in rows {
        let gated = simd.mul(simd.read(weight), factor);
        simd.write(weight, gated);
        simd.write(gradient, simd.mul(gated, simd.sub(simd.read(gradient), product_vector)));
    }
    product
}
