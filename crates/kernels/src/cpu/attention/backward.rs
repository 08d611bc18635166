//! The backward pass: scores are recomputed from the log-sum-exps of the forward pass.
//!
//! ```text
//! P = e^(q · K - lse)      dP = d_out · V      dS = P (dP - d_out · out_causal)
//! dV = Pᵀ d_out            dK = dSᵀ q          dq = dS K
//! ```
//!
//! A task is a KV head and a chunk of one sequence's positions, with all queries that attend to
//! them. Most sequences are one chunk. In longer ones each chunk has a partial `dq`, and these are
//! summed at the end.

use std::ops::Range;

use crate::cpu::simd::{Simd, SimdLevel, dispatch};
use crate::cpu::threads::{SharedSlice, parallel_for_if_worth};

use super::buffers::{with_buffer_groups, with_buffers};
use super::chunking::Chunking;
use super::group_shape::GroupShape;
use super::inputs::{AttentionDims, AttentionInputs, Sequence};
use super::kv_chunk::KvChunk;
use super::mask::AttentionMask;
use super::prompt_backward::PromptBackward;
use super::prompts::{PromptGradients, Prompts};
use super::query_gradients::{BackwardInputs, QueryGradients, write_query_gradients};
use super::reduce::{reduce_prompt_gradients, reduce_query_gradients};
use super::shape_checks::expect_len;

/// The gradients of [`forward`](super::forward()), from its outputs, for sequences without a past.
///
/// Gradients that are `None` are not computed, the others are overwritten. Those of rows of no
/// sequence become zero.
///
/// # Shapes
/// - `out`, `d_out`: `[rows, heads head_dim]`
/// - `lse`: `[rows, heads]`
/// - `d_qkv`: as `qkv`, and not rotated either
/// - `d_prompt`: as the prompt
///
/// # Panics
/// If shapes do not match, sequences share rows or have a past, prompts are listed, or `d_prompt` is
/// requested without a prompt.
pub fn backward(
    level: SimdLevel,
    inputs: &AttentionInputs,
    out: &[f32],
    lse: &[f32],
    d_out: &[f32],
    d_qkv: Option<&mut [f32]>,
    d_prompt: Option<PromptGradients>,
) {
    let saved = BackwardInputs { out, lse, d_out };
    dispatch!(level, simd => backward_simd(simd, inputs, saved, d_qkv, d_prompt));
}

/// [`backward`] for one instruction set.
pub fn backward_simd<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    saved: BackwardInputs,
    mut d_qkv: Option<&mut [f32]>,
    d_prompt: Option<PromptGradients>,
) {
    inputs.check_shapes();
    check_backward_shapes(inputs, saved, d_qkv.as_deref(), d_prompt.as_ref());
    if let Some(d_qkv) = &mut d_qkv
        && inputs.has_gaps()
    {
        d_qkv.fill(0.0);
    }
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    let shape = GroupShape::new::<S>(inputs.heads);
    let (mut partial_dq_len, mut first) = (0, 0);
    let chunkings: Vec<Chunking> = inputs
        .sequences
        .iter()
        .map(|&Sequence { len, .. }| {
            let chunking = Chunking::new(len, partial_dq_len, first);
            first += chunking.count;
            if chunking.count > 1 && d_qkv.is_some() {
                let (_start, span) = chunking.partial_dq_span(shape, len, 0);
                partial_dq_len += chunking.count * kv_heads * span;
            }
            chunking
        })
        .collect();
    let tasks: Vec<(usize, usize)> = (0..chunkings.len())
        .flat_map(|index| (0..chunkings[index].count).map(move |chunk| (index, chunk)))
        .collect();
    let scores: usize = inputs.sequences.iter().map(|s| s.len * s.len).sum();
    let multiply_adds = 3 * scores * heads * head_dim;
    let prompt_partial_len = match (inputs.prompts.stacked(), &d_prompt) {
        (Some(prompt), Some(_)) => PromptBackward::partial_len(shape, prompt.len),
        _ => 0,
    };
    let prompt_partials_len = tasks.len() * kv_heads * prompt_partial_len;
    with_buffers([partial_dq_len, prompt_partials_len], |[partial_dq, prompt_partials]| {
        {
            let partial_dq = SharedSlice::new(partial_dq);
            let prompt_partials = SharedSlice::new(prompt_partials);
            let d_qkv = d_qkv.as_deref_mut().map(SharedSlice::new);
            parallel_for_if_worth(multiply_adds, tasks.len() * kv_heads, |task| {
                let ((index, chunk), kv_head) = (tasks[task / kv_heads], task % kv_heads);
                let (chunking, len) = (chunkings[index], inputs.sequences[index].len);
                // SAFETY: each task accesses its own partial gradient of the prompt.
                let prompt_partial = unsafe {
                    prompt_partials.slice_mut(task * prompt_partial_len, prompt_partial_len)
                };
                let partial_dq = if chunking.count > 1 && d_qkv.is_some() {
                    let number = chunk * kv_heads + kv_head;
                    let (start, span) = chunking.partial_dq_span(shape, len, number);
                    // SAFETY: each task accesses the span of its own chunk and KV head.
                    Some(unsafe { partial_dq.slice_mut(start, span) })
                } else {
                    None
                };
                let chunk = chunking.chunk(chunk, len);
                let task = BackwardTask { inputs, saved, shape, index, kv_head, chunk };
                task.run(simd, d_qkv.as_ref(), partial_dq, prompt_partial);
            });
        }
        if let Some(d_qkv) = d_qkv {
            reduce_query_gradients(simd, inputs, shape, &chunkings, partial_dq, d_qkv);
        }
        if let Some(gradients) = d_prompt {
            reduce_prompt_gradients(inputs, shape, &chunkings, prompt_partials, gradients);
        }
    });
}

