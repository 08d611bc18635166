//! Against an implementation in f64, at all levels and many sizes.

mod case;
mod reference;
mod wide;

use proptest::prelude::*;

use super::{backward::Given, *};
use case::{Case, Found, On, Sizes, assert_close};
use reference::reference;

const HEADS: AttentionDims = AttentionDims { heads: 6, kv_heads: 2, head_dim: 16 };

fn sizes(heads: AttentionDims, texts: &[(usize, usize)]) -> Sizes {
    Sizes { heads, texts: texts.to_vec(), gap: 0, rotated: true, window: None, prompt: None }
}

/// All outputs and gradients of all levels against the reference.
#[track_caller]
fn assert_right(case: &Case) {
    let right = reference(&case.inputs(), Some(&case.d_out));
    for on in On::all() {
        let found = case.all(on);
        let Found { out, lse, d_qkv, d_key, d_value, d_gate } = &found;
        for (what, found, expected) in [
            ("out", out, &right.out),
            ("lse", lse, &right.lse),
            ("d_qkv", d_qkv, &right.d_qkv),
            ("d_key", d_key, &right.d_key),
            ("d_value", d_value, &right.d_value),
            ("d_gate", d_gate, &right.d_gate),
        ] {
            assert_close(&format!("{what}, {on:?}"), found, expected);
        }
    }
}

