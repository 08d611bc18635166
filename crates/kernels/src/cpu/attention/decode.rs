//! One new token a text: few rows, many keys. Keys are read once, in chunks that are tasks; the
//! sums of a chunk go to a record, and records are put together in order.

use std::ops::Range;

use crate::cpu::{simd::Simd, threads::Shared};

use super::{
    AttentionDims, AttentionInputs, PANEL, PromptHead,
    blocks::{Shape, Source},
    buffers, few,
    forward::{Place, fork},
    pack::{rotate, widen},
    sight::Sight,
    softmax::{MASKED_SCORE, highest, weigh},
};

/// Slots in a chunk of keys.
const CHUNK: usize = 512;
/// Numbers at the start of a record's rows: largest score, sum of weights.
const PROGRESS: usize = 16;

/// Attention of sequences with one new token at the most; `stores` hold its key and value already.
pub fn decode<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    places: &[Place],
    stores: [&[f32]; 2],
    multiply_adds: usize,
    out: &mut [f32],
    mut lse: Option<&mut [f32]>,
) {
    let AttentionDims { heads, kv_heads, head_dim } = inputs.heads;
    let shape = Shape::new::<S>(inputs.heads);
    let Shape { width, group, .. } = shape;
    let seen = |index: usize| {
        let sequence = &inputs.sequences[index];
        if sequence.len == 0 { 0..0 } else { Sight::causal(sequence, 0, inputs.window).slots(0) }
    };
    let open_prompt = |index: usize, kv_head: usize| {
        let prompt = inputs.prompt?;
        prompt.active_head(inputs.heads, prompt.batch(index), kv_head)
    };
    let most = (0..places.len()).map(|index| chunks(&seen(index))).max().unwrap_or(0);
    let record = group * (PROGRESS + width);
    // The prompt's record, then one for each chunk.
    let records = (1 + most) * record;
    let longest = CHUNK.max(inputs.prompt.map_or(0, |prompt| prompt.len));
    let score_row = longest.next_multiple_of(PANEL) + PANEL;
    let value_room = if width == head_dim { 0 } else { longest * width };
    buffers::with([places.len() * kv_heads * records], |[buffer]| {
        let shared = Shared::new(buffer);
        fork(multiply_adds, places.len() * kv_heads * most, |task| {
            let (head, number) = (task / most, task % most);
            let (index, kv_head) = (head / kv_heads, head % kv_heads);
            let slots = chunk(&seen(index), number);
            if slots.is_empty() {
                return;
            }
            let lens = [group * head_dim, group * score_row, value_room];
            buffers::with(lens, |[query, scores, values]| {
                let row = inputs.sequences[index].first_row;
                let record_at = |number: usize| {
                    let start = head * records + number * record;
                    // SAFETY: each task has a record of its own, the first also the prompt's.
                    unsafe { shared.part(start, record) }
                };
                let source = places[index].source(stores, kv_head, head_dim);
                let mut few = Few { shape, query, scores, score_row, values };
                few.rotate(simd, inputs, row, kv_head);
                few.attend(simd, source, slots, record_at(1 + number));
                if number == 0
                    && let Some(prompt) = open_prompt(index, kv_head)
                {
                    few.attend_prompt(simd, prompt, record_at(0));
                }
            });
        });
        for (head, records) in buffer.chunks_exact_mut(records).enumerate() {
            let (index, kv_head) = (head / kv_heads, head % kv_heads);
            let count = chunks(&seen(index));
            if count == 0 {
                continue;
            }
            let (prompt_record, records) = records.split_at_mut(record);
            let first = inputs.sequences[index].first_row * heads + kv_head * group;
            let prompt = open_prompt(index, kv_head);
            for i in 0..group {
                let at = first + i;
                let out = &mut out[at * head_dim..][..head_dim];
                let rows = &mut records[i * (PROGRESS + width)..];
                let rows = rows.chunks_mut(record).take(count);
                let (top, total) = simd.vectorize(
                    #[inline(always)]
                    || put_together(rows.map(|row| row.split_at_mut(PROGRESS)), out),
                );
                if let Some(lse) = &mut lse {
                    lse[at] = top + total.ln();
                }
                // A closed gate leaves every bit alone, the sign of zeros too.
                if let Some(PromptHead { gate, .. }) = prompt
                    && gate[i] != 0.0
                {
                    let (progress, sums) =
                        prompt_record[i * (PROGRESS + width)..].split_at(PROGRESS);
                    let factor = gate[i] / progress[1];
                    for (out, sum) in out.iter_mut().zip(sums) {
                        *out += factor * sum;
                    }
                }
            }
        }
    });
}

