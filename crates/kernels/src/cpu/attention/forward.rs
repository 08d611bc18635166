//! The forward pass: new keys and values are stored, then every block of queries is a task.

use crate::cpu::elementwise::{add_scaled, scale_into};
use crate::cpu::simd::{Simd, SimdLevel, dispatch};
use crate::cpu::threads::{SharedSlice, parallel_for_if_worth};
use crate::sizes::PANEL;

use super::buffers::{with_buffer_groups, with_buffers};
use super::decode::decode;
use super::group_shape::GroupShape;
use super::inputs::{AttentionDims, AttentionInputs, KvCacheView, PromptView, Sequence};
use super::key_panels::{append_kv, pack_key_panels};
use super::kv_span::{KeyValueView, KvSpan};
use super::mask::AttentionMask;
use super::query_block::{OnlineSoftmax, QueryBlock};
use super::shape_checks::expect_len;

/// Multiply-adds that take as long as storing one element in a panel.
const STORE_COST: usize = 8;

/// Causal attention of every sequence, plus the gated attention to the prompt.
///
/// Appends the rotated keys, and the values, of the new tokens to the cache. Writes the log-sum-exp
/// of each token's causal scores, without the prompt's, to `lse`: [`backward`](super::backward())
/// needs it. Rows of no sequence become zero.
///
/// # Shapes
/// - `out`: `[rows, heads head_dim]`
/// - `lse`: `[rows, heads]`
///
/// # Panics
/// If shapes do not match, sequences share rows, or a sequence has a past without a cache or
/// exceeds the cache's capacity.
pub fn forward(
    level: SimdLevel,
    inputs: &AttentionInputs,
    cache: Option<KvCacheView>,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    dispatch!(level, simd => forward_simd(simd, inputs, cache, out, lse));
}

/// [`forward`] for one instruction set.
pub fn forward_simd<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    cache: Option<KvCacheView>,
    out: &mut [f32],
    mut lse: Option<&mut [f32]>,
) {
    inputs.check_shapes();
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    expect_len("the output", out, inputs.rows() * heads * head_dim);
    if let Some(lse) = &lse {
        expect_len("log-sum-exps", lse, inputs.rows() * heads);
    }
    if inputs.has_gaps() {
        out.fill(0.0);
        if let Some(lse) = &mut lse {
            lse.fill(0.0);
        }
    }
    for &Sequence { past, len, .. } in inputs.sequences {
        if let Some(KvCacheView { capacity, .. }) = cache {
            assert!(
                past <= capacity && len <= capacity - past,
                "{past} + {len} tokens exceed the cache's capacity of {capacity}",
            );
        } else {
            assert!(past == 0, "a past of {past} tokens without a cache");
        }
    }
    let capacity = cache.as_ref().map(KvCacheView::padded_capacity);
    let mut end = 0;
    let spans: Vec<KvSpan> = inputs
        .sequences
        .iter()
        .map(|sequence| {
            let positions = capacity.unwrap_or(sequence.len.next_multiple_of(PANEL));
            let start = end;
            end += kv_heads * positions * head_dim;
            KvSpan { start, positions }
        })
        .collect();
    match cache {
        Some(KvCacheView { keys, values, .. }) => {
            expect_len("the cache's keys", keys, end);
            expect_len("the cache's values", values, end);
            store_and_attend(simd, inputs, &spans, [keys, values], out, lse);
        }
        None => with_buffers([end, end], |stores| {
            store_and_attend(simd, inputs, &spans, stores, out, lse);
        }),
    }
}

/// Stores the new keys and values in `keys` and `values`, and computes attention.
fn store_and_attend<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    spans: &[KvSpan],
    [keys, values]: [&mut [f32]; 2],
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    let multiply_adds: usize =
        inputs.sequences.iter().map(|s| 2 * s.len * (s.past + s.len) * heads * head_dim).sum();
    let [shared_keys, shared_values] = [&mut *keys, &mut *values].map(SharedSlice::new);
    let new: usize = inputs.sequences.iter().map(|sequence| sequence.len).sum();
    let store_cost = STORE_COST * new * kv_heads * head_dim;
    parallel_for_if_worth(store_cost, spans.len() * kv_heads, |task| {
        let (index, kv_head) = (task / kv_heads, task % kv_heads);
        let (start, len) = spans[index].of_head(kv_head, head_dim);
        // SAFETY: each task accesses one KV head of one sequence.
        let [keys, values] =
            [&shared_keys, &shared_values].map(|shared| unsafe { shared.slice_mut(start, len) });
        let sequence = &inputs.sequences[index];
        with_buffers([PANEL * head_dim], |[buffer]| {
            append_kv(simd, inputs, sequence, kv_head, buffer, keys, values);
        });
    });
    let stores = [&*keys, &*values];
    if inputs.sequences.iter().all(|sequence| sequence.len <= 1) {
        return decode(simd, inputs, spans, stores, multiply_adds, out, lse);
    }
    let panels_len =
        inputs.prompt.map_or(0, |prompt| prompt_panels_len(inputs.heads, &prompt, prompt.batches));
    with_buffers([panels_len], |[panels]| {
        if let Some(prompt) = inputs.prompt {
            let len = prompt_panels_len(inputs.heads, &prompt, 1) / kv_heads;
            let shared = SharedSlice::new(panels);
            let cost = STORE_COST * prompt.key.len();
            parallel_for_if_worth(cost, prompt.batches * kv_heads, |task| {
                // SAFETY: each task accesses the panels of one KV head of one batch.
                let panels = unsafe { shared.slice_mut(task * len, len) };
                let prompt = prompt.head(inputs.heads, task / kv_heads, task % kv_heads);
                pack_key_panels(simd, prompt.key, head_dim, head_dim, 0, panels);
            });
        }
        prefill(simd, inputs, spans, stores, panels, multiply_adds, out, lse);
    });
}

