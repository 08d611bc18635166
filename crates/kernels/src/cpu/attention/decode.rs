//! Attention with one new token per sequence: few rows and many keys. Segments of the positions are
//! divided among tasks, so that all threads read them. Each segment has its own sums, which are
//! combined in order.

use std::ops::Range;

use crate::cpu::simd::Simd;
use crate::cpu::threads::{SharedSlice, parallel_for_if_worth};
use crate::sizes::{BLOCK_TOKENS, PANEL};

use super::buffers::with_buffers;
use super::group_shape::GroupShape;
use super::inputs::{AttentionDims, AttentionInputs, Sequence};
use super::key_panels::pad_rows;
use super::kv_span::{KeyValueView, KvSpan};
use super::mask::AttentionMask;
use super::online_softmax::{OnlineSoftmax, SCORE_STRIDE, SEGMENT};
use super::outputs::SharedOutputs;
use super::packed_prompts::PackedPrompts;
use super::small_batch;
use super::softmax::{MASKED_SCORE, row_max, softmax_weights};

/// Panels of a block.
const BLOCK_PANELS: usize = BLOCK_TOKENS / PANEL;
/// Segments of one task.
const SEGMENTS_PER_TASK: usize = 3;

/// Attention of the sequences with exactly one new token; `stores` has its key and value already.
pub fn decode<S: Simd>(
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
    let (sequences, records) = plan(inputs, prompts);
    let tasks = sequences.iter().flat_map(DecodeSequence::tasks).collect::<Vec<_>>();
    let multiply_adds: usize =
        sequences.iter().map(|sequence| 2 * sequence.visible.len() * heads * head_dim).sum();
    let record_len = record_len(shape);
    with_buffers([records * kv_heads * record_len], |[buffer]| {
        let shared = SharedSlice::new(buffer);
        parallel_for_if_worth(multiply_adds, tasks.len() * kv_heads, |task| {
            let ((sequence, first), kv_head) = (tasks[task / kv_heads], task % kv_heads);
            let &DecodeSequence { index, ref visible, ref segments, .. } = sequence;
            let record = |number: usize| {
                let start = sequence.record(kv_heads, kv_head, number) * record_len;
                // SAFETY: each task accesses the records of its segments, and the task of the first
                // segment also those of the prompts.
                record_sums(shape, unsafe { shared.slice_mut(start, record_len) })
            };
            let values_len = if width == head_dim { 0 } else { SEGMENT * width };
            let lens = [group * head_dim, group * SCORE_STRIDE, values_len];
            with_buffers(lens, |[query, scores, values]| {
                inputs.load_queries(simd, inputs.sequences[index].first_row, kv_head, query);
                let mut heads = DecodeGroup { shape, query, scores, values };
                let source = KeyValueView::new(stores, spans[index].of_head(inputs.heads, kv_head));
                let end = segments.len().min(first + SEGMENTS_PER_TASK);
                for number in first..end {
                    let segment = segments.start + number;
                    heads.attend(simd, source, visible, segment, &mut record(number));
                }
                if first > 0 {
                    return;
                }
                let mut number = segments.len();
                for prompt in 0..prompts.count(index) {
                    let head = prompts.head(inputs.heads, [index, prompt, kv_head]);
                    for segment in 0..head.len.div_ceil(SEGMENT) {
                        if head.is_active() {
                            let mut sums = record(number);
                            heads.attend(simd, head.key_values, &(0..head.len), segment, &mut sums);
                        }
                        number += 1;
                    }
                }
            });
        });
        let combined = records * kv_heads * group * width;
        parallel_for_if_worth(combined, sequences.len() * kv_heads, |task| {
            let (sequence, kv_head) = (&sequences[task / kv_heads], task % kv_heads);
            let DecodeSequence { index, ref segments, .. } = *sequence;
            let first = inputs.sequences[index].first_row * heads + kv_head * group;
            with_buffers(OnlineSoftmax::buffers(shape, group), |sums| {
                let mut sums = OnlineSoftmax::new(sums);
                let combine = |records: Range<usize>, sums: &mut OnlineSoftmax| {
                    sums.reset();
                    for number in records {
                        let start = sequence.record(kv_heads, kv_head, number) * record_len;
                        // SAFETY: each task accesses the records of one KV head of one sequence.
                        let record =
                            record_sums(shape, unsafe { shared.slice_mut(start, record_len) });
                        simd.vectorize(
                            #[inline(always)]
                            || sums.combine(simd, &record, width),
                        );
                    }
                };
                combine(0..segments.len(), &mut sums);
                simd.vectorize(
                    #[inline(always)]
                    || {
                        for row in 0..group {
                            // SAFETY: each task accesses its own heads of its own row.
                            unsafe { outputs.write_text(simd, first + row, &sums, row, width) };
                        }
                    },
                );
                let mut number = segments.len();
                for prompt in 0..prompts.count(index) {
                    let head = prompts.head(inputs.heads, [index, prompt, kv_head]);
                    let end = number + head.len.div_ceil(SEGMENT);
                    if head.is_active() {
                        combine(number..end, &mut sums);
                        simd.vectorize(
                            #[inline(always)]
                            || {
                                for (row, &gate) in head.gate.iter().enumerate() {
                                    let at = first + row;
                                    // SAFETY: as above.
                                    unsafe {
                                        outputs.add_prompt(simd, at, gate, &sums, row, width);
                                    }
                                }
                            },
                        );
                    }
                    number = end;
                }
            });
        });
    });
}

