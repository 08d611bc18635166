//! Attention at all levels and in many shapes, compared with an implementation in f64.

mod any_cut;
mod attention_case;
mod invariants;
mod portable16;
mod reference;

use proptest::prelude::*;

use super::inputs::AttentionDims;
use attention_case::{AttentionCase, CaseShape, KernelOutputs, TestLevel, assert_close};
use reference::reference;

const HEADS: AttentionDims = AttentionDims { heads: 6, kv_heads: 2, head_dim: 16 };

fn case_shape(heads: AttentionDims, sequence_shapes: &[(usize, usize)]) -> CaseShape {
    CaseShape {
        heads,
        sequence_shapes: sequence_shapes.to_vec(),
        gap: 0,
        rotated: true,
        window: None,
        prompt: None,
    }
}

/// Compares all outputs and gradients of all levels with the reference.
#[track_caller]
fn assert_matches_reference(case: &AttentionCase) {
    let expected = reference(&case.inputs(), Some(&case.d_out));
    for level in TestLevel::all() {
        let found = case.run(level);
        let KernelOutputs { out, lse, d_qkv, d_key, d_value, d_gate } = &found;
        for (what, found, expected) in [
            ("out", out, &expected.out),
            ("lse", lse, &expected.lse),
            ("d_qkv", d_qkv, &expected.d_qkv),
            ("d_key", d_key, &expected.d_key),
            ("d_value", d_value, &expected.d_value),
            ("d_gate", d_gate, &expected.d_gate),
        ] {
            assert_close(&format!("{what}, {level:?}"), found, expected);
        }
    }
}

fn any_case_shape() -> impl Strategy<Value = CaseShape> {
    let heads = (1_usize..=3, 1_usize..=5, prop::sample::select(vec![2, 6, 8, 16, 40, 64]));
    let sequence_shapes = prop::collection::vec((1_usize..70, 0_usize..6), 1..4);
    let window = prop::option::of(1_usize..40);
    let prompt = prop::option::of((prop::sample::select(vec![1, 10, 17, 100]), any::<bool>()));
    (heads, sequence_shapes, 0_usize..3, any::<bool>(), window, prompt).prop_map(
        |((kv_heads, group, head_dim), sequence_shapes, gap, rotated, window, prompt)| CaseShape {
            heads: AttentionDims { heads: kv_heads * group, kv_heads, head_dim },
            sequence_shapes,
            gap,
            rotated,
            window,
            prompt,
        },
    )
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 48,
        failure_persistence: None,
        rng_algorithm: prop::test_runner::RngAlgorithm::ChaCha,
        rng_seed: prop::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn forward_and_backward_match_the_reference(shape in any_case_shape(), seed in 1_u32..1000) {
        assert_matches_reference(&AttentionCase::new(&shape, seed));
    }

    #[test]
    fn decoding_in_pieces_matches_one_prefill(
        shape in any_case_shape(),
        pieces in prop::collection::vec(1_usize..9, 0..5),
        spare in 0_usize..20,
    ) {
        let case = AttentionCase::new(&shape, 5);
        let expected = reference(&case.inputs(), None);
        for level in TestLevel::all() {
            let [out, lse] = case.forward_in_pieces(level, &pieces, spare);
            assert_close("out", &out, &expected.out);
            assert_close("lse", &lse, &expected.lse);
        }
    }
}

type Input = fn(&mut AttentionCase) -> &mut Vec<f32>;

#[test]
fn reference_gradients_match_finite_differences() {
    let shape = CaseShape {
        window: Some(4),
        prompt: Some((3, true)),
        ..case_shape(AttentionDims { heads: 2, kv_heads: 1, head_dim: 4 }, &[(6, 1), (3, 0)])
    };
    let mut case = AttentionCase::new(&shape, 11);
    let expected = reference(&case.inputs(), Some(&case.d_out));
    let loss = |case: &AttentionCase| -> f64 {
        let out = reference(&case.inputs(), None).out;
        out.iter().zip(&case.d_out).map(|(out, d_out)| out * f64::from(*d_out)).sum()
    };
    let inputs: [(Input, &[f64]); 4] = [
        (|case| &mut case.qkv, &expected.d_qkv),
        (|case| &mut case.prompt.as_mut().unwrap().key, &expected.d_key),
        (|case| &mut case.prompt.as_mut().unwrap().value, &expected.d_value),
        (|case| &mut case.prompt.as_mut().unwrap().gate, &expected.d_gate),
    ];
    for (input, gradients) in inputs {
        for (i, gradient) in gradients.iter().enumerate() {
            let before = input(&mut case)[i];
            let [(high, above), (low, below)] = [1e-2, -1e-2].map(|step| {
                input(&mut case)[i] = before + step;
                (f64::from(before + step), loss(&case))
            });
            input(&mut case)[i] = before;
            let slope = (above - below) / (high - low);
            assert!((slope - gradient).abs() < 2e-3, "{slope} instead of {gradient}");
        }
    }
}

#[test]
fn one_token_attends_to_itself_and_the_prompt() {
    for prompt in [None, Some((1, false)), Some((10, false)), Some((100, true))] {
        for head_dim in [2, 8, 40, 80] {
            let heads = AttentionDims { heads: 3, kv_heads: 3, head_dim };
            assert_matches_reference(&AttentionCase::new(
                &CaseShape { prompt, ..case_shape(heads, &[(1, 0)]) },
                3,
            ));
        }
    }
}

#[test]
fn sequences_longer_than_blocks_and_chunks_match_the_reference() {
    let heads = AttentionDims { heads: 3, kv_heads: 1, head_dim: 8 };
    for (sequence_shapes, window, prompt) in [
        (&[(700, 0), (1, 0), (130, 3)][..], None, Some((10, true))),
        (&[(1300, 5)][..], Some(150), Some((10, false))),
    ] {
        assert_matches_reference(&AttentionCase::new(
            &CaseShape { window, prompt, ..case_shape(heads, sequence_shapes) },
            2,
        ));
    }
}

#[test]
fn many_heads_may_share_keys() {
    let heads = AttentionDims { heads: 130, kv_heads: 1, head_dim: 8 };
    assert_matches_reference(&AttentionCase::new(
        &CaseShape { prompt: Some((2, false)), ..case_shape(heads, &[(5, 0)]) },
        2,
    ));
}

#[test]
fn a_long_cache_is_read_in_chunks() {
    let heads = AttentionDims { heads: 4, kv_heads: 2, head_dim: 16 };
    for window in [None, Some(600)] {
        let shape = CaseShape {
            window,
            prompt: Some((10, true)),
            ..case_shape(heads, &[(1100, 3), (515, 0)])
        };
        let case = AttentionCase::new(&shape, 9);
        let expected = reference(&case.inputs(), None);
        for level in TestLevel::all() {
            let [out, lse] = case.forward_in_pieces(level, &[500, 1, 12, 1, 585], 1);
            assert_close("out", &out, &expected.out);
            assert_close("lse", &lse, &expected.lse);
        }
    }
}

#[test]
fn prefill_and_decode_match_one_pass() {
    let shape = CaseShape { prompt: Some((10, false)), ..case_shape(HEADS, &[(10, 2), (10, 0)]) };
    let case = AttentionCase::new(&shape, 4);
    let expected = reference(&case.inputs(), None);
    for level in TestLevel::all() {
        let [out, _] = case.forward_in_pieces(level, &[5, 1, 1, 3], 0);
        assert_close("out", &out, &expected.out);
    }
}