/// Elements of the panels of prompt keys for this number of batches.
fn prompt_panels_len(heads: AttentionDims, prompt: &PromptView, batches: usize) -> usize {
    batches * heads.kv_heads * prompt.len.next_multiple_of(PANEL) * heads.head_dim
}

/// Attention of sequences with several new tokens; `stores` has their keys and values already.
#[expect(clippy::too_many_arguments, reason = "all of them are used by the tasks")]
fn prefill<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    spans: &[KvSpan],
    stores: [&[f32]; 2],
    prompt_panels: &[f32],
    multiply_adds: usize,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    let shape = GroupShape::new::<S>(inputs.heads);
    let GroupShape { width, group, .. } = shape;
    // Last blocks first: they attend to the most positions.
    let tasks: Vec<(usize, usize)> = inputs
        .sequences
        .iter()
        .enumerate()
        .flat_map(|(index, sequence)| {
            (0..sequence.len).step_by(shape.queries()).rev().map(move |query| (index, query))
        })
        .collect();
    let out = SharedSlice::new(out);
    let lse = lse.map(SharedSlice::new);
    parallel_for_if_worth(multiply_adds, tasks.len() * kv_heads, |task| {
        let ((index, first), kv_head) = (tasks[task / kv_heads], task % kv_heads);
        let sequence = &inputs.sequences[index];
        let queries = (sequence.len - first).min(shape.queries());
        let rows = queries * group;
        // SAFETY: each task accesses its own heads of its own rows.
        let row_out = |i: usize| unsafe {
            let row = (sequence.first_row + first + i / group) * heads;
            let at = row + kv_head * group + i % group;
            let lse = lse.as_ref().map(|lse| &mut lse.slice_mut(at, 1)[0]);
            (out.slice_mut(at * head_dim, head_dim), lse)
        };
        let prompt = inputs.prompt.and_then(|prompt| {
            let batch = prompt.batch(index);
            let head = prompt.active_head(inputs.heads, batch, kv_head)?;
            let len = prompt.len.next_multiple_of(PANEL) * head_dim;
            let keys = &prompt_panels[(batch * kv_heads + kv_head) * len..][..len];
            let key_values = KeyValueView { keys, values: head.value };
            Some((key_values, head.gate, AttentionMask::All(head.len)))
        });
        let prompt_rows = if prompt.is_some() { rows } else { 0 };
        let [scores, values] = QueryBlock::buffers(shape);
        let lens = [rows * head_dim, scores, values];
        let [text, prompt_lens] =
            [rows, prompt_rows].map(|rows| OnlineSoftmax::buffers(shape, rows));
        with_buffer_groups(
            lens,
            text,
            prompt_lens,
            |[query, scores, values], text, prompt_sums| {
                inputs.load_queries(simd, sequence.first_row + first, kv_head, query);
                let mut block = QueryBlock { shape, query, scores, values };
                let [mut text_softmax, mut prompt_softmax] =
                    [text, prompt_sums].map(OnlineSoftmax::new);
                let mask = AttentionMask::causal(sequence, first, inputs.window);
                let key_values = spans[index].key_values(stores, kv_head, head_dim);
                block.attend(simd, mask, key_values, &mut text_softmax);
                if let Some((key_values, _, mask)) = prompt {
                    block.attend(simd, mask, key_values, &mut prompt_softmax);
                }
                simd.vectorize(
                    #[inline(always)]
                    || {
                        for i in 0..rows {
                            let ((out, lse), total) = (row_out(i), text_softmax.denominators[i]);
                            let values = &text_softmax.values[i * width..][..head_dim];
                            scale_into(simd, values, total.recip(), out);
                            if let Some(lse) = lse {
                                *lse = text_softmax.maxima[i] + total.ln();
                            }
                            let gate = prompt.map_or(0.0, |(_, gate, _)| gate[i % group]);
                            // A zero gate changes no bit, not even the sign of a zero.
                            if gate != 0.0 {
                                let values = &prompt_softmax.values[i * width..][..head_dim];
                                let factor = gate / prompt_softmax.denominators[i];
                                add_scaled(simd, values, factor, out);
                            }
                        }
                    },
                );
            },
        );
    });
}
