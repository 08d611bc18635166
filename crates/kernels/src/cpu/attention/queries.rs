//! A block of queries, and its gradient.

use crate::cpu::simd::Simd;

use super::{
    AttentionInputs,
    backward::Given,
    blocks::Shape,
    chunk::SCORE_STRIDE,
    pack::{rotate, rotate_backward},
};

/// A block of queries.
pub struct Queries<'a> {
    /// Shape of the heads.
    pub shape: Shape,
    /// Rows in use: query heads times queries.
    pub rows: usize,
    /// Rotated and scaled queries, `[queries, group, width]`.
    pub query: &'a mut [f32],
    /// Gradient of their outputs, `[queries, group, width]`.
    pub d_out: &'a mut [f32],
    /// Gradient of what is in `query`.
    pub d_query: &'a mut [f32],
    /// `d_out · out_causal` of each row, once the prompt's part is taken away.
    pub delta: &'a mut [f32],
    /// Log-sum-exps of each row.
    pub lse: &'a mut [f32],
    /// Scores, then weights, `[queries, group, SCORE_STRIDE]`.
    pub weights: &'a mut [f32],
    /// Gradients of weights, then of scores, `[queries, group, SCORE_STRIDE]`.
    pub d_scores: &'a mut [f32],
}

impl<'a> Queries<'a> {
    /// Lengths of the buffers for so many rows.
    pub fn buffers(shape: Shape, rows: usize) -> [usize; 7] {
        let [numbers, scores] = [shape.width, SCORE_STRIDE].map(|row| rows * row);
        [numbers, numbers, numbers, rows, rows, scores, scores]
    }

    /// Queries in these buffers.
    pub fn new(shape: Shape, buffers: [&'a mut [f32]; 7]) -> Self {
        let [query, d_out, d_query, delta, lse, weights, d_scores] = buffers;
        Self { shape, rows: 0, query, d_out, d_query, delta, lse, weights, d_scores }
    }

    /// Fetches `count` queries, from row `first` on, of the heads that share `kv_head`.
    pub fn fill<S: Simd>(
        &mut self,
        simd: S,
        inputs: &AttentionInputs,
        given: Given,
        [first, count, kv_head]: [usize; 3],
    ) {
        let Shape { head_dim, width, group } = self.shape;
        self.rows = count * group;
        simd.vectorize(
            #[inline(always)]
            || {
                for i in 0..self.rows {
                    let (row, head) = (first + i / group, kv_head * group + i % group);
                    let at = row * inputs.heads.heads + head;
                    let [out, d_out] =
                        [given.out, given.d_out].map(|rows| &rows[at * head_dim..][..head_dim]);
                    let [query, to] = [&mut *self.query, &mut *self.d_out]
                        .map(|rows| &mut rows[i * width..][..width]);
                    rotate(
                        simd,
                        inputs.query(row, head),
                        inputs.turn(row),
                        inputs.heads.scale(),
                        query,
                    );
                    query[head_dim..].fill(0.0);
                    to[..head_dim].copy_from_slice(d_out);
                    to[head_dim..].fill(0.0);
                    self.lse[i] = given.lse[at];
                    self.delta[i] = dot(simd, out, d_out);
                }
            },
        );
        self.d_query[..self.rows * width].fill(0.0);
    }

    /// Gradient of the rotated and scaled queries, `[queries, group, width]`.
    pub fn gradient(&self) -> &[f32] {
        &self.d_query[..self.rows * self.shape.width]
    }

    /// Writes the gradient of the queries as they were before: `part` gives numbers of `d_qkv`.
    pub fn write<'b, S: Simd>(
        &self,
        simd: S,
        inputs: &AttentionInputs,
        [first, kv_head]: [usize; 2],
        part: impl Fn(usize, usize) -> Option<&'b mut [f32]>,
    ) {
        let Shape { head_dim, width, group } = self.shape;
        simd.vectorize(
            #[inline(always)]
            || {
                for (i, from) in self.gradient().chunks_exact(width).enumerate() {
                    let (row, head) = (first + i / group, kv_head * group + i % group);
                    let start = row * inputs.heads.row() + head * head_dim;
                    if let Some(to) = part(start, head_dim) {
                        let (from, scale) = (&from[..head_dim], inputs.heads.scale());
                        rotate_backward(simd, from, inputs.turn(row), scale, to);
                    }
                }
            },
        );
    }
}

/// Sum of products, lane by lane.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(S::LANES), b.chunks_exact(S::LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    let mut sum = simd.splat(0.0);
    for (a, b) in a.zip(b) {
        sum = simd.mul_add(simd.read(a), simd.read(b), sum);
    }
    simd.sum(sum) + rest
}