/// # Panics
/// If shapes do not match.
fn check_backward_shapes(
    inputs: &AttentionInputs,
    saved: BackwardInputs,
    d_qkv: Option<&[f32]>,
    d_prompt: Option<&PromptGradients>,
) {
    let AttentionDims { heads, head_dim, .. } = inputs.heads;
    let rows = inputs.rows();
    expect_len("the output", saved.out, rows * heads * head_dim);
    expect_len("log-sum-exps", saved.lse, rows * heads);
    expect_len("the output's gradient", saved.d_out, rows * heads * head_dim);
    if let Some(d_qkv) = d_qkv {
        expect_len("the gradient of qkv", d_qkv, inputs.qkv.len());
    }
    let listed = matches!(inputs.prompts, Prompts::Listed(_));
    assert!(!listed, "no gradients for listed prompts");
    let past = inputs.sequences.iter().map(|sequence| sequence.past).max().unwrap_or(0);
    assert!(past == 0, "no gradients for sequences with a past ({past} tokens)");
    if let Some(gradients) = d_prompt {
        let prompt = inputs.prompts.stacked().expect("the gradient of the prompt needs a prompt");
        expect_len("the gradient of the prompt's keys", gradients.key, prompt.key.len());
        expect_len("the gradient of the prompt's values", gradients.value, prompt.value.len());
        expect_len("the gradient of the prompt's gates", gradients.gate, prompt.gate.len());
    }
}

/// A KV head and a chunk of a sequence's positions.
struct BackwardTask<'a> {
    inputs: &'a AttentionInputs<'a>,
    saved: BackwardInputs<'a>,
    shape: GroupShape,
    /// Index of the sequence.
    index: usize,
    kv_head: usize,
    chunk: Range<usize>,
}

impl BackwardTask<'_> {
    /// Computes all gradients: `dq` goes to `partial_dq`, or to `d_qkv` if that is `None`; the
    /// prompt's go to `prompt_partial`, unless that is empty.
    fn run<S: Simd>(
        &self,
        simd: S,
        d_qkv: Option<&SharedSlice<f32>>,
        mut partial_dq: Option<&mut [f32]>,
        prompt_partial: &mut [f32],
    ) {
        let Self { inputs, saved, shape, index, kv_head, ref chunk } = *self;
        let sequence = &inputs.sequences[index];
        let Sequence { first_row, len, .. } = *sequence;
        // SAFETY: the tasks differ in their KV head, with its query heads, or in their positions. A
        // task writes the gradients of keys and values of its own positions, and those of queries
        // only if its chunk is the whole sequence.
        let d_qkv_slice = |start, len| unsafe { d_qkv.map(|d_qkv| d_qkv.slice_mut(start, len)) };
        prompt_partial.fill(0.0);
        let positions = if d_qkv.is_some() { chunk.len() } else { 0 };
        let rows = shape.queries().min(len) * shape.group;
        let head = inputs
            .prompts
            .stacked()
            .map(|prompt| prompt.head(inputs.heads, prompt.batch(index), kv_head))
            .filter(|head| head.len > 0);
        let max_len = inputs.prompts.stacked().map_or(0, |prompt| prompt.len);
        with_buffer_groups(
            KvChunk::buffers(shape, positions),
            QueryGradients::buffers(shape, rows),
            PromptBackward::buffers(shape, rows, head),
            |keys, queries, prompt| {
                let mut keys = KvChunk::new(shape, chunk.start, keys);
                keys.load(simd, inputs, sequence, kv_head);
                let mut queries = QueryGradients::new(shape, queries);
                let mut prompt =
                    head.map(|head| PromptBackward::new(simd, shape, head, max_len, prompt));
                for first in (0..len).step_by(shape.queries()) {
                    let count = shape.queries().min(len - first);
                    let mask = AttentionMask::causal(sequence, first, inputs.window);
                    let attends = positions > 0
                        && !mask.queries_attending_to(chunk.clone(), count).is_empty();
                    // The chunk that the block starts in computes the prompt's gradients.
                    let owns_prompt_gradients = chunk.contains(&first);
                    let computes_prompt_gradients = owns_prompt_gradients && prompt.is_some();
                    if !(attends || computes_prompt_gradients) {
                        continue;
                    }
                    queries.load(simd, inputs, saved, [first_row + first, count, kv_head]);
                    if let Some(prompt) = &mut prompt {
                        let partial = owns_prompt_gradients.then_some(&mut *prompt_partial);
                        prompt.backward(simd, &mut queries, partial, attends);
                    }
                    if !attends {
                        continue;
                    }
                    keys.backward(simd, mask, &mut queries);
                    let gradient = queries.gradient();
                    if let Some(partial_dq) = &mut partial_dq {
                        let start = first * shape.group * shape.width;
                        partial_dq[start..][..gradient.len()].copy_from_slice(gradient);
                    } else {
                        let rows = [first_row + first, kv_head];
                        write_query_gradients(simd, inputs, shape, gradient, rows, d_qkv_slice);
                    }
                }
                keys.write_gradients(simd, inputs, sequence, kv_head, d_qkv_slice);
            },
        );
    }
}
