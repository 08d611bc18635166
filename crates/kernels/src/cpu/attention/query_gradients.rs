//! A block of queries in the backward pass, and its gradient.

use crate::cpu::elementwise::dot;
use crate::cpu::simd::Simd;

use super::chunking::SCORE_STRIDE;
use super::group_shape::GroupShape;
use super::inputs::AttentionInputs;
use super::rotary::{rotate, rotate_backward};

/// The outputs of the forward pass, and the gradient of the attention output.
#[derive(Debug, Clone, Copy)]
pub struct BackwardInputs<'a> {
    /// `[rows, heads head_dim]`
    pub out: &'a [f32],
    /// `[rows, heads]`
    pub lse: &'a [f32],
    /// `[rows, heads head_dim]`
    pub d_out: &'a [f32],
}

/// A block of queries.
pub struct QueryGradients<'a> {
    pub shape: GroupShape,
    /// Rows in use: queries times query heads.
    pub rows: usize,
    /// Rotated and scaled queries, `[queries, group, width]`.
    pub query: &'a mut [f32],
    /// Gradient of the outputs, `[queries, group, width]`.
    pub d_out: &'a mut [f32],
    /// Gradient of `query`.
    pub d_query: &'a mut [f32],
    /// `d_out · out` of each row. The prompt's part is subtracted later.
    pub delta: &'a mut [f32],
    /// Log-sum-exp of each row.
    pub lse: &'a mut [f32],
    /// Scores, then weights, `[queries, group, SCORE_STRIDE]`.
    pub weights: &'a mut [f32],
    /// Gradients of the weights, then of the scores, `[queries, group, SCORE_STRIDE]`.
    pub d_scores: &'a mut [f32],
}

impl<'a> QueryGradients<'a> {
    /// Lengths of the buffers for `rows` rows.
    pub fn buffers(shape: GroupShape, rows: usize) -> [usize; 7] {
        let [vectors, scores] = [shape.width, SCORE_STRIDE].map(|row_len| rows * row_len);
        [vectors, vectors, vectors, rows, rows, scores, scores]
    }

    /// A block in the given buffers.
    pub fn new(shape: GroupShape, buffers: [&'a mut [f32]; 7]) -> Self {
        let [query, d_out, d_query, delta, lse, weights, d_scores] = buffers;
        Self { shape, rows: 0, query, d_out, d_query, delta, lse, weights, d_scores }
    }

    /// Loads `count` queries, from row `first` on, of the query heads that share `kv_head`.
    pub fn load<S: Simd>(
        &mut self,
        simd: S,
        inputs: &AttentionInputs,
        saved: BackwardInputs,
        [first, count, kv_head]: [usize; 3],
    ) {
        let GroupShape { head_dim, width, group } = self.shape;
        self.rows = count * group;
        simd.vectorize(
            #[inline(always)]
            || {
                for i in 0..self.rows {
                    let (row, head) = (first + i / group, kv_head * group + i % group);
                    let at = row * inputs.heads.heads + head;
                    let [out, d_out] =
                        [saved.out, saved.d_out].map(|rows| &rows[at * head_dim..][..head_dim]);
                    let [query, to] = [&mut *self.query, &mut *self.d_out]
                        .map(|rows| &mut rows[i * width..][..width]);
                    rotate(
                        simd,
                        inputs.query(row, head),
                        inputs.cos_sin(row),
                        inputs.heads.scale(),
                        query,
                    );
                    query[head_dim..].fill(0.0);
                    to[..head_dim].copy_from_slice(d_out);
                    to[head_dim..].fill(0.0);
                    self.lse[i] = saved.lse[at];
                    self.delta[i] = dot(simd, out, d_out, None);
                }
            },
        );
        self.d_query[..self.rows * width].fill(0.0);
    }

    /// Gradient of the rotated and scaled queries, `[queries, group, width]`.
    pub fn gradient(&self) -> &[f32] {
        &self.d_query[..self.rows * self.shape.width]
    }
}

/// Writes the gradients of queries as they are in `qkv`, from the gradients of the rotated and
/// scaled queries of the rows from `first` on, `[queries, group, width]`. `d_qkv_slice` returns a
/// slice of `d_qkv`.
pub fn write_query_gradients<'b, S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    shape: GroupShape,
    gradient: &[f32],
    [first, kv_head]: [usize; 2],
    d_qkv_slice: impl Fn(usize, usize) -> Option<&'b mut [f32]>,
) {
    let GroupShape { head_dim, width, group } = shape;
    simd.vectorize(
        #[inline(always)]
        || {
            for (i, from) in gradient.chunks_exact(width).enumerate() {
                let (row, head) = (first + i / group, kv_head * group + i % group);
                if let Some(to) = d_qkv_slice(inputs.query_at(row, head), head_dim) {
                    let (from, scale) = (&from[..head_dim], inputs.heads.scale());
                    rotate_backward(simd, from, inputs.cos_sin(row), scale, to);
                }
            }
        },
    );
}
