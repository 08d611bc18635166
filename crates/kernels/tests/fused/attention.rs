//! Attention: gradients, cache, shared prefixes.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, TensorData};
use kernels::{
    AttentionDims, BlockTables, DeviceTables, FusedKvCache, GatedPrompt, PackedPrompt, PromptTable,
    RotaryTable, Sequence, SequenceLayout, attention, cached_attention,
};
use testing::{assert_close, flex};

use crate::{check, random};

const HEADS: AttentionDims = AttentionDims { heads: 4, kv_heads: 2, head_dim: 8 };
/// Lengths of two sequences.
const LENS: [usize; 2] = [5, 2];
const WIDTH: usize = 8 * 8;

fn layout(past: usize) -> SequenceLayout {
    let mut first_row = 0;
    let sequences = LENS.map(|len| {
        first_row += len;
        Sequence { first_row: first_row - len, len, past, padding: 0 }
    });
    // One radian per token, the same for every pair.
    let angles = LENS.iter().flat_map(|len| (0..*len).flat_map(|at| [(at + past) as f32; 4]));
    let (sin, cos) = angles.map(f32::sin_cos).unzip();
    SequenceLayout {
        sequences: Arc::new(sequences.to_vec()),
        token_rows: None,
        block_tables: None,
        rotary_table: Some(Arc::new(RotaryTable::new(cos, sin))),
        device_tables: DeviceTables::default(),
    }
}

/// Attention of each sequence by itself, composed of tensor operations.
fn plain_attention(qkv: Tensor<2>, layout: &SequenceLayout, prompt: &GatedPrompt) -> Tensor<2> {
    let AttentionDims { heads, kv_heads, head_dim } = HEADS;
    let rotary_table = layout.rotary_table.as_ref().unwrap();
    let outputs = layout.sequences.iter().map(|sequence| {
        let Sequence { first_row, len, .. } = *sequence;
        let part = |from: usize, count: usize| {
            let part = qkv.clone().narrow(0, first_row, len);
            let part = part.narrow(1, from * head_dim, count * head_dim);
            part.reshape([1, len, count, head_dim]).swap_dims(1, 2)
        };
        let table = |half: &[f32]| {
            let half = half[first_row * head_dim / 2..][..len * head_dim / 2].to_vec();
            let half = TensorData::new(half, [1, 1, len, head_dim / 2]);
            let half = Tensor::<4>::from_data(half, &flex());
            Tensor::cat(vec![half.clone(), half], 3)
        };
        let rotate = |x: Tensor<4>| {
            let (a, b) = (x.clone().narrow(3, 0, 4), x.clone().narrow(3, 4, 4));
            x * table(rotary_table.cos())
                + Tensor::cat(vec![b.neg(), a], 3) * table(rotary_table.sin())
        };
        let repeat = |x: Tensor<4>| {
            let x = x.unsqueeze_dim::<5>(2).expand([1, kv_heads, heads / kv_heads, len, head_dim]);
            x.reshape([1, heads, len, head_dim])
        };
        let query = rotate(part(0, heads));
        let (key, value) = (rotate(part(heads, kv_heads)), part(heads + kv_heads, kv_heads));
        let scores = query.clone().matmul(repeat(key).transpose()) / (head_dim as f64).sqrt();
        let mask = Tensor::<2>::ones([len, len], &flex()).triu(1) * -1e30;
        let attended = softmax(scores + mask.unsqueeze(), 3).matmul(repeat(value));
        let out = attended + prompt.forward(query);
        out.swap_dims(1, 2).reshape([len, heads * head_dim])
    });
    Tensor::cat(outputs.collect(), 0)
}

/// The rotated queries of the first sequence, `[1, heads, 5, head_dim]`.
fn plain_queries(qkv: &Tensor<2>, layout: &SequenceLayout) -> Tensor<4> {
    let table = layout.rotary_table.as_ref().unwrap();
    let angles = |half: &[f32]| {
        let half = TensorData::new(half[..5 * 4].to_vec(), [1, 1, 5, 4]);
        Tensor::<4>::from_data(half, &flex())
    };
    let (cos, sin) = (angles(table.cos()), angles(table.sin()));
    let query = qkv.clone().narrow(0, 0, 5).narrow(1, 0, 32).reshape([1, 5, 4, 8]);
    let query = query.swap_dims(1, 2);
    let (a, b) = (query.clone().narrow(3, 0, 4), query.narrow(3, 4, 4));
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    Tensor::cat(vec![first, b * cos + a * sin], 3)
}

