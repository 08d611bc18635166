//! The output of a token depends on its sequence alone, bit for bit.

use std::ops::Range;

use proptest::prelude::*;

use super::super::block_tables::BlockTables;
use super::super::inputs::{AttentionDims, AttentionInputs, KvCacheView, Sequence};
use super::super::outputs::AttentionOutputs;
use super::super::packed_prompts::{PackedPrompt, PromptTable};
use super::super::prompts::{PromptView, Prompts};
use super::attention_case::{AttentionCase, CaseShape, TestLevel};
use super::config;
use super::portable16::Portable16;
use crate::cpu::test_numbers::pseudo_random;
use crate::sizes::BLOCK_TOKENS;

/// Numbers of the distinct prompts' tokens: one is longer than a segment.
const PROMPT_LENS: [usize; 3] = [10, 1, 230];

/// Reproducible random choices.
struct Choices(Vec<f32>);

impl Choices {
    fn new(seed: u32) -> Self {
        Self(pseudo_random(u64::from(seed) + 100, 1 << 14))
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        let choice = self.0.pop().expect("enough choices");
        (choice.midpoint(1.0) * end as f32) as usize % end
    }

    /// Blocks in random order.
    fn shuffled(&mut self, blocks: usize) -> Vec<u32> {
        let mut shuffled = (0..blocks as u32).collect::<Vec<_>>();
        for i in (1..blocks).rev() {
            shuffled.swap(i, self.below(i + 1));
        }
        shuffled
    }
}

/// Heads, prompts' part and log-sum-exps, as bits.
#[derive(Debug, PartialEq)]
struct Outputs([Vec<u32>; 3]);

/// Runs passes of a case, each with some tokens of every sequence.
fn run(
    level: TestLevel,
    case: &AttentionCase,
    prompts: &PromptTable,
    separate_branch: bool,
    choices: &mut Choices,
    piece: impl Fn(&mut Choices, usize) -> usize,
) -> Outputs {
    let AttentionDims { heads, kv_heads, head_dim } = case.heads;
    let blocks_of = |sequence: &Sequence| sequence.len.div_ceil(BLOCK_TOKENS);
    // Some blocks belong to no sequence.
    let blocks = case.sequences.iter().map(blocks_of).sum::<usize>() + 3;
    let size = blocks * kv_heads * BLOCK_TOKENS * head_dim;
    let (mut keys, mut values) = (vec![f32::NAN; size], vec![f32::NAN; size]);
    let mut free = choices.shuffled(blocks);
    let mut tables = BlockTables::new();
    for sequence in &case.sequences {
        tables.push(&free.split_off(free.len() - blocks_of(sequence)));
    }
    let rows = case.rows() * heads;
    let widths = [head_dim, head_dim, 1];
    let mut found = widths.map(|width| vec![0; rows * width]);
    let mut sequences =
        case.sequences.iter().map(|whole| Sequence { len: 0, ..*whole }).collect::<Vec<_>>();
    loop {
        for (now, whole) in sequences.iter_mut().zip(&case.sequences) {
            now.past += now.len;
            now.first_row = whole.first_row + now.past;
            let rest = whole.len - now.past;
            now.len = if rest == 0 { 0 } else { piece(choices, rest).min(rest) };
        }
        let ended = |(now, whole): (&Sequence, &Sequence)| now.past == whole.len;
        if sequences.iter().zip(&case.sequences).all(ended) {
            return Outputs(found);
        }
        let inputs = AttentionInputs {
            sequences: &sequences,
            prompts: Prompts::Listed(prompts),
            ..case.inputs()
        };
        let mut outputs = widths.map(|width| vec![f32::NAN; rows * width]);
        let [out, branch, lse] = &mut outputs;
        let branch = separate_branch.then_some(&mut branch[..]);
        let cache = KvCacheView { keys: &mut keys, values: &mut values, tables: &tables };
        let to = AttentionOutputs { heads: out, branch, lse: Some(lse) };
        level.forward(&inputs, Some(cache), to);
        for ((found, now), width) in found.iter_mut().zip(&outputs).zip(widths) {
            for sequence in &sequences {
                let first = sequence.first_row * heads * width;
                let written = first..first + sequence.len * heads * width;
                for (found, now) in found[written.clone()].iter_mut().zip(&now[written]) {
                    *found = now.to_bits();
                }
            }
        }
    }
}

