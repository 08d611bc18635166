//! Sums of the gradients that several tasks contribute to, in the order of the tasks.

use crate::cpu::simd::Simd;
use crate::cpu::threads::{self, SharedSlice};

use super::buffers::with_buffers;
use super::chunking::Chunking;
use super::group_shape::GroupShape;
use super::inputs::{AttentionDims, AttentionInputs, Sequence};
use super::mask::AttentionMask;
use super::prompt_backward::PromptBackward;
use super::prompts::PromptGradients;
use super::query_gradients::write_query_gradients;

/// Writes the gradients of the queries of sequences with several chunks.
pub fn reduce_query_gradients<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    shape: GroupShape,
    chunkings: &[Chunking],
    partial_dq: &[f32],
    d_qkv: &mut [f32],
) {
    let AttentionDims { kv_heads, .. } = inputs.heads;
    let GroupShape { width, group, .. } = shape;
    let d_qkv = SharedSlice::new(d_qkv);
    // SAFETY: each task writes to its own rows and heads.
    let d_qkv_slice = |start, len| Some(unsafe { d_qkv.slice_mut(start, len) });
    let sequences = inputs.sequences.iter().zip(chunkings);
    for (sequence, chunking) in sequences.filter(|(_, chunking)| chunking.count > 1) {
        let &Sequence { first_row, len, .. } = sequence;
        let blocks = len.div_ceil(shape.queries());
        threads::parallel_for(blocks * kv_heads, |task| {
            let (first, kv_head) = (task / kv_heads * shape.queries(), task % kv_heads);
            let count = shape.queries().min(len - first);
            let mask = AttentionMask::causal(sequence, first, inputs.window);
            with_buffers([count * group * width], |[sums]| {
                sums.fill(0.0);
                for chunk in 0..chunking.count {
                    let positions = chunking.chunk(chunk, len);
                    if !mask.queries_attending_to(positions, count).is_empty() {
                        let number = chunk * kv_heads + kv_head;
                        let (start, _len) = chunking.partial_dq_span(shape, len, number);
                        let partial = &partial_dq[start + first * group * width..];
                        sums.iter_mut().zip(partial).for_each(|(sum, partial)| *sum += partial);
                    }
                }
                let rows = [first_row + first, kv_head];
                write_query_gradients(simd, inputs, shape, sums, rows, d_qkv_slice);
            });
        });
    }
}

/// Writes the gradients of the prompt from the partial gradients of all tasks.
pub fn reduce_prompt_gradients(
    inputs: &AttentionInputs,
    shape: GroupShape,
    chunkings: &[Chunking],
    partials: &[f32],
    gradients: PromptGradients,
) {
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    let GroupShape { width, group, .. } = shape;
    let Some(prompt) = inputs.prompts.stacked() else { return };
    let PromptGradients { key, value, gate } = gradients;
    key.fill(0.0);
    value.fill(0.0);
    gate.fill(0.0);
    let partial_len = PromptBackward::partial_len(shape, prompt.len);
    for (index, chunking) in chunkings.iter().enumerate() {
        let batch = prompt.batch(index);
        let tasks = chunking.first * kv_heads..(chunking.first + chunking.count) * kv_heads;
        for task in tasks {
            let kv_head = task % kv_heads;
            let partial = &partials[task * partial_len..][..partial_len];
            let (d_key, rest) = partial.split_at(prompt.len * width);
            let (d_value, d_gate) = rest.split_at(prompt.len * width);
            let start = (batch * kv_heads + kv_head) * prompt.len * head_dim;
            for (from, to) in [(d_key, &mut *key), (d_value, &mut *value)] {
                let to = &mut to[start..][..prompt.len * head_dim];
                for (to, from) in to.chunks_exact_mut(head_dim).zip(from.chunks_exact(width)) {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                }
            }
            let to = &mut gate[batch * heads + kv_head * group..][..group];
            to.iter_mut().zip(d_gate).for_each(|(to, from)| *to += from);
        }
    }
}