/// A sequence with one new token.
#[derive(Debug)]
struct DecodeSequence {
    /// Index of the sequence.
    index: usize,
    /// The positions that the token attends to.
    visible: Range<usize>,
    /// The segments that these positions are in.
    segments: Range<usize>,
    /// Number of records of the sequences before it, for each KV head.
    first_record: usize,
    /// Number of records of a KV head: one for each segment of the text, then of each prompt.
    records: usize,
}

impl DecodeSequence {
    /// This sequence with the first segment of each task.
    fn tasks(&self) -> impl Iterator<Item = (&Self, usize)> {
        (0..self.segments.len()).step_by(SEGMENTS_PER_TASK).map(move |first| (self, first))
    }

    /// The index of a record among those of all sequences.
    fn record(&self, kv_heads: usize, kv_head: usize, number: usize) -> usize {
        self.first_record * kv_heads + kv_head * self.records + number
    }
}

/// The sequences with one new token, and the number of records of each KV head.
fn plan(inputs: &AttentionInputs, prompts: PackedPrompts) -> (Vec<DecodeSequence>, usize) {
    let mut first_record = 0;
    let sequences = inputs.sequences.iter().enumerate();
    let sequences = sequences
        .filter(|(_, sequence)| is_decoded(sequence))
        .map(|(index, sequence)| {
            let visible = AttentionMask::causal(sequence, 0, inputs.window).visible_positions(0);
            let segments = visible.start / SEGMENT..visible.end.div_ceil(SEGMENT);
            let prompt_records = (0..prompts.count(index))
                .map(|prompt| prompts.head(inputs.heads, [index, prompt, 0]).len.div_ceil(SEGMENT));
            let records = segments.len() + prompt_records.sum::<usize>();
            first_record += records;
            let first_record = first_record - records;
            DecodeSequence { index, visible, segments, first_record, records }
        })
        .collect();
    (sequences, first_record)
}

/// Whether a sequence has exactly one new token.
pub fn is_decoded(sequence: &Sequence) -> bool {
    sequence.len == 1
}

/// Elements of a record: maxima and denominators of a group, each in whole cache lines, then sums
/// of values.
fn record_len(shape: GroupShape) -> usize {
    2 * shape.group.next_multiple_of(PANEL) + shape.group * shape.width
}

/// The sums in a record.
fn record_sums(shape: GroupShape, record: &mut [f32]) -> OnlineSoftmax<'_> {
    let header = shape.group.next_multiple_of(PANEL);
    let (maxima, rest) = record.split_at_mut(header);
    let (denominators, values) = rest.split_at_mut(header);
    let [maxima, denominators] = [maxima, denominators].map(|header| &mut header[..shape.group]);
    OnlineSoftmax { maxima, denominators, values }
}

/// The query heads of one token that share keys, and buffers for their attention.
struct DecodeGroup<'a> {
    shape: GroupShape,
    /// Rotated and scaled, `[group, head_dim]`.
    query: &'a [f32],
    /// `[group, SCORE_STRIDE]`
    scores: &'a mut [f32],
    /// Buffer for values padded to whole vectors, if heads are not whole vectors.
    values: &'a mut [f32],
}

impl DecodeGroup<'_> {
    /// Attention to the visible positions of a segment.
    fn attend<S: Simd>(
        &mut self,
        simd: S,
        source: KeyValueView,
        visible: &Range<usize>,
        segment: usize,
        sums: &mut OnlineSoftmax,
    ) {
        let GroupShape { head_dim, width, group } = self.shape;
        let start = segment * SEGMENT;
        let positions = visible.start.max(start)..visible.end.min(start + SEGMENT);
        let first_panel = positions.start / PANEL;
        let count = positions.end.div_ceil(PANEL) - first_panel;
        let mut panels = [&[][..]; SEGMENT / PANEL];
        for (panel, to) in (first_panel..).zip(&mut panels[..count]) {
            let keys = source.block_keys(panel / BLOCK_PANELS);
            *to = &keys[panel % BLOCK_PANELS * PANEL * head_dim..][..PANEL * head_dim];
        }
        simd.vectorize(
            #[inline(always)]
            || {
                let Self { query, scores, values: padded, .. } = self;
                let to = &mut scores[first_panel * PANEL - start..];
                small_batch::scores(simd, query, head_dim, &panels[..count], to, SCORE_STRIDE);
                let visible = positions.start - start..positions.end - start;
                for i in 0..group {
                    let row = &mut scores[i * SCORE_STRIDE..][..SCORE_STRIDE];
                    let max = row_max(simd, row, visible.clone(), MASKED_SCORE);
                    sums.maxima[i] = max;
                    sums.denominators[i] =
                        softmax_weights(simd, row, visible.clone(), visible.clone(), max);
                }
                sums.values.fill(0.0);
                for (positions, values) in source.value_runs(positions) {
                    let values = if width == head_dim {
                        values
                    } else {
                        pad_rows(values, head_dim, width, padded);
                        &**padded
                    };
                    small_batch::continue_weighted_sum(
                        simd,
                        [group, positions.len(), width],
                        (&scores[positions.start - start..], SCORE_STRIDE),
                        values,
                        sums.values,
                    );
                }
            },
        );
    }
}