/// Packed prompts, and a random range of them for each sequence.
fn random_prompts(heads: AttentionDims, sequences: usize, choices: &mut Choices) -> PromptTable {
    let (batches, len) = (PROMPT_LENS.len(), 230);
    let size = batches * heads.kv_heads * len * heads.head_dim;
    let prompt = PromptView {
        key: &pseudo_random(1, size),
        value: &pseudo_random(2, size),
        gate: &pseudo_random(3, batches * heads.heads),
        batches,
        len,
        lens: Some(&PROMPT_LENS),
    };
    let pack = |batch| PackedPrompt::pack(Portable16, heads, &prompt, batch);
    let range = |_sequence| -> Range<u32> {
        let start = choices.below(batches + 1);
        start as u32..(start + choices.below(batches - start + 1)) as u32
    };
    PromptTable {
        prompts: (0..batches).map(pack).collect(),
        of_sequence: (0..sequences).map(range).collect(),
    }
}

fn any_long_case_shape() -> impl Strategy<Value = CaseShape> {
    let head_dims = prop::sample::select(vec![2, 6, 8, 16, 40, 64, 128]);
    let heads = (1_usize..=2, 1_usize..=5, head_dims);
    let lens = prop_oneof![1_usize..40, 150_usize..460];
    let sequence_shapes = prop::collection::vec((lens, 0_usize..6), 1..4);
    let window = prop::option::of(prop_oneof![1_usize..60, 190_usize..300]);
    (heads, sequence_shapes, 0_usize..3, any::<bool>(), window).prop_map(
        |((kv_heads, group, head_dim), sequence_shapes, gap, rotated, window)| CaseShape {
            heads: AttentionDims { heads: kv_heads * group, kv_heads, head_dim },
            sequence_shapes,
            gap,
            rotated,
            window,
            prompt: None,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..config() })]

    #[test]
    fn attention_is_the_same_in_any_cut(
        shape in any_long_case_shape(),
        separate_branch in any::<bool>(),
        seed in 1_u32..1000,
    ) {
        let case = AttentionCase::new(&shape, seed);
        let choices = &mut Choices::new(seed);
        let prompts = random_prompts(case.heads, case.sequences.len(), choices);
        for level in TestLevel::all() {
            let whole = run(level, &case, &prompts, separate_branch, choices, |_, rest| rest);
            // Passes of one token for some sequences, and of several for others.
            let cut = run(level, &case, &prompts, separate_branch, choices, |choices, _| {
                match choices.below(3) {
                    0 => choices.below(2),
                    1 => 1 + choices.below(8),
                    _ => 1 + choices.below(150),
                }
            });
            prop_assert!(whole == cut, "{level:?}");
            for index in 0..case.sequences.len() {
                let alone = AttentionCase { sequences: vec![case.sequences[index]], ..case.clone() };
                let own_prompts = PromptTable {
                    prompts: prompts.prompts.clone(),
                    of_sequence: vec![prompts.of_sequence[index].clone()],
                };
                let alone = run(level, &alone, &own_prompts, separate_branch, choices, |_, _| 97);
                let Sequence { first_row, len, .. } = case.sequences[index];
                for (alone, whole) in alone.0.iter().zip(&whole.0) {
                    let width = whole.len() / case.rows();
                    let rows = first_row * width..(first_row + len) * width;
                    prop_assert!(alone[rows.clone()] == whole[rows], "{level:?}, {index} alone");
                }
            }
        }
    }
}

#[test]
fn decoding_token_by_token_equals_one_pass() {
    let shape = CaseShape {
        heads: AttentionDims { heads: 3, kv_heads: 1, head_dim: 64 },
        sequence_shapes: vec![(700, 0)],
        gap: 0,
        rotated: true,
        window: None,
        prompt: None,
    };
    let case = AttentionCase::new(&shape, 3);
    let choices = &mut Choices::new(3);
    let prompts = random_prompts(case.heads, 1, choices);
    for level in TestLevel::all() {
        let whole = run(level, &case, &prompts, false, choices, |_, rest| rest);
        let tokens = run(level, &case, &prompts, false, choices, |_, _| 1);
        assert!(whole == tokens, "{level:?}");
    }
}