#[test]
fn attention_with_a_prompt_shared_by_all_sequences() {
    let layout = layout(0);
    let rows = LENS.iter().sum();
    let gate = random([4]);
    let prompt = |[key, value]: [Tensor<2>; 2], gate: &Tensor<1>| {
        let heads = |x: Tensor<2>| x.reshape([1, 3, 2, 8]).swap_dims(1, 2);
        let gate = gate.clone().reshape([1, 4, 1, 1]);
        GatedPrompt { key: heads(key), value: heads(value), gate, lens: None }
    };
    // The prompt is passed as rows of the same width, so that it is a leaf too.
    let split = |all: Tensor<2>| {
        let rows_of = |from| all.clone().narrow(0, from, 3).narrow(1, 0, 16);
        (all.clone().narrow(0, 0, rows), [rows_of(rows), rows_of(rows + 3)])
    };
    check(
        "attention",
        [random([rows + 6, WIDTH])],
        |[all]| {
            let (qkv, prompt_rows) = split(all);
            attention(qkv, HEADS, &layout, None, Some(&prompt(prompt_rows, &gate)))
        },
        |[all]| {
            let (qkv, prompt_rows) = split(all);
            plain_attention(qkv, &layout, &prompt(prompt_rows, &gate))
        },
    );
    // One gate per head, and one for all heads.
    let qkv = random([rows, WIDTH]);
    let prompt_rows = [random([3, 16]), random([3, 16])];
    check(
        "gates",
        [gate.clone()],
        |[gate]| {
            let prompt = prompt(prompt_rows.clone(), &gate);
            attention(qkv.clone(), HEADS, &layout, None, Some(&prompt))
        },
        |[gate]| plain_attention(qkv.clone(), &layout, &prompt(prompt_rows.clone(), &gate)),
    );
    check(
        "one gate",
        [random([1])],
        |[gate]| {
            let gate = gate.expand([4]);
            let prompt = prompt(prompt_rows.clone(), &gate);
            attention(qkv.clone(), HEADS, &layout, None, Some(&prompt))
        },
        |[gate]| {
            plain_attention(qkv.clone(), &layout, &prompt(prompt_rows.clone(), &gate.expand([4])))
        },
    );
}

#[test]
fn cached_decoding_matches_one_pass() {
    let whole = SequenceLayout {
        sequences: Arc::new(vec![Sequence { first_row: 0, len: 5, past: 0, padding: 0 }]),
        token_rows: None,
        block_tables: None,
        rotary_table: None,
        device_tables: DeviceTables::default(),
    };
    let qkv = random([5, WIDTH]);
    let expected = attention(qkv.clone(), HEADS, &whole, None, None);
    let mut cache = FusedKvCache::new(HEADS, 3);
    let mut tables = BlockTables::new();
    tables.push(&[2]);
    let tables = Arc::new(tables);
    let parts = [(0, 3), (3, 1), (4, 1)].map(|(past, len)| {
        let layout = SequenceLayout {
            sequences: Arc::new(vec![Sequence { first_row: 0, len, past, padding: 0 }]),
            block_tables: Some(tables.clone()),
            ..whole.clone()
        };
        let qkv = qkv.clone().narrow(0, past, len);
        let prompts = PromptTable::default();
        cached_attention(qkv, HEADS, &layout, None, &prompts, false, &mut cache).0
    });
    assert_close("cached", Tensor::cat(parts.to_vec(), 0), expected, 0.0);
}

