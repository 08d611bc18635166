//! Properties that hold bit for bit, and arguments that panic.

use super::super::block_tables::BlockTables;
use super::super::inputs::{AttentionDims, KvCacheView};
use super::super::outputs::AttentionOutputs;
use super::super::prompts::PromptGradients;
use super::super::query_gradients::BackwardInputs;
use super::attention_case::{AttentionCase, CaseShape, TestLevel};
use super::{HEADS, case_shape};
use crate::sizes::BLOCK_TOKENS;

#[test]
fn zero_gates_change_no_bit() {
    let with_prompt =
        CaseShape { prompt: Some((10, false)), ..case_shape(HEADS, &[(40, 0), (3, 0)]) };
    for zero_gates in [&[0, 1, 2, 3, 4, 5][..], &[1, 3, 5]] {
        let mut case = AttentionCase::new(&with_prompt, 6);
        let prompt = case.prompt.as_mut().unwrap();
        for &head in zero_gates {
            prompt.gate[head] = 0.0;
        }
        let without_prompt =
            AttentionCase::new(&CaseShape { prompt: None, ..with_prompt.clone() }, 6);
        for level in TestLevel::all() {
            for pieces in [&[][..], &[2, 1]] {
                let [found, found_lse] = case.forward_in_pieces(level, pieces, 0);
                let [expected, expected_lse] = without_prompt.forward_in_pieces(level, pieces, 0);
                assert_eq!(found_lse, expected_lse);
                for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let head = i / HEADS.head_dim % HEADS.heads;
                    assert_eq!(found.to_bits() == expected.to_bits(), zero_gates.contains(&head));
                }
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let heads = AttentionDims { heads: 4, kv_heads: 2, head_dim: 16 };
    let shape = CaseShape {
        prompt: Some((10, false)),
        ..case_shape(heads, &[(1200, 0), (300, 0), (90, 0)])
    };
    let case = AttentionCase::new(&shape, 8);
    let [one, two] = [1, 2].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let level = TestLevel::best();
            (case.run(level), case.forward_in_pieces(level, &[1198, 1], 0))
        })
    });
    assert!(one == two);
}

#[test]
fn a_sequence_in_a_batch_equals_that_sequence_alone() {
    let level = TestLevel::best();
    let pair =
        AttentionCase::new(&CaseShape { gap: 2, ..case_shape(HEADS, &[(33, 0), (50, 4)]) }, 8);
    let mut alone = AttentionCase {
        sequences: vec![pair.sequences[1]],
        ..AttentionCase::new(&case_shape(HEADS, &[]), 1)
    };
    (alone.qkv, alone.rotation) = (pair.qkv.clone(), pair.rotation.clone());
    let ([both, _], [one, _]) = (pair.forward(level), alone.forward(level));
    let start = pair.sequences[1].first_row * HEADS.heads * HEADS.head_dim;
    assert_eq!(both[start..], one[start..]);
    assert!(one[..start].iter().all(|&x| x == 0.0));
}

#[test]
fn gradients_can_be_requested_separately() {
    let shape =
        CaseShape { prompt: Some((10, true)), gap: 1, ..case_shape(HEADS, &[(40, 0), (600, 0)]) };
    let case = AttentionCase::new(&shape, 8);
    let level = TestLevel::best();
    let all = case.run(level);
    let mut d_qkv = vec![f32::NAN; case.qkv.len()];
    let saved = BackwardInputs { out: &all.out, lse: &all.lse, d_out: &case.d_out };
    level.backward(&case.inputs(), saved, Some(&mut d_qkv), None);
    assert_eq!(d_qkv, all.d_qkv);
    let [mut key, mut value, mut gate] =
        [&all.d_key, &all.d_value, &all.d_gate].map(|x| vec![f32::NAN; x.len()]);
    let d_prompt = PromptGradients { key: &mut key, value: &mut value, gate: &mut gate };
    level.backward(&case.inputs(), saved, None, Some(d_prompt));
    assert_eq!([key, value, gate], [all.d_key, all.d_value, all.d_gate]);
}

