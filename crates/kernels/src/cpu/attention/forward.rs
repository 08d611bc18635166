//! The forward pass: new keys and values are stored, then every block of queries is a task.

use crate::cpu::{
    simd::{Simd, SimdLevel, dispatch},
    threads::{self, Shared},
};

use super::{
    AttentionDims, AttentionInputs, Cache, PANEL, Prompt, Sequence,
    blocks::{Block, Shape, Source, Sums},
    buffers,
    check::expect_len,
    decode::decode,
    pack::{add_scaled, append_kv, pack_key_panels, rotate, scaled},
    sight::Sight,
};

/// Multiply-adds that are done by the time other threads have been woken.
const FORK: usize = 200_000;
/// Multiply-adds that take as long as storing a number where it belongs.
const STORE: usize = 8;

/// Causal attention of every sequence, and what the prompt adds.
///
/// Writes rotated keys, and values, of the new tokens into the cache. The logarithm of the sum of
/// the exponentials of a token's causal scores, without the prompt's, goes to `lse`: what
/// [`backward`](super::backward()) needs. Rows of no sequence become zero.
///
/// # Shapes
/// - `out`: `[rows, heads head_dim]`
/// - `lse`: `[rows, heads]`
///
/// # Panics
/// If shapes contradict each other, sequences share rows, or a sequence has a past without a cache
/// or is longer than the cache's capacity.
pub fn forward(
    level: SimdLevel,
    inputs: &AttentionInputs,
    cache: Option<Cache>,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    dispatch!(level, simd => run(simd, inputs, cache, out, lse));
}

/// [`forward`] for one instruction set.
pub fn run<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    cache: Option<Cache>,
    out: &mut [f32],
    mut lse: Option<&mut [f32]>,
) {
    inputs.check();
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
        if let Some(Cache { capacity, .. }) = cache {
            assert!(
                past <= capacity && len <= capacity - past,
                "{past} + {len} tokens in a cache for {capacity}",
            );
        } else {
            assert!(past == 0, "a past of {past} tokens without a cache that holds them");
        }
    }
    let slots = cache.as_ref().map(Cache::slots);
    let mut end = 0;
    let places: Vec<Place> = inputs
        .sequences
        .iter()
        .map(|sequence| {
            let slots = slots.unwrap_or(sequence.len.next_multiple_of(PANEL));
            let start = end;
            end += kv_heads * slots * head_dim;
            Place { start, slots }
        })
        .collect();
    match cache {
        Some(Cache { keys, values, .. }) => {
            expect_len("the cache's keys", keys, end);
            expect_len("the cache's values", values, end);
            attend(simd, inputs, &places, [keys, values], out, lse);
        }
        None => buffers::with([end, end], |stores| {
            attend(simd, inputs, &places, stores, out, lse);
        }),
    }
}

/// Where a sequence's keys and values are.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Start of those of its first key head.
    start: usize,
    /// Slots of each key head.
    slots: usize,
}

impl Place {
    /// Start and length of a key head's.
    fn of(self, kv_head: usize, head_dim: usize) -> (usize, usize) {
        (self.start + kv_head * self.slots * head_dim, self.slots * head_dim)
    }

    /// Those of a key head.
    pub fn source(
        self,
        [keys, values]: [&[f32]; 2],
        kv_head: usize,
        head_dim: usize,
    ) -> Source<'_> {
        let (start, len) = self.of(kv_head, head_dim);
        Source { keys: &keys[start..][..len], values: &values[start..][..len] }
    }
}

/// Calls `work` for each task, on several threads if it is worth it.
pub fn fork(multiply_adds: usize, tasks: usize, work: impl Fn(usize) + Sync) {
    if multiply_adds < FORK {
        (0..tasks).for_each(work);
    } else {
        threads::for_each(tasks, work);
    }
}

fn attend<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    places: &[Place],
    [keys, values]: [&mut [f32]; 2],
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    let multiply_adds: usize =
        inputs.sequences.iter().map(|s| 2 * s.len * (s.past + s.len) * heads * head_dim).sum();
    let [shared_keys, shared_values] = [&mut *keys, &mut *values].map(Shared::new);
    let new: usize = inputs.sequences.iter().map(|sequence| sequence.len).sum();
    fork(STORE * new * kv_heads * head_dim, places.len() * kv_heads, |task| {
        let (index, kv_head) = (task / kv_heads, task % kv_heads);
        let (start, len) = places[index].of(kv_head, head_dim);
        // SAFETY: each task has a sequence and a key head of its own.
        let [keys, values] =
            [&shared_keys, &shared_values].map(|shared| unsafe { shared.part(start, len) });
        let sequence = &inputs.sequences[index];
        buffers::with([PANEL * head_dim], |[buffer]| {
            append_kv(simd, inputs, sequence, kv_head, buffer, keys, values);
        });
    });
    let stores = [&*keys, &*values];
    if inputs.sequences.iter().all(|sequence| sequence.len <= 1) {
        return decode(simd, inputs, places, stores, multiply_adds, out, lse);
    }
    let panels =
        inputs.prompt.map_or(0, |prompt| prompt_panels(inputs.heads, &prompt, prompt.batches));
    buffers::with([panels], |[panels]| {
        if let Some(prompt) = inputs.prompt {
            let size = prompt_panels(inputs.heads, &prompt, 1) / kv_heads;
            let shared = Shared::new(panels);
            fork(STORE * prompt.key.len(), prompt.batches * kv_heads, |task| {
                // SAFETY: each task has panels of its own.
                let panels = unsafe { shared.part(task * size, size) };
                let prompt = prompt.head(inputs.heads, task / kv_heads, task % kv_heads);
                pack_key_panels(simd, prompt.key, head_dim, head_dim, 0, panels);
            });
        }
        blocks(simd, inputs, places, stores, panels, multiply_adds, out, lse);
    });
}