/// How many chunks the seen slots are in.
fn chunks(seen: &Range<usize>) -> usize {
    if seen.is_empty() { 0 } else { (seen.end - 1) / CHUNK - seen.start / CHUNK + 1 }
}

/// The seen slots of a chunk.
fn chunk(seen: &Range<usize>, number: usize) -> Range<usize> {
    let start = (seen.start / CHUNK + number) * CHUNK;
    start.max(seen.start)..seen.end.min(start + CHUNK)
}

/// Writes the mean of all chunks' values to `out`; gives the largest score and the sum of weights.
#[inline(always)]
fn put_together<'a>(
    rows: impl Iterator<Item = (&'a mut [f32], &'a mut [f32])>,
    out: &mut [f32],
) -> (f32, f32) {
    let (mut top, mut total) = (MASKED_SCORE, 0.0);
    for (number, (progress, sums)) in rows.enumerate() {
        let highest = progress[0].max(top);
        let [before, now] = [top, progress[0]].map(|top| (top - highest).exp());
        (top, total) = (highest, before * total + now * progress[1]);
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
    (top, total)
}

/// The query heads of one token that share keys.
struct Few<'a> {
    shape: Shape,
    /// `[group, head_dim]`
    query: &'a mut [f32],
    /// `[group, score_row]`
    scores: &'a mut [f32],
    score_row: usize,
    /// Room for values in whole vectors, if heads are not.
    values: &'a mut [f32],
}

impl Few<'_> {
    fn rotate<S: Simd>(&mut self, simd: S, inputs: &AttentionInputs, row: usize, kv_head: usize) {
        let Shape { head_dim, group, .. } = self.shape;
        let turn = inputs.turn(row);
        simd.vectorize(
            #[inline(always)]
            || {
                for (i, to) in self.query.chunks_exact_mut(head_dim).enumerate() {
                    let from = inputs.query(row, kv_head * group + i);
                    rotate(simd, from, turn, inputs.heads.scale(), to);
                }
            },
        );
    }

    /// Attention to some slots.
    fn attend<S: Simd>(
        &mut self,
        simd: S,
        source: Source,
        slots: Range<usize>,
        record: &mut [f32],
    ) {
        let head_dim = self.shape.head_dim;
        let start = slots.start / PANEL * PANEL;
        let end = slots.end.next_multiple_of(PANEL);
        let panels = &source.keys[start * head_dim..end * head_dim];
        let values = &source.values[slots.start * head_dim..slots.end * head_dim];
        simd.vectorize(
            #[inline(always)]
            || {
                let Self { query, scores, score_row, .. } = self;
                few::scores(simd, query, head_dim, panels, scores, *score_row);
                self.sum_up(simd, slots.start - start..slots.end - start, values, record);
            },
        );
    }

    /// Attention to the prompt.
    fn attend_prompt<S: Simd>(&mut self, simd: S, prompt: PromptHead, record: &mut [f32]) {
        simd.vectorize(
            #[inline(always)]
            || {
                let Self { query, scores, score_row, .. } = self;
                few::dots(simd, query, self.shape.head_dim, prompt.key, scores, *score_row);
                self.sum_up(simd, 0..prompt.len, prompt.value, record);
            },
        );
    }

    /// Softmax of the scores in `seen`, and the sum of the values, which are only theirs.
    #[inline(always)]
    fn sum_up<S: Simd>(&mut self, simd: S, seen: Range<usize>, values: &[f32], record: &mut [f32]) {
        let Shape { head_dim, width, group } = self.shape;
        let score_row = self.score_row;
        for i in 0..group {
            let row = &mut self.scores[i * score_row..][..score_row];
            let top = highest(simd, row, seen.clone(), MASKED_SCORE);
            let total = weigh(simd, row, seen.clone(), seen.clone(), top);
            let to = &mut record[i * (PROGRESS + width)..];
            (to[0], to[1]) = (top, total);
        }
        let values = if width == head_dim {
            values
        } else {
            widen(values, head_dim, width, self.values);
            &*self.values
        };
        few::weighted(
            simd,
            [group, seen.len(), width],
            (&self.scores[seen.start..], score_row),
            values,
            (&mut record[PROGRESS..], PROGRESS + width),
        );
    }
}
