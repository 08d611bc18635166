//! The forward pass: new keys and values are stored, then every block of queries is a task.

use crate::cpu::simd::{Simd, SimdLevel, dispatch};
use crate::cpu::threads::{SharedSlice, parallel_for_if_worth};
use crate::sizes::{BLOCK_TOKENS, PANEL};

use super::buffers::{with_buffer_groups, with_buffers};
use super::decode::{decode, is_decoded};
use super::group_shape::GroupShape;
use super::inputs::{AttentionDims, AttentionInputs, KvCacheView, Sequence};
use super::key_panels::{append_kv, pack_key_panels};
use super::kv_span::{KeyValueView, KvSpan};
use super::mask::AttentionMask;
use super::online_softmax::OnlineSoftmax;
use super::outputs::{AttentionOutputs, SharedOutputs};
use super::packed_prompts::PackedPrompts;
use super::prompts::{PromptView, Prompts};
use super::query_block::QueryBlock;
use super::shape_checks::expect_len;

/// Multiply-adds that take as long as storing one element in a panel.
const STORE_COST: usize = 8;

/// Causal attention of every sequence, plus the gated attention to its prompts.
///
/// Appends the rotated keys, and the values, of the new tokens to the cache. Outputs of rows of no
/// sequence become zero.
///
/// # Panics
/// If shapes do not match, sequences share rows or blocks that they write to, a sequence has a past
/// without a cache, or exceeds its blocks.
pub fn forward(
    level: SimdLevel,
    inputs: &AttentionInputs,
    cache: Option<KvCacheView>,
    outputs: AttentionOutputs,
) {
    dispatch!(level, simd => forward_simd(simd, inputs, cache, outputs));
}

/// [`forward`] for one instruction set.
pub fn forward_simd<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    cache: Option<KvCacheView>,
    mut outputs: AttentionOutputs,
) {
    inputs.check_shapes();
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    let AttentionOutputs { heads: out, branch, lse } = &mut outputs;
    expect_len("the output", out, inputs.rows() * heads * head_dim);
    if let Some(branch) = branch {
        expect_len("the prompts' output", branch, inputs.rows() * heads * head_dim);
        branch.fill(0.0);
    }
    if let Some(lse) = &lse {
        expect_len("log-sum-exps", lse, inputs.rows() * heads);
    }
    if inputs.has_gaps() {
        out.fill(0.0);
        if let Some(lse) = lse {
            lse.fill(0.0);
        }
    }
    if let Some(cache) = cache {
        inputs.check_cache(&cache);
        let KvCacheView { keys, values, tables } = cache;
        let spans = (0..tables.len()).map(|sequence| KvSpan::Table(tables.of(sequence)));
        let spans = spans.collect::<Vec<_>>();
        return store_and_attend(simd, inputs, &spans, [keys, values], outputs);
    }
    let mut end = 0;
    let spans: Vec<_> = inputs
        .sequences
        .iter()
        .map(|&Sequence { past, len, .. }| {
            assert!(past == 0, "a past of {past} tokens without a cache");
            let positions = len.next_multiple_of(BLOCK_TOKENS);
            let start = end;
            end += kv_heads * positions * head_dim;
            KvSpan::Contiguous { start, positions }
        })
        .collect();
    with_buffers([end, end], |stores| store_and_attend(simd, inputs, &spans, stores, outputs));
}

/// Stores the new keys and values in `keys` and `values`, and computes attention.
fn store_and_attend<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    spans: &[KvSpan],
    [keys, values]: [&mut [f32]; 2],
    outputs: AttentionOutputs,
) {
    let AttentionDims { kv_heads, head_dim, .. } = inputs.heads;
    let [shared_keys, shared_values] = [&mut *keys, &mut *values].map(SharedSlice::new);
    let new: usize = inputs.sequences.iter().map(|sequence| sequence.len).sum();
    let store_cost = STORE_COST * new * kv_heads * head_dim;
    parallel_for_if_worth(store_cost, spans.len() * kv_heads, |task| {
        let (index, kv_head) = (task / kv_heads, task % kv_heads);
        let blocks = spans[index].of_head(inputs.heads, kv_head);
        let block = |block: usize| {
            let start = blocks.start_of(block);
            // SAFETY: each task accesses one KV head of the blocks that its sequence writes to, one
            // block at a time. No other sequence writes to them.
            [&shared_keys, &shared_values]
                .map(|shared| unsafe { shared.slice_mut(start, blocks.len) })
        };
        let sequence = &inputs.sequences[index];
        with_buffers([PANEL * head_dim], |[buffer]| {
            append_kv(simd, inputs, sequence, kv_head, buffer, block);
        });
    });
    let stores = [&*keys, &*values];
    let outputs = SharedOutputs::new(outputs, head_dim);
    with_packed_prompts(simd, inputs, |prompts| {
        decode(simd, inputs, spans, stores, prompts, &outputs);
        prefill(simd, inputs, spans, stores, prompts, &outputs);
    });
}

