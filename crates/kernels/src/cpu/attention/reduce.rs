//! Gradients that several tasks have a share in, added up in the order of the tasks.

use crate::cpu::{
    simd::Simd,
    threads::{self, Shared},
};

use super::{
    AttentionDims, AttentionInputs, PromptGradients, Sequence, backward::Cut, blocks::Shape,
    buffers, pack::rotate_backward, prompt::PromptBackward, sight::Sight,
};

/// Writes the gradients of queries of sequences that were cut into several chunks.
pub fn reduce_query_gradients<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    shape: Shape,
    cuts: &[Cut],
    shares: &[f32],
    d_qkv: &mut [f32],
) {
    let AttentionDims { kv_heads, head_dim, .. } = inputs.heads;
    let Shape { width, group, .. } = shape;
    let d_qkv = Shared::new(d_qkv);
    for (sequence, cut) in inputs.sequences.iter().zip(cuts).filter(|(_, cut)| cut.count > 1) {
        let &Sequence { first_row, len, .. } = sequence;
        let blocks = len.div_ceil(shape.queries());
        threads::for_each(blocks * kv_heads, |task| {
            let (first, kv_head) = (task / kv_heads * shape.queries(), task % kv_heads);
            let count = shape.queries().min(len - first);
            let sight = Sight::causal(sequence, first, inputs.window);
            buffers::with([count * group * width], |[sums]| {
                sums.fill(0.0);
                for number in 0..cut.count {
                    if !sight.queries(cut.chunk(number, len), count).is_empty() {
                        let (start, _) = cut.share(shape, len, number * kv_heads + kv_head);
                        let share = &shares[start + first * group * width..];
                        sums.iter_mut().zip(share).for_each(|(sum, share)| *sum += share);
                    }
                }
                simd.vectorize(
                    #[inline(always)]
                    || {
                        for (i, from) in sums.chunks_exact(width).enumerate() {
                            let (row, head) =
                                (first_row + first + i / group, kv_head * group + i % group);
                            let start = row * inputs.heads.row() + head * head_dim;
                            // SAFETY: each task has rows and heads of its own.
                            let to = unsafe { d_qkv.part(start, head_dim) };
                            let scale = inputs.heads.scale();
                            rotate_backward(simd, &from[..head_dim], inputs.turn(row), scale, to);
                        }
                    },
                );
            });
        });
    }
}

/// Writes the gradients of the prompt from the records of all tasks.
pub fn reduce_prompt_gradients(
    inputs: &AttentionInputs,
    shape: Shape,
    cuts: &[Cut],
    records: &[f32],
    gradients: PromptGradients,
) {
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    let Shape { width, group, .. } = shape;
    let Some(prompt) = inputs.prompt else { return };
    let PromptGradients { key, value, gate } = gradients;
    key.fill(0.0);
    value.fill(0.0);
    gate.fill(0.0);
    let size = PromptBackward::record(shape, prompt.len);
    for (index, cut) in cuts.iter().enumerate() {
        let batch = prompt.batch(index);
        let tasks = cut.first * kv_heads..(cut.first + cut.count) * kv_heads;
        for task in tasks {
            let kv_head = task % kv_heads;
            let record = &records[task * size..][..size];
            let (d_key, rest) = record.split_at(prompt.len * width);
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
