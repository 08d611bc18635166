//! The backward pass: scores are made again, from the log-sum-exps that the forward pass left.
//!
//! ```text
//! P = e^(q · K - lse)      dP = d_out · V      dS = P (dP - d_out · out_causal)
//! dV = Pᵀ d_out            dK = dSᵀ q          dq = dS K
//! ```
//!
//! A task is a key head and a chunk of one sequence's slots, with all queries that see them. Most
//! sequences are one chunk; in longer ones, each chunk's share of `dq` is kept and added up later.

use std::ops::Range;

use crate::cpu::{
    simd::{Simd, SimdLevel, dispatch},
    threads::Shared,
};

use super::{
    AttentionDims, AttentionInputs, PromptGradients, Sequence,
    blocks::Shape,
    buffers,
    check::expect_len,
    chunk::{BLOCK, Chunk},
    forward::fork,
    prompt::PromptBackward,
    queries::Queries,
    reduce::{reduce_prompt_gradients, reduce_query_gradients},
    sight::Sight,
};

/// Fewest slots that are worth a chunk of their own.
const CHUNK: usize = 512;
/// Most chunks of a sequence: each has its own share of `dq`.
const CHUNKS: usize = 4;

/// Gradients of [`forward`](super::forward()) for sequences without a past, from what it computed.
/// What is `None` is not computed; what is given is overwritten. Rows of no sequence become zero.
///
/// # Shapes
/// - `out`, `d_out`: `[rows, heads head_dim]`
/// - `lse`: `[rows, heads]`
/// - `d_qkv`: as `qkv`, and like it not rotated
/// - `d_prompt`: as the prompt
///
/// # Panics
/// If shapes contradict each other, sequences share rows or have a past, or gradients are asked
/// for of a prompt that there is not.
pub fn backward(
    level: SimdLevel,
    inputs: &AttentionInputs,
    out: &[f32],
    lse: &[f32],
    d_out: &[f32],
    d_qkv: Option<&mut [f32]>,
    d_prompt: Option<PromptGradients>,
) {
    let given = Given { out, lse, d_out };
    dispatch!(level, simd => run(simd, inputs, given, d_qkv, d_prompt));
}

/// What the forward pass gave, and the gradient of its output.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// `[rows, heads head_dim]`
    pub out: &'a [f32],
    /// `[rows, heads]`
    pub lse: &'a [f32],
    /// `[rows, heads head_dim]`
    pub d_out: &'a [f32],
}

/// How a sequence is cut into chunks.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// Chunks.
    pub count: usize,
    /// Slots of a chunk; the last may have fewer.
    pub slots: usize,
    /// Where the shares of `dq` of its chunks start: `[count, kv_heads, len, group, width]`.
    pub shares: usize,
    /// Number of its first chunk among those of all sequences.
    pub first: usize,
}

impl Cut {
    /// Slots of one chunk.
    pub fn chunk(self, number: usize, len: usize) -> Range<usize> {
        number * self.slots..len.min((number + 1) * self.slots)
    }

    /// Start and length of the share of `dq` of one chunk and one key head.
    pub fn share(self, shape: Shape, len: usize, number: usize) -> (usize, usize) {
        let size = len * shape.group * shape.width;
        (self.shares + number * size, size)
    }
}

/// [`backward`] for one instruction set.
pub fn run<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    given: Given,
    mut d_qkv: Option<&mut [f32]>,
    d_prompt: Option<PromptGradients>,
) {
    inputs.check();
    check(inputs, given, d_qkv.as_deref(), d_prompt.as_ref());
    if let Some(d_qkv) = &mut d_qkv
        && inputs.has_gaps()
    {
        d_qkv.fill(0.0);
    }
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    let shape = Shape::new::<S>(inputs.heads);
    let (mut shares, mut first) = (0, 0);
    let cuts: Vec<Cut> = inputs
        .sequences
        .iter()
        .map(|&Sequence { len, .. }| {
            let slots = CHUNK.max(len.div_ceil(CHUNKS)).next_multiple_of(BLOCK);
            let cut = Cut { count: len.div_ceil(slots), slots, shares, first };
            first += cut.count;
            if cut.count > 1 && d_qkv.is_some() {
                shares += cut.count * kv_heads * cut.share(shape, len, 0).1;
            }
            cut
        })
        .collect();
    let tasks: Vec<(usize, usize)> = (0..cuts.len())
        .flat_map(|index| (0..cuts[index].count).map(move |number| (index, number)))
        .collect();
    let seen: usize = inputs.sequences.iter().map(|s| s.len * s.len).sum();
    let multiply_adds = 3 * seen * heads * head_dim;
    let record = match (inputs.prompt, &d_prompt) {
        (Some(prompt), Some(_)) => PromptBackward::record(shape, prompt.len),
        _ => 0,
    };
    buffers::with([shares, tasks.len() * kv_heads * record], |[shares, records]| {
        {
            let shares = Shared::new(shares);
            let records = Shared::new(records);
            let d_qkv = d_qkv.as_deref_mut().map(Shared::new);
            fork(multiply_adds, tasks.len() * kv_heads, |task| {
                let ((index, number), kv_head) = (tasks[task / kv_heads], task % kv_heads);
                let (cut, len) = (cuts[index], inputs.sequences[index].len);
                // SAFETY: each task has a record of its own.
                let record = unsafe { records.part(task * record, record) };
                let share = if cut.count > 1 && d_qkv.is_some() {
                    let (start, size) = cut.share(shape, len, number * kv_heads + kv_head);
                    // SAFETY: each task has a share of its own.
                    Some(unsafe { shares.part(start, size) })
                } else {
                    None
                };
                let chunk = cut.chunk(number, len);
                let task = Task { inputs, given, shape, index, kv_head, chunk };
                task.run(simd, d_qkv.as_ref(), share, record);
            });
        }
        if let Some(d_qkv) = d_qkv {
            reduce_query_gradients(simd, inputs, shape, &cuts, shares, d_qkv);
        }
        if let Some(gradients) = d_prompt {
            reduce_prompt_gradients(inputs, shape, &cuts, records, gradients);
        }
    });
}