/// Calls `work` with the prompts, their keys in panels.
fn with_packed_prompts<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    work: impl FnOnce(PackedPrompts),
) {
    let AttentionDims { kv_heads, head_dim, .. } = inputs.heads;
    let prompt = match inputs.prompts {
        Prompts::None => return work(PackedPrompts::None),
        Prompts::Listed(table) => return work(PackedPrompts::Listed(table)),
        Prompts::Stacked(prompt) => prompt,
    };
    let PromptView { batches, len, key, .. } = prompt;
    let head_len = len.next_multiple_of(PANEL) * head_dim;
    with_buffers([batches * kv_heads * head_len], |[panels]| {
        let shared = SharedSlice::new(panels);
        parallel_for_if_worth(STORE_COST * key.len(), batches * kv_heads, |task| {
            // SAFETY: each task accesses the panels of one KV head of one batch.
            let panels = unsafe { shared.slice_mut(task * head_len, head_len) };
            let prompt = prompt.head(inputs.heads, task / kv_heads, task % kv_heads);
            pack_key_panels(simd, prompt.key, head_dim, head_dim, 0, panels);
        });
        work(PackedPrompts::Stacked { prompt, key_panels: panels });
    });
}

/// Attention of the sequences with several new tokens; `stores` has their keys and values already.
fn prefill<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    spans: &[KvSpan],
    stores: [&[f32]; 2],
    prompts: PackedPrompts,
    outputs: &SharedOutputs,
) {
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    let shape = GroupShape::new::<S>(inputs.heads);
    let GroupShape { width, group, .. } = shape;
    let sequences = inputs.sequences.iter().enumerate();
    let sequences = sequences.filter(|(_, sequence)| !is_decoded(sequence)).collect::<Vec<_>>();
    // Last blocks first: they attend to the most positions.
    let tasks: Vec<(usize, usize)> = sequences
        .iter()
        .flat_map(|&(index, sequence)| {
            (0..sequence.len).step_by(shape.queries()).rev().map(move |query| (index, query))
        })
        .collect();
    let multiply_adds: usize =
        sequences.iter().map(|(_, s)| 2 * s.len * (s.past + s.len) * heads * head_dim).sum();
    parallel_for_if_worth(multiply_adds, tasks.len() * kv_heads, |task| {
        let ((index, first), kv_head) = (tasks[task / kv_heads], task % kv_heads);
        let sequence = &inputs.sequences[index];
        let first_row = sequence.first_row + first;
        let rows = (sequence.len - first).min(shape.queries()) * group;
        let output = |row: usize| (first_row + row / group) * heads + kv_head * group + row % group;
        let [scores, values] = QueryBlock::buffers(shape);
        let sums = OnlineSoftmax::buffers(shape, rows);
        with_buffer_groups(
            [rows * head_dim, scores, values],
            sums,
            sums,
            |[query, scores, values], sums, segment_sums| {
                inputs.load_queries(simd, first_row, kv_head, query);
                let mut block = QueryBlock { shape, query, scores, values };
                let [mut sums, mut segment_sums] = [sums, segment_sums].map(OnlineSoftmax::new);
                let mask = AttentionMask::causal(sequence, first, inputs.window);
                let source = KeyValueView::new(stores, spans[index].of_head(inputs.heads, kv_head));
                block.attend(simd, mask, source, &mut sums, &mut segment_sums);
                simd.vectorize(
                    #[inline(always)]
                    || {
                        for row in 0..rows {
                            // SAFETY: each task accesses its own heads of its own rows.
                            unsafe { outputs.write_text(simd, output(row), &sums, row, width) };
                        }
                    },
                );
                for prompt in 0..prompts.count(index) {
                    let prompt = prompts.head(inputs.heads, [index, prompt, kv_head]);
                    if !prompt.is_active() {
                        continue;
                    }
                    let mask = AttentionMask::All(prompt.len);
                    block.attend(simd, mask, prompt.key_values, &mut sums, &mut segment_sums);
                    simd.vectorize(
                        #[inline(always)]
                        || {
                            for row in 0..rows {
                                let (at, gate) = (output(row), prompt.gate[row % group]);
                                // SAFETY: as above.
                                unsafe { outputs.add_prompt(simd, at, gate, &sums, row, width) };
                            }
                        },
                    );
                }
            },
        );
    });
}
