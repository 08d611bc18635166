//! Attention with one new token per sequence: few rows and many keys. Chunks of the keys are tasks,
//! so that all threads read them. Each chunk has a partial result, and the partial results are
//! merged in order.

use std::ops::Range;

use crate::cpu::simd::Simd;
use crate::cpu::threads::{SharedSlice, parallel_for_if_worth};
use crate::sizes::PANEL;

use super::buffers::with_buffers;
use super::group_shape::GroupShape;
use super::inputs::{AttentionDims, AttentionInputs, PromptHead};
use super::key_panels::pad_rows;
use super::kv_span::{KeyValueView, KvSpan};
use super::mask::AttentionMask;
use super::small_batch;
use super::softmax::{MASKED_SCORE, row_max, softmax_weights};

/// Positions of a chunk of keys.
const KEY_CHUNK: usize = 512;
/// Elements at the start of each row of a partial result: largest score and sum of weights, in a
/// cache line.
const PARTIAL_HEADER: usize = 16;

/// Attention of sequences with at most one new token each; `stores` has its key and value already.
pub fn decode<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    spans: &[KvSpan],
    stores: [&[f32]; 2],
    multiply_adds: usize,
    out: &mut [f32],
    mut lse: Option<&mut [f32]>,
) {
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    let shape = GroupShape::new::<S>(inputs.heads);
    let GroupShape { width, group, .. } = shape;
    let visible = |index: usize| {
        let sequence = &inputs.sequences[index];
        if sequence.len == 0 {
            0..0
        } else {
            AttentionMask::causal(sequence, 0, inputs.window).visible_positions(0)
        }
    };
    let active_prompt = |index: usize, kv_head: usize| {
        let prompt = inputs.prompt?;
        prompt.active_head(inputs.heads, prompt.batch(index), kv_head)
    };
    let max_chunks = (0..spans.len()).map(|index| chunk_count(&visible(index))).max().unwrap_or(0);
    let row_len = PARTIAL_HEADER + width;
    let partial = group * row_len;
    // The prompt's partial result, then one for each chunk.
    let partials = (1 + max_chunks) * partial;
    let longest = KEY_CHUNK.max(inputs.prompt.map_or(0, |prompt| prompt.len));
    let score_stride = longest.next_multiple_of(PANEL) + PANEL;
    let value_buffer_len = if width == head_dim { 0 } else { longest * width };
    with_buffers([spans.len() * kv_heads * partials], |[buffer]| {
        let shared = SharedSlice::new(buffer);
        parallel_for_if_worth(multiply_adds, spans.len() * kv_heads * max_chunks, |task| {
            let (head, chunk) = (task / max_chunks, task % max_chunks);
            let (index, kv_head) = (head / kv_heads, head % kv_heads);
            let positions = chunk_positions(&visible(index), chunk);
            if positions.is_empty() {
                return;
            }
            let lens = [group * head_dim, group * score_stride, value_buffer_len];
            with_buffers(lens, |[query, scores, values]| {
                let row = inputs.sequences[index].first_row;
                let partial_at = |number: usize| {
                    let start = head * partials + number * partial;
                    // SAFETY: each task accesses the partial result of its chunk, and the task of
                    // the first chunk also the prompt's.
                    unsafe { shared.slice_mut(start, partial) }
                };
                let key_values = spans[index].key_values(stores, kv_head, head_dim);
                inputs.load_queries(simd, row, kv_head, query);
                let mut heads = DecodeGroup { shape, query, scores, score_stride, values };
                heads.attend(simd, key_values, positions, partial_at(1 + chunk));
                if chunk == 0
                    && let Some(prompt) = active_prompt(index, kv_head)
                {
                    heads.attend_prompt(simd, prompt, partial_at(0));
                }
            });
        });
        for (head, partials) in buffer.chunks_exact_mut(partials).enumerate() {
            let (index, kv_head) = (head / kv_heads, head % kv_heads);
            let count = chunk_count(&visible(index));
            if count == 0 {
                continue;
            }
            let (prompt_partial, partials) = partials.split_at_mut(partial);
            let first = inputs.sequences[index].first_row * heads + kv_head * group;
            let prompt = active_prompt(index, kv_head);
            for i in 0..group {
                let at = first + i;
                let out = &mut out[at * head_dim..][..head_dim];
                let rows = &mut partials[i * row_len..];
                let rows = rows.chunks_mut(partial).take(count);
                let (max, total) = simd.vectorize(
                    #[inline(always)]
                    || merge_partials(rows.map(|row| row.split_at_mut(PARTIAL_HEADER)), out),
                );
                if let Some(lse) = &mut lse {
                    lse[at] = max + total.ln();
                }
                // A zero gate changes no bit, not even the sign of a zero.
                if let Some(PromptHead { gate, .. }) = prompt
                    && gate[i] != 0.0
                {
                    let (header, sums) = prompt_partial[i * row_len..].split_at(PARTIAL_HEADER);
                    let factor = gate[i] / header[1];
                    for (out, sum) in out.iter_mut().zip(sums) {
                        *out += factor * sum;
                    }
                }
            }
        }
    });
}