#[test]
fn an_empty_prompt_adds_nothing() {
    let with_prompt = CaseShape { prompt: Some((3, false)), ..case_shape(HEADS, &[(20, 0)]) };
    let mut case = AttentionCase::new(&with_prompt, 6);
    case.prompt.as_mut().unwrap().lens = vec![0];
    let without_prompt = AttentionCase::new(&CaseShape { prompt: None, ..with_prompt }, 6);
    let level = TestLevel::best();
    let (found, expected) = (case.run(level), without_prompt.run(level));
    assert_eq!((found.out, found.d_qkv), (expected.out, expected.d_qkv));
    assert!(found.d_key.iter().chain(&found.d_value).chain(&found.d_gate).all(|&x| x == 0.0));
}

#[test]
fn empty_sequences_and_batches_are_accepted() {
    let mut case = AttentionCase::new(&case_shape(HEADS, &[(4, 0), (3, 0)]), 6);
    case.sequences[0].len = 0;
    let found = case.run(TestLevel::best());
    assert_eq!(found.out[..4 * 96], [0.0; 4 * 96]);
    case.sequences.clear();
    let found = case.run(TestLevel::best());
    assert!(found.out.iter().chain(&found.d_qkv).all(|&x| x == 0.0));
}

#[test]
#[should_panic(expected = "two sequences have row 3")]
fn sequences_that_share_rows_panic() {
    let mut case = AttentionCase::new(&case_shape(HEADS, &[(4, 0), (3, 0)]), 6);
    case.sequences[1].first_row = 3;
    case.forward(TestLevel::best());
}

#[test]
#[should_panic(expected = "a past of 3 tokens without a cache")]
fn a_past_without_a_cache_panics() {
    let mut case = AttentionCase::new(&case_shape(HEADS, &[(4, 0)]), 6);
    case.sequences[0].past = 3;
    case.forward(TestLevel::best());
}

#[test]
#[should_panic(expected = "cosines: 31 elements instead of 32")]
fn a_rotary_table_of_the_wrong_length_panics() {
    let mut case = AttentionCase::new(&case_shape(HEADS, &[(4, 0)]), 6);
    case.rotation.as_mut().unwrap()[0].pop();
    case.forward(TestLevel::best());
}

/// Runs a case with a cache of two blocks.
fn forward_with_blocks(case: &AttentionCase, blocks: &[&[u32]]) {
    let mut tables = BlockTables::new();
    for blocks in blocks {
        tables.push(blocks);
    }
    let size = 2 * HEADS.kv_heads * BLOCK_TOKENS * HEADS.head_dim;
    let (mut keys, mut values) = (vec![0.0; size], vec![0.0; size]);
    let cache = KvCacheView { keys: &mut keys, values: &mut values, tables: &tables };
    let mut out = vec![0.0; case.rows() * HEADS.heads * HEADS.head_dim];
    let outputs = AttentionOutputs { heads: &mut out, branch: None, lse: None };
    TestLevel::best().forward(&case.inputs(), Some(cache), outputs);
}

#[test]
fn sequences_may_share_blocks_of_their_past() {
    let mut case = AttentionCase::new(&case_shape(HEADS, &[(4, 0), (3, 0)]), 6);
    case.sequences[1].past = 32;
    forward_with_blocks(&case, &[&[0], &[0, 1]]);
}

#[test]
#[should_panic(expected = "two sequences write to block 1")]
fn sequences_that_write_to_the_same_block_panic() {
    let case = AttentionCase::new(&case_shape(HEADS, &[(4, 0), (3, 0)]), 6);
    forward_with_blocks(&case, &[&[1], &[1]]);
}

#[test]
#[should_panic(expected = "30 + 3 tokens exceed the sequence's 1 blocks of 32")]
fn a_sequence_that_exceeds_its_blocks_panics() {
    let mut case = AttentionCase::new(&case_shape(HEADS, &[(3, 0)]), 6);
    case.sequences[0].past = 30;
    forward_with_blocks(&case, &[&[1]]);
}

#[test]
#[should_panic(expected = "block 2 of a cache of 2 blocks")]
fn a_block_that_the_cache_lacks_panics() {
    let case = AttentionCase::new(&case_shape(HEADS, &[(3, 0)]), 6);
    forward_with_blocks(&case, &[&[2]]);
}