fn any_sizes() -> impl Strategy<Value = Sizes> {
    let heads = (1_usize..=3, 1_usize..=5, prop::sample::select(vec![2, 6, 8, 16, 40, 64]));
    let texts = prop::collection::vec((1_usize..70, 0_usize..6), 1..4);
    let window = prop::option::of(1_usize..40);
    let prompt = prop::option::of((prop::sample::select(vec![1, 10, 17, 100]), any::<bool>()));
    (heads, texts, 0_usize..3, any::<bool>(), window, prompt).prop_map(
        |((kv_heads, group, head_dim), texts, gap, rotated, window, prompt)| Sizes {
            heads: AttentionDims { heads: kv_heads * group, kv_heads, head_dim },
            texts,
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
    fn forward_and_backward_are_those_of_the_definition(sizes in any_sizes(), seed in 1_u32..1000) {
        assert_right(&Case::new(&sizes, seed));
    }

    #[test]
    fn tokens_in_pieces_are_tokens_at_once(
        sizes in any_sizes(),
        pieces in prop::collection::vec(1_usize..9, 0..5),
        spare in 0_usize..20,
    ) {
        let case = Case::new(&sizes, 5);
        let right = reference(&case.inputs(), None);
        for on in On::all() {
            let [out, lse] = case.forward_in_pieces(on, &pieces, spare);
            assert_close("out", &out, &right.out);
            assert_close("lse", &lse, &right.lse);
        }
    }
}

type Part = fn(&mut Case) -> &mut Vec<f32>;

#[test]
fn the_definition_agrees_with_finite_differences() {
    let sizes = Sizes {
        window: Some(4),
        prompt: Some((3, true)),
        ..sizes(AttentionDims { heads: 2, kv_heads: 1, head_dim: 4 }, &[(6, 1), (3, 0)])
    };
    let mut case = Case::new(&sizes, 11);
    let right = reference(&case.inputs(), Some(&case.d_out));
    let loss = |case: &Case| -> f64 {
        let out = reference(&case.inputs(), None).out;
        out.iter().zip(&case.d_out).map(|(out, d_out)| out * f64::from(*d_out)).sum()
    };
    let parts: [(Part, &[f64]); 4] = [
        (|case| &mut case.qkv, &right.d_qkv),
        (|case| &mut case.prompt.as_mut().unwrap().key, &right.d_key),
        (|case| &mut case.prompt.as_mut().unwrap().value, &right.d_value),
        (|case| &mut case.prompt.as_mut().unwrap().gate, &right.d_gate),
    ];
    for (part, gradients) in parts {
        for (i, gradient) in gradients.iter().enumerate() {
            let before = part(&mut case)[i];
            let [(high, above), (low, below)] = [1e-2, -1e-2].map(|step| {
                part(&mut case)[i] = before + step;
                (f64::from(before + step), loss(&case))
            });
            part(&mut case)[i] = before;
            let slope = (above - below) / (high - low);
            assert!((slope - gradient).abs() < 2e-3, "{slope} instead of {gradient}");
        }
    }
}

#[test]
fn one_row_sees_itself_and_the_prompt() {
    for prompt in [None, Some((1, false)), Some((10, false)), Some((100, true))] {
        for head_dim in [2, 8, 40, 80] {
            let heads = AttentionDims { heads: 3, kv_heads: 3, head_dim };
            assert_right(&Case::new(&Sizes { prompt, ..sizes(heads, &[(1, 0)]) }, 3));
        }
    }
}

#[test]
fn texts_longer_than_blocks_and_chunks_are_right() {
    let heads = AttentionDims { heads: 3, kv_heads: 1, head_dim: 8 };
    for (texts, window, prompt) in [
        (&[(700, 0), (1, 0), (130, 3)][..], None, Some((10, true))),
        (&[(1300, 5)][..], Some(150), Some((10, false))),
    ] {
        assert_right(&Case::new(&Sizes { window, prompt, ..sizes(heads, texts) }, 2));
    }
}

#[test]
fn many_heads_may_share_keys() {
    let heads = AttentionDims { heads: 130, kv_heads: 1, head_dim: 8 };
    assert_right(&Case::new(&Sizes { prompt: Some((2, false)), ..sizes(heads, &[(5, 0)]) }, 2));
}

#[test]
fn a_long_cache_is_read_in_chunks() {
    let heads = AttentionDims { heads: 4, kv_heads: 2, head_dim: 16 };
    for window in [None, Some(600)] {
        let sizes =
            Sizes { window, prompt: Some((10, true)), ..sizes(heads, &[(1100, 3), (515, 0)]) };
        let case = Case::new(&sizes, 9);
        let right = reference(&case.inputs(), None);
        for on in On::all() {
            let [out, lse] = case.forward_in_pieces(on, &[500, 1, 12, 1, 585], 1);
            assert_close("out", &out, &right.out);
            assert_close("lse", &lse, &right.lse);
        }
    }
}

#[test]
fn prefill_and_single_tokens_are_the_whole() {
    let sizes = Sizes { prompt: Some((10, false)), ..sizes(HEADS, &[(10, 2), (10, 0)]) };
    let case = Case::new(&sizes, 4);
    let right = reference(&case.inputs(), None);
    for on in On::all() {
        let [out, _] = case.forward_in_pieces(on, &[5, 1, 1, 3], 0);
        assert_close("out", &out, &right.out);
    }
}

#[test]
fn closed_gates_leave_every_bit_alone() {
    let with = Sizes { prompt: Some((10, false)), ..sizes(HEADS, &[(40, 0), (3, 0)]) };
    for closed in [&[0, 1, 2, 3, 4, 5][..], &[1, 3, 5]] {
        let mut case = Case::new(&with, 6);
        let prompt = case.prompt.as_mut().unwrap();
        for &head in closed {
            prompt.gate[head] = 0.0;
        }
        let alone = Case::new(&Sizes { prompt: None, ..with.clone() }, 6);
        for on in On::all() {
            for pieces in [&[][..], &[2, 1]] {
                let [found, found_lse] = case.forward_in_pieces(on, pieces, 0);
                let [expected, expected_lse] = alone.forward_in_pieces(on, pieces, 0);
                assert_eq!(found_lse, expected_lse);
                for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let head = i / HEADS.head_dim % HEADS.heads;
                    assert_eq!(found.to_bits() == expected.to_bits(), closed.contains(&head));
                }
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let heads = AttentionDims { heads: 4, kv_heads: 2, head_dim: 16 };
    let sizes =
        Sizes { prompt: Some((10, false)), ..sizes(heads, &[(1200, 0), (300, 0), (90, 0)]) };
    let case = Case::new(&sizes, 8);
    let [one, two] = [1, 2].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let on = On::best();
            (case.all(on), case.forward_in_pieces(on, &[1198, 1], 0))
        })
    });
    assert!(one == two);
}