fn check(
    inputs: &AttentionInputs,
    given: Given,
    d_qkv: Option<&[f32]>,
    d_prompt: Option<&PromptGradients>,
) {
    let AttentionDims { heads, head_dim, .. } = inputs.heads;
    let rows = inputs.rows();
    expect_len("the output", given.out, rows * heads * head_dim);
    expect_len("log-sum-exps", given.lse, rows * heads);
    expect_len("the output's gradient", given.d_out, rows * heads * head_dim);
    if let Some(d_qkv) = d_qkv {
        expect_len("the gradient of qkv", d_qkv, inputs.qkv.len());
    }
    let past = inputs.sequences.iter().map(|sequence| sequence.past).max().unwrap_or(0);
    assert!(past == 0, "no gradients for texts of which {past} tokens are past");
    if let Some(gradients) = d_prompt {
        let prompt = inputs.prompt.expect("there is a prompt whose gradient is asked for");
        expect_len("the gradient of the prompt's keys", gradients.key, prompt.key.len());
        expect_len("the gradient of the prompt's values", gradients.value, prompt.value.len());
        expect_len("the gradient of the prompt's gates", gradients.gate, prompt.gate.len());
    }
}

/// A key head and a chunk of a sequence's slots.
struct Task<'a> {
    inputs: &'a AttentionInputs<'a>,
    given: Given<'a>,
    shape: Shape,
    index: usize,
    kv_head: usize,
    chunk: Range<usize>,
}

impl Task<'_> {
    /// Adds up all gradients: `dq` goes to `share`, or to `d_qkv` if there is none; the prompt's
    /// go to `record`, unless it is empty.
    fn run<S: Simd>(
        &self,
        simd: S,
        d_qkv: Option<&Shared<f32>>,
        mut share: Option<&mut [f32]>,
        record: &mut [f32],
    ) {
        let Self { inputs, given, shape, index, kv_head, ref chunk } = *self;
        let sequence = &inputs.sequences[index];
        let Sequence { first_row, len, .. } = *sequence;
        // SAFETY: each task has a key head with its query heads of its own, and slots; `dq` of
        // other tasks' slots is theirs if it goes to no share.
        let part = |start, len| unsafe { d_qkv.map(|d_qkv| d_qkv.part(start, len)) };
        record.fill(0.0);
        let slots = if d_qkv.is_some() { chunk.len() } else { 0 };
        let rows = shape.queries().min(len) * shape.group;
        let head = inputs
            .prompt
            .map(|prompt| prompt.head(inputs.heads, prompt.batch(index), kv_head))
            .filter(|head| head.len > 0);
        let room = inputs.prompt.map_or(0, |prompt| prompt.len);
        buffers::with_buffer_groups(
            Chunk::buffers(shape, slots),
            Queries::buffers(shape, rows),
            PromptBackward::buffers(shape, rows, head),
            |keys, queries, prompt| {
                let mut keys = Chunk::new(shape, chunk.start, keys);
                keys.fill(simd, inputs, sequence, kv_head);
                let mut queries = Queries::new(shape, queries);
                let mut prompt =
                    head.map(|head| PromptBackward::new(simd, shape, head, room, prompt));
                for first in (0..len).step_by(shape.queries()) {
                    let count = shape.queries().min(len - first);
                    let sight = Sight::causal(sequence, first, inputs.window);
                    let sees = slots > 0 && !sight.queries(chunk.clone(), count).is_empty();
                    // The prompt's gradients belong to the chunk that the block starts in.
                    let own = chunk.contains(&first);
                    let to_prompt = own && prompt.is_some();
                    if !(sees || to_prompt) {
                        continue;
                    }
                    queries.fill(simd, inputs, given, [first_row + first, count, kv_head]);
                    if let Some(prompt) = &mut prompt {
                        let record = own.then_some(&mut *record);
                        prompt.back(simd, &mut queries, record, sees);
                    }
                    if !sees {
                        continue;
                    }
                    keys.back(simd, sight, &mut queries);
                    if let Some(share) = &mut share {
                        let from = queries.gradient();
                        let start = first * shape.group * shape.width;
                        share[start..][..from.len()].copy_from_slice(from);
                    } else {
                        queries.write(simd, inputs, [first_row + first, kv_head], part);
                    }
                }
                keys.write(simd, inputs, sequence, kv_head, part);
            },
        );
    }
}