#[test]
fn prompts_of_cached_sequences_are_added_or_returned_separately() {
    let prompts = [3, 2].map(|len| GatedPrompt {
        key: random([1, 2, len, 8]),
        value: random([1, 2, len, 8]),
        gate: random([1, 4, 1, 1]),
        lens: None,
    });
    let table = PromptTable {
        prompts: prompts.iter().flat_map(|prompt| PackedPrompt::new(prompt, HEADS)).collect(),
        // The first sequence has both, the second none.
        of_sequence: vec![0..2, 2..2],
    };
    let mut tables = BlockTables::new();
    tables.push(&[1]);
    tables.push(&[0]);
    let layout = SequenceLayout { block_tables: Some(Arc::new(tables)), ..layout(0) };
    let qkv = random([7, WIDTH]);
    let run = |table: &PromptTable, separate: bool| {
        let mut cache = FusedKvCache::new(HEADS, 2);
        cached_attention(qkv.clone(), HEADS, &layout, None, table, separate, &mut cache)
    };
    let (text, nothing) = run(&PromptTable::default(), false);
    assert!(nothing.is_none());
    let (sum, _none) = run(&table, false);
    let (heads, branch) = run(&table, true);
    let branch = branch.expect("a separate branch");
    assert_close("heads", heads.clone(), text, 0.0);
    assert_close("sum", sum, heads + branch.clone(), 1e-6);
    let [first, second] = [(0, 5), (5, 2)].map(|(from, len)| branch.clone().narrow(0, from, len));
    assert_close("no prompts", second, Tensor::zeros([2, 32], &flex()), 0.0);
    let query = plain_queries(&qkv, &layout);
    let expected = prompts.iter().map(|prompt| prompt.forward(query.clone()));
    let expected = expected.reduce(|sum, branch| sum + branch).expect("two prompts");
    assert_close("branch", first, expected.swap_dims(1, 2).reshape([5, 32]), 1e-5);
}

#[test]
fn sequences_with_a_shared_prefix_match_separate_sequences() {
    // Two sequences of 5 and 4 tokens with the first three in common.
    let tokens = vec![0, 1, 2, 3, 4, 0, 1, 2, 5];
    let sequence = |first_row, len| Sequence { first_row, len, past: 0, padding: 0 };
    let sequences = Arc::new(vec![sequence(0, 5), sequence(5, 4)]);
    let rotary_table = |positions: &[usize]| {
        let angles = positions.iter().flat_map(|&at| [at as f32; 4]);
        let (sin, cos) = angles.map(f32::sin_cos).unzip();
        Some(Arc::new(RotaryTable::new(cos, sin)))
    };
    let positions = [0, 1, 2, 3, 4, 3];
    let token_positions = tokens.iter().map(|&row: &usize| positions[row]).collect::<Vec<_>>();
    let rows = Some(Arc::new(tokens.clone()));
    let shared = SequenceLayout {
        sequences: sequences.clone(),
        token_rows: rows,
        block_tables: None,
        rotary_table: rotary_table(&positions),
        device_tables: DeviceTables::default(),
    };
    let separate = SequenceLayout {
        sequences,
        token_rows: None,
        block_tables: None,
        rotary_table: rotary_table(&token_positions),
        device_tables: DeviceTables::default(),
    };
    let select = |rows: &[usize]| {
        let rows = rows.iter().map(|&row| row as i64).collect::<Vec<_>>();
        let len = rows.len();
        Tensor::<1, Int>::from_data(TensorData::new(rows, [len]), &flex())
    };
    let prompt = |prompt_rows: Tensor<2>| {
        let heads =
            |from| prompt_rows.clone().narrow(0, from, 3).reshape([1, 3, 2, 8]).swap_dims(1, 2);
        let gate = prompt_rows.clone().narrow(0, 6, 1).narrow(1, 0, 4).reshape([1, 4, 1, 1]);
        GatedPrompt { key: heads(0), value: heads(3), gate, lens: None }
    };
    check(
        "shared rows",
        [random([6, WIDTH]), random([7, 16]).pad((0, WIDTH - 16, 0, 0), 0.0)],
        |[qkv, prompt_rows]| {
            let prompt_rows = prompt(prompt_rows.narrow(1, 0, 16));
            attention(qkv, HEADS, &shared, None, Some(&prompt_rows))
        },
        |[qkv, prompt_rows]| {
            let prompt_rows = prompt(prompt_rows.narrow(1, 0, 16));
            let each = qkv.select(0, select(&tokens));
            let out = attention(each, HEADS, &separate, None, Some(&prompt_rows));
            out.select(0, select(&[0, 1, 2, 3, 4, 8]))
        },
    );
    // Without a prompt, and without gradients.
    let qkv = random([6, WIDTH]);
    let found = attention(qkv.clone(), HEADS, &shared, None, None);
    let each = attention(qkv.select(0, select(&tokens)), HEADS, &separate, None, None);
    assert_close("without a prompt", found, each.select(0, select(&[0, 1, 2, 3, 4, 8])), 0.0);
}