/// Number of chunks that have visible positions.
fn chunk_count(visible: &Range<usize>) -> usize {
    if visible.is_empty() {
        0
    } else {
        (visible.end - 1) / KEY_CHUNK - visible.start / KEY_CHUNK + 1
    }
}

/// The visible positions of a chunk.
fn chunk_positions(visible: &Range<usize>, chunk: usize) -> Range<usize> {
    let start = (visible.start / KEY_CHUNK + chunk) * KEY_CHUNK;
    start.max(visible.start)..visible.end.min(start + KEY_CHUNK)
}

/// Writes the weighted mean of all chunks' values to `out`; returns the largest score and the sum
/// of weights.
#[inline(always)]
fn merge_partials<'a>(
    rows: impl Iterator<Item = (&'a mut [f32], &'a mut [f32])>,
    out: &mut [f32],
) -> (f32, f32) {
    let (mut max, mut total) = (MASKED_SCORE, 0.0);
    for (number, (header, sums)) in rows.enumerate() {
        let new_max = header[0].max(max);
        let [before, now] = [max, header[0]].map(|max| (max - new_max).exp());
        (max, total) = (new_max, before * total + now * header[1]);
        if number == 0 {
            out.copy_from_slice(&sums[..out.len()]);
        } else {
            for (out, sum) in out.iter_mut().zip(&*sums) {
                *out = before * *out + now * sum;
            }
        }
    }
    let factor = total.recip();
    for out in out {
        *out *= factor;
    }
    (max, total)
}

/// The query heads of one token that share keys, and buffers for their attention.
struct DecodeGroup<'a> {
    shape: GroupShape,
    /// Rotated and scaled, `[group, head_dim]`.
    query: &'a [f32],
    /// `[group, score_stride]`
    scores: &'a mut [f32],
    score_stride: usize,
    /// Buffer for values padded to whole vectors, if heads are not whole vectors.
    values: &'a mut [f32],
}

impl DecodeGroup<'_> {
    /// Attention to a range of positions.
    fn attend<S: Simd>(
        &mut self,
        simd: S,
        key_values: KeyValueView,
        positions: Range<usize>,
        partial: &mut [f32],
    ) {
        let head_dim = self.shape.head_dim;
        let start = positions.start / PANEL * PANEL;
        let end = positions.end.next_multiple_of(PANEL);
        let panels = &key_values.keys[start * head_dim..end * head_dim];
        let values = &key_values.values[positions.start * head_dim..positions.end * head_dim];
        simd.vectorize(
            #[inline(always)]
            || {
                let Self { query, scores, score_stride, .. } = self;
                small_batch::scores(simd, query, head_dim, panels, scores, *score_stride);
                let visible = positions.start - start..positions.end - start;
                self.softmax_and_sum(simd, visible, values, partial);
            },
        );
    }

    /// Attention to the prompt.
    fn attend_prompt<S: Simd>(&mut self, simd: S, prompt: PromptHead, partial: &mut [f32]) {
        let head_dim = self.shape.head_dim;
        simd.vectorize(
            #[inline(always)]
            || {
                let Self { query, scores, score_stride, .. } = self;
                small_batch::unpacked_scores(
                    simd,
                    query,
                    head_dim,
                    prompt.key,
                    scores,
                    *score_stride,
                );
                self.softmax_and_sum(simd, 0..prompt.len, prompt.value, partial);
            },
        );
    }

    /// Softmax of the scores in `visible`, and the weighted sum of the `values` at these positions.
    #[inline(always)]
    fn softmax_and_sum<S: Simd>(
        &mut self,
        simd: S,
        visible: Range<usize>,
        values: &[f32],
        partial: &mut [f32],
    ) {
        let GroupShape { head_dim, width, group } = self.shape;
        let score_stride = self.score_stride;
        let row_len = PARTIAL_HEADER + width;
        for i in 0..group {
            let row = &mut self.scores[i * score_stride..][..score_stride];
            let max = row_max(simd, row, visible.clone(), MASKED_SCORE);
            let total = softmax_weights(simd, row, visible.clone(), visible.clone(), max);
            let to = &mut partial[i * row_len..];
            (to[0], to[1]) = (max, total);
        }
        let values = if width == head_dim {
            values
        } else {
            pad_rows(values, head_dim, width, self.values);
            &*self.values
        };
        small_batch::weighted_sum(
            simd,
            [group, visible.len(), width],
            (&self.scores[visible.start..], score_stride),
            values,
            (&mut partial[PARTIAL_HEADER..], row_len),
        );
    }
}
