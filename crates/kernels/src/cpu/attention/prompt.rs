//! Gradients of the prompt branch, a block of queries at a time.

use crate::cpu::simd::Simd;

use super::{
    PANEL, PromptHead,
    blocks::Shape,
    matrix::{Matrix, MatrixViewMut, multiply, score_tile_positions, scores},
    pack::{pack_key_panels, widen},
    queries::Queries,
    softmax::{MASKED_SCORE, highest, weigh},
};

/// The prompt of one key head.
pub struct PromptBackward<'a> {
    shape: Shape,
    head: PromptHead<'a>,
    /// Prompt tokens that a record has room for.
    room: usize,
    /// `[len, width]`
    keys: &'a mut [f32],
    key_panels: &'a mut [f32],
    value_panels: &'a mut [f32],
    /// Scores, then gated weights.
    weights: &'a mut [f32],
    /// Gradients of weights, then of scores.
    d_scores: &'a mut [f32],
}

impl<'a> PromptBackward<'a> {
    /// Numbers in a record of gradients: of keys and values, `[room, width]` each, then of gates.
    pub fn record(shape: Shape, room: usize) -> usize {
        (2 * room * shape.width + shape.group).next_multiple_of(PANEL)
    }

    /// Lengths of the buffers for so many rows of queries.
    pub fn buffers(shape: Shape, rows: usize, head: Option<PromptHead>) -> [usize; 5] {
        let len = head.map_or(0, |head| head.len);
        let slots = len.next_multiple_of(PANEL);
        let panels = slots * shape.head_dim;
        let scores = rows * (slots + PANEL);
        [len * shape.width, panels, panels, scores, scores]
    }

    /// The branch of a prompt that is not empty.
    pub fn new<S: Simd>(
        simd: S,
        shape: Shape,
        head: PromptHead<'a>,
        room: usize,
        buffers: [&'a mut [f32]; 5],
    ) -> Self {
        let [keys, key_panels, value_panels, weights, d_scores] = buffers;
        let Shape { head_dim, width, .. } = shape;
        widen(head.key, head_dim, width, keys);
        for (from, to) in [(head.key, &mut *key_panels), (head.value, &mut *value_panels)] {
            // Lanes of no token take part in sums, with a weight of 0.
            let last = to.len() - PANEL * head_dim;
            to[last..].fill(0.0);
            pack_key_panels(simd, from, head_dim, head_dim, 0, to);
        }
        Self { shape, head, room, keys, key_panels, value_panels, weights, d_scores }
    }

    /// Takes the branch's part out of the queries' `delta`. If there is a `record`, adds to the
    /// gradients in it, unless it is empty, and to those of the queries, if `to_queries`.
    pub fn back<S: Simd>(
        &mut self,
        simd: S,
        queries: &mut Queries,
        record: Option<&mut [f32]>,
        to_queries: bool,
    ) {
        let Shape { head_dim, width, group } = self.shape;
        let PromptHead { gate, len, .. } = self.head;
        let (rows, slots) = (queries.rows, len.next_multiple_of(PANEL));
        let row = slots + PANEL;
        for slot in (0..slots).step_by(score_tile_positions::<S>()) {
            let panels = slot * head_dim..slots.min(slot + score_tile_positions::<S>()) * head_dim;
            for (left, right, out) in [
                (&*queries.query, &self.key_panels[panels.clone()], &mut *self.weights),
                (&*queries.d_out, &self.value_panels[panels.clone()], &mut *self.d_scores),
            ] {
                let out = MatrixViewMut { numbers: &mut out[slot..], row, add: false };
                scores(simd, rows, head_dim, Matrix::new(left, width), right, out);
            }
        }
        let own = record.is_some();
        let record = record.unwrap_or_default();
        let (gradients, d_gate) = record.split_at_mut(record.len().min(2 * self.room * width));
        simd.vectorize(
            #[inline(always)]
            || {
                let scores =
                    self.weights.chunks_exact_mut(row).zip(self.d_scores.chunks_exact_mut(row));
                for (i, (weights, d_scores)) in scores.take(rows).enumerate() {
                    let (weights, d_scores) = (&mut weights[..slots], &mut d_scores[..slots]);
                    let gate = gate[i % group];
                    let part = softmax_back(simd, weights, d_scores, len, gate);
                    queries.delta[i] -= gate * part;
                    if let Some(d_gate) = d_gate.get_mut(i % group) {
                        *d_gate += part;
                    }
                }
            },
        );
        if !own {
            return;
        }
        if !gradients.is_empty() {
            let (d_key, d_value) = gradients.split_at_mut(self.room * width);
            for (left, right, out) in [
                (&*self.weights, &*queries.d_out, d_value),
                (&*self.d_scores, &*queries.query, d_key),
            ] {
                multiply(
                    simd,
                    [len, rows, width],
                    Matrix::transposed(left, row),
                    Matrix::new(right, width),
                    MatrixViewMut { numbers: out, row: width, add: true },
                );
            }
        }
        if to_queries {
            multiply(
                simd,
                [rows, len, width],
                Matrix::new(self.d_scores, row),
                Matrix::new(self.keys, width),
                MatrixViewMut { numbers: queries.d_query, row: width, add: true },
            );
        }
    }
}

/// Turns scores into gated weights and the weights' gradients into those of the scores; gives
/// `d_out · attention` without the gate.
#[inline(always)]
fn softmax_back<S: Simd>(
    simd: S,
    weights: &mut [f32],
    d_scores: &mut [f32],
    len: usize,
    gate: f32,
) -> f32 {
    let top = highest(simd, weights, 0..len, MASKED_SCORE);
    let slots = weights.len();
    let total = weigh(simd, weights, 0..len, 0..slots, top);
    let rows = weights.chunks_exact(S::LANES).zip(d_scores.chunks_exact(S::LANES));
    let mut part = simd.splat(0.0);
    for (weight, gradient) in rows {
        part = simd.mul_add(simd.read(weight), simd.read(gradient), part);
    }
    let part = simd.sum(part) / total;
    let (factor, part_vector) = (simd.splat(gate / total), simd.splat(part));
    let rows = weights.chunks_exact_mut(S::LANES).zip(d_scores.chunks_exact_mut(S::LANES));
    for (weight, gradient) in rows {
        let gated = simd.mul(simd.read(weight), factor);
        simd.write(weight, gated);
        simd.write(gradient, simd.mul(gated, simd.sub(simd.read(gradient), part_vector)));
    }
    part
}