#[test]
fn a_text_in_a_batch_is_that_text_alone() {
    let on = On::best();
    let pair = Case::new(&Sizes { gap: 2, ..sizes(HEADS, &[(33, 0), (50, 4)]) }, 8);
    let mut alone = Case { sequences: vec![pair.sequences[1]], ..Case::new(&sizes(HEADS, &[]), 1) };
    (alone.qkv, alone.rotation) = (pair.qkv.clone(), pair.rotation.clone());
    let ([both, _], [one, _]) = (pair.forward(on), alone.forward(on));
    let start = pair.sequences[1].first_row * HEADS.heads * HEADS.head_dim;
    assert_eq!(both[start..], one[start..]);
    assert!(one[..start].iter().all(|&x| x == 0.0));
}

#[test]
fn gradients_may_be_asked_for_one_by_one() {
    let sizes = Sizes { prompt: Some((10, true)), gap: 1, ..sizes(HEADS, &[(40, 0), (600, 0)]) };
    let case = Case::new(&sizes, 8);
    let on = On::best();
    let all = case.all(on);
    let mut d_qkv = vec![f32::NAN; case.qkv.len()];
    let given = Given { out: &all.out, lse: &all.lse, d_out: &case.d_out };
    on.backward(&case.inputs(), given, Some(&mut d_qkv), None);
    assert_eq!(d_qkv, all.d_qkv);
    let [mut key, mut value, mut gate] =
        [&all.d_key, &all.d_value, &all.d_gate].map(|x| vec![f32::NAN; x.len()]);
    let d_prompt = PromptGradients { key: &mut key, value: &mut value, gate: &mut gate };
    on.backward(&case.inputs(), given, None, Some(d_prompt));
    assert_eq!([key, value, gate], [all.d_key, all.d_value, all.d_gate]);
}

#[test]
fn an_empty_prompt_adds_nothing() {
    let with = Sizes { prompt: Some((3, false)), ..sizes(HEADS, &[(20, 0)]) };
    let mut case = Case::new(&with, 6);
    case.prompt.as_mut().unwrap().lens = vec![0];
    let alone = Case::new(&Sizes { prompt: None, ..with }, 6);
    let on = On::best();
    let (found, expected) = (case.all(on), alone.all(on));
    assert_eq!((found.out, found.d_qkv), (expected.out, expected.d_qkv));
    assert!(found.d_key.iter().chain(&found.d_value).chain(&found.d_gate).all(|&x| x == 0.0));
}

#[test]
fn no_sequences_and_empty_ones_are_fine() {
    let mut case = Case::new(&sizes(HEADS, &[(4, 0), (3, 0)]), 6);
    case.sequences[0].len = 0;
    let found = case.all(On::best());
    assert_eq!(found.out[..4 * 96], [0.0; 4 * 96]);
    case.sequences.clear();
    let found = case.all(On::best());
    assert!(found.out.iter().chain(&found.d_qkv).all(|&x| x == 0.0));
}

#[test]
#[should_panic(expected = "two sequences have row 3")]
fn sequences_share_no_rows() {
    let mut case = Case::new(&sizes(HEADS, &[(4, 0), (3, 0)]), 6);
    case.sequences[1].first_row = 3;
    case.forward(On::best());
}

#[test]
#[should_panic(expected = "a past of 3 tokens without a cache")]
fn a_past_needs_a_cache() {
    let mut case = Case::new(&sizes(HEADS, &[(4, 0)]), 6);
    case.sequences[0].past = 3;
    case.forward(On::best());
}

#[test]
#[should_panic(expected = "cosines: 31 numbers instead of 32")]
fn angles_are_one_row_a_row() {
    let mut case = Case::new(&sizes(HEADS, &[(4, 0)]), 6);
    case.rotation.as_mut().unwrap()[0].pop();
    case.forward(On::best());
}