/// Numbers in the panels of so many batches of prompt keys.
fn prompt_panels(heads: AttentionDims, prompt: &Prompt, batches: usize) -> usize {
    batches * heads.kv_heads * prompt.len.next_multiple_of(PANEL) * heads.head_dim
}

#[expect(clippy::too_many_arguments, reason = "all of them go to the tasks")]
fn blocks<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    places: &[Place],
    stores: [&[f32]; 2],
    prompt_panels: &[f32],
    multiply_adds: usize,
    out: &mut [f32],
    lse: Option<&mut [f32]>,
) {
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    let shape = Shape::new::<S>(inputs.heads);
    let Shape { width, group, .. } = shape;
    // The last blocks of a text see the most.
    let tasks: Vec<(usize, usize)> = inputs
        .sequences
        .iter()
        .enumerate()
        .flat_map(|(index, sequence)| {
            (0..sequence.len).step_by(shape.queries()).rev().map(move |query| (index, query))
        })
        .collect();
    let out = Shared::new(out);
    let lse = lse.map(Shared::new);
    fork(multiply_adds, tasks.len() * kv_heads, |task| {
        let ((index, first), kv_head) = (tasks[task / kv_heads], task % kv_heads);
        let sequence = &inputs.sequences[index];
        let queries = (sequence.len - first).min(shape.queries());
        let rows = queries * group;
        // SAFETY: each task has rows and heads of its own.
        let part = |i: usize| unsafe {
            let row = (sequence.first_row + first + i / group) * heads;
            let at = row + kv_head * group + i % group;
            (out.part(at * head_dim, head_dim), lse.as_ref().map(|lse| &mut lse.part(at, 1)[0]))
        };
        let prompt = inputs.prompt.and_then(|prompt| {
            let batch = prompt.batch(index);
            let head = prompt.active_head(inputs.heads, batch, kv_head)?;
            let size = prompt.len.next_multiple_of(PANEL) * head_dim;
            let keys = &prompt_panels[(batch * kv_heads + kv_head) * size..][..size];
            Some((Source { keys, values: head.value }, head.gate, Sight::All(head.len)))
        });
        let prompt_rows = if prompt.is_some() { rows } else { 0 };
        let [scores, values] = shape.buffers();
        let lens = [rows * head_dim, scores, values];
        let [own, beside] = [rows, prompt_rows].map(|rows| Sums::buffers(shape, rows));
        buffers::with_buffer_groups(lens, own, beside, |[query, scores, values], own, beside| {
            simd.vectorize(
                #[inline(always)]
                || {
                    for (i, to) in query.chunks_exact_mut(head_dim).enumerate() {
                        let row = sequence.first_row + first + i / group;
                        let from = inputs.query(row, kv_head * group + i % group);
                        rotate(simd, from, inputs.turn(row), inputs.heads.scale(), to);
                    }
                },
            );
            let mut block = Block { shape, query, scores, values };
            let [mut own, mut beside] = [own, beside].map(Sums::new);
            let sight = Sight::causal(sequence, first, inputs.window);
            let source = places[index].source(stores, kv_head, head_dim);
            block.attend(simd, sight, source, &mut own);
            if let Some((source, _, sight)) = prompt {
                block.attend(simd, sight, source, &mut beside);
            }
            simd.vectorize(
                #[inline(always)]
                || {
                    for i in 0..rows {
                        let ((out, lse), total) = (part(i), own.totals[i]);
                        scaled(simd, &own.values[i * width..][..head_dim], total.recip(), out);
                        if let Some(lse) = lse {
                            *lse = own.tops[i] + total.ln();
                        }
                        let gate = prompt.map_or(0.0, |(_, gate, _)| gate[i % group]);
                        // A closed gate leaves every bit alone, the sign of zeros too.
                        if gate != 0.0 {
                            let values = &beside.values[i * width..][..head_dim];
                            add_scaled(simd, values, gate / beside.totals[i], out);
                        }
                    }
                },
            );
        });
    });
}
