//! Fused operations against the same in plain tensor operations: values, and gradients through
//! Burn's autodiff. The kernels themselves are tested in `src/cpu`, at every instruction set and
//! against finite differences.

use std::sync::Arc;

use burn::tensor::activation::{log_softmax, silu, softmax};
use burn::tensor::{DType, Distribution, Int, Tensor, TensorData};
use kernels::{
    AttentionDims, FusedKvCache, GatedPrompt, PackedWeight, RotaryTable, Sequence, SequenceLayout,
    attention, cross_entropy, is_fused, linears, rms_norm, swiglu,
};
use testing::{assert_close, assert_close_relative, flex, values};

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &flex())
}

fn pack(dense: &Tensor<2>, dtype: DType) -> PackedWeight {
    let data = TensorData::new(values(dense.clone()), dense.dims()).convert_dtype(dtype);
    PackedWeight::new(data, &flex())
}

fn leaf<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    tensor.clone().autodiff().require_grad()
}

/// Compares values, and the gradients of all inputs under random gradients of the output.
fn check<const D: usize, const N: usize, const E: usize>(
    what: &str,
    inputs: [Tensor<D>; N],
    fused: impl Fn([Tensor<D>; N]) -> Tensor<E>,
    plain: impl Fn([Tensor<D>; N]) -> Tensor<E>,
) {
    assert_close(what, fused(inputs.clone()), plain(inputs.clone()), 2e-5);
    let weights = random(plain(inputs.clone()).dims());
    let gradients = |work: &dyn Fn([Tensor<D>; N]) -> Tensor<E>| {
        let leaves = inputs.each_ref().map(leaf);
        let loss = (work(leaves.clone()) * Tensor::from_inner(weights.clone())).sum();
        let gradients = loss.backward();
        leaves.map(|leaf| leaf.grad(&gradients).expect("every input has a gradient"))
    };
    for (found, expected) in gradients(&fused).into_iter().zip(gradients(&plain)) {
        assert_close_relative(&format!("{what}, gradient"), found, expected, 2e-5);
    }
}

#[test]
fn only_one_backend_is_fused_with_autodiff_or_without() {
    assert!(is_fused(&flex()) && is_fused(&flex().autodiff()));
    for device in testing::devices() {
        assert_eq!(is_fused(&device), device == flex(), "{device:?}");
    }
}

#[test]
fn products_with_residual_and_without() {
    let (a, b) = (random([50, 24]), random([7, 24]));
    let packed = [pack(&a, DType::F32), pack(&b, DType::F32)];
    let plain = |x: Tensor<2>| {
        let part = |weight: &Tensor<2>| x.clone().matmul(weight.clone().transpose());
        Tensor::cat(vec![part(&a), part(&b)], 1)
    };
    for rows in [1, 3, 9] {
        check(
            "products",
            [random([rows, 24])],
            |[x]| linears(x, None, &[&packed[0], &packed[1]]),
            |[x]| plain(x),
        );
    }
    // Both inputs are of one shape here.
    let square = random([24, 24]);
    let own = pack(&square, DType::F32);
    check(
        "product on a residual",
        [random([5, 24]), random([5, 24])],
        |[x, residual]| linears(x, Some(residual), &[&own]),
        |[x, residual]| residual + x.matmul(square.clone().transpose()),
    );
}

#[test]
fn a_plain_input_of_a_product_gets_no_gradient_and_a_learned_residual_does() {
    let weight = pack(&random([8, 8]), DType::F32);
    let residual = leaf(&random([2, 8]));
    let gradients = linears(random([2, 8]), Some(residual.clone()), &[&weight]).sum().backward();
    assert_eq!(values(residual.grad(&gradients).unwrap()), [1.0; 16]);
}

#[test]
fn a_packed_weight_gives_its_rows_back() {
    for (dtype, bits) in [(DType::F32, 32), (DType::BF16, 16), (DType::F16, 16)] {
        let rounded = random([33, 20]).cast(dtype).cast(DType::F32);
        let packed = pack(&rounded, dtype);
        assert_eq!((packed.dims(), packed.bits()), ([33, 20], bits));
        assert_eq!(values(packed.to_dense()), values(rounded.clone()));
        let ids = Tensor::<1, Int>::from_ints([32, 0, 32], &flex());
        assert_eq!(values(packed.select(ids.clone())), values(rounded.select(0, ids)));
    }
}

#[test]
fn norms_and_gates() {
    let weight = random([20]);
    check(
        "norm",
        [random([2, 3, 20])],
        |[x]| rms_norm(x, weight.clone(), 1e-3),
        |[x]| {
            let mean_square = x.clone().square().mean_dim(2);
            x * (mean_square + 1e-3).sqrt().recip() * weight.clone().unsqueeze()
        },
    );
    check(
        "swiglu",
        [random([3, 42])],
        |[both]| swiglu(both),
        |[both]| silu(both.clone().narrow(1, 0, 21)) * both.narrow(1, 21, 21),
    );
}

#[test]
fn a_norm_whose_weight_learns_has_its_gradient() {
    let weight = leaf(&random([20]));
    let gradients = rms_norm(random([3, 20]), weight.clone(), 1e-3).square().sum().backward();
    assert!(values(weight.grad(&gradients).unwrap()).iter().all(|value| *value != 0.0));
}

#[test]
fn losses_of_labels() {
    let dense = random([70, 12]);
    let head = pack(&dense, DType::F32);
    let labels = Tensor::<1, Int>::from_ints([3, 69, 0, 3], &flex());
    check(
        "cross-entropy",
        [random([4, 12])],
        |[hidden]| cross_entropy(hidden, &head, labels.clone()),
        |[hidden]| {
            let logits = hidden.matmul(dense.clone().transpose());
            log_softmax(logits, 1).gather(1, labels.clone().unsqueeze_dim(1)).sum().neg()
        },
    );
}

const HEADS: AttentionDims = AttentionDims { heads: 4, kv_heads: 2, head_dim: 8 };
/// Rows of two texts.
const LENS: [usize; 2] = [5, 2];
const WIDTH: usize = 8 * 8;

fn texts(past: usize) -> SequenceLayout {
    let mut first_row = 0;
    let sequences = LENS.map(|len| {
        first_row += len;
        Sequence { first_row: first_row - len, len, past, padding: 0 }
    });
    // A turn by one radian a token, the same for every pair.
    let angles = LENS.iter().flat_map(|len| (0..*len).flat_map(|at| [(at + past) as f32; 4]));
    let (sin, cos) = angles.map(f32::sin_cos).unzip();
    SequenceLayout {
        sequences: Arc::new(sequences.to_vec()),
        token_rows: None,
        rotary_table: Some(Arc::new(RotaryTable::new(cos, sin))),
    }
}

/// Attention of each text by itself, composed of tensor operations.
fn plain_attention(qkv: Tensor<2>, texts: &SequenceLayout, prompt: &GatedPrompt) -> Tensor<2> {
    let AttentionDims { heads, kv_heads, head_dim } = HEADS;
    let turns = texts.rotary_table.as_ref().unwrap();
    let outputs = texts.sequences.iter().map(|sequence| {
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
            x * table(turns.cos()) + Tensor::cat(vec![b.neg(), a], 3) * table(turns.sin())
        };
        let repeat = |x: Tensor<4>| {
            let x = x.unsqueeze_dim::<5>(2).expand([1, kv_heads, heads / kv_heads, len, head_dim]);
            x.reshape([1, heads, len, head_dim])
        };
        let query = rotate(part(0, heads));
        let (key, value) = (rotate(part(heads, kv_heads)), part(heads + kv_heads, kv_heads));
        let scores = query.clone().matmul(repeat(key).transpose()) / (head_dim as f64).sqrt();
        let mask = Tensor::<2>::ones([len, len], &flex()).triu(1) * -1e30;
        let text = softmax(scores + mask.unsqueeze(), 3).matmul(repeat(value));
        let out = text + prompt.forward(query);
        out.swap_dims(1, 2).reshape([len, heads * head_dim])
    });
    Tensor::cat(outputs.collect(), 0)
}

#[test]
fn attention_with_a_prompt_shared_by_all_texts() {
    let texts = texts(0);
    let rows = LENS.iter().sum();
    let gate = random([4]);
    let prompt = |[key, value]: [Tensor<2>; 2], gate: &Tensor<1>| {
        let heads = |x: Tensor<2>| x.reshape([1, 3, 2, 8]).swap_dims(1, 2);
        let gate = gate.clone().reshape([1, 4, 1, 1]);
        GatedPrompt { key: heads(key), value: heads(value), gate, lens: None }
    };
    // The prompt's numbers are handed over as rows of the same width, to be leaves as well.
    let split = |all: Tensor<2>| {
        let rows_of = |from| all.clone().narrow(0, from, 3).narrow(1, 0, 16);
        (all.clone().narrow(0, 0, rows), [rows_of(rows), rows_of(rows + 3)])
    };
    check(
        "attention",
        [random([rows + 6, WIDTH])],
        |[all]| {
            let (qkv, own) = split(all);
            attention(qkv, HEADS, &texts, None, Some(&prompt(own, &gate)), None)
        },
        |[all]| {
            let (qkv, own) = split(all);
            plain_attention(qkv, &texts, &prompt(own, &gate))
        },
    );
    // A gate a head, and one for all heads.
    let qkv = random([rows, WIDTH]);
    let own = [random([3, 16]), random([3, 16])];
    check(
        "gates",
        [gate.clone()],
        |[gate]| {
            attention(qkv.clone(), HEADS, &texts, None, Some(&prompt(own.clone(), &gate)), None)
        },
        |[gate]| plain_attention(qkv.clone(), &texts, &prompt(own.clone(), &gate)),
    );
    check(
        "one gate",
        [random([1])],
        |[gate]| {
            let gate = gate.expand([4]);
            attention(qkv.clone(), HEADS, &texts, None, Some(&prompt(own.clone(), &gate)), None)
        },
        |[gate]| plain_attention(qkv.clone(), &texts, &prompt(own.clone(), &gate.expand([4]))),
    );
}

#[test]
fn a_cache_goes_on_where_it_stopped() {
    let whole = SequenceLayout {
        sequences: Arc::new(vec![Sequence { first_row: 0, len: 5, past: 0, padding: 0 }]),
        token_rows: None,
        rotary_table: None,
    };
    let qkv = random([5, WIDTH]);
    let expected = attention(qkv.clone(), HEADS, &whole, None, None, None);
    let mut cache = FusedKvCache::new(HEADS, 1, 5);
    let parts = [(0, 3), (3, 1), (4, 1)].map(|(past, len)| {
        let sequences = Arc::new(vec![Sequence { first_row: 0, len, past, padding: 0 }]);
        let texts = SequenceLayout { sequences, token_rows: None, rotary_table: None };
        attention(qkv.clone().narrow(0, past, len), HEADS, &texts, None, None, Some(&mut cache))
    });
    assert_close("cached", Tensor::cat(parts.to_vec(), 0), expected, 1e-5);
}

#[test]
fn texts_that_share_rows_get_what_they_would_get_alone() {
    // Two texts of 5 and 4 tokens, the first three the same.
    let tokens = vec![0, 1, 2, 3, 4, 0, 1, 2, 5];
    let sequence = |first_row, len| Sequence { first_row, len, past: 0, padding: 0 };
    let sequences = Arc::new(vec![sequence(0, 5), sequence(5, 4)]);
    let turns = |positions: &[usize]| {
        let angles = positions.iter().flat_map(|&at| [at as f32; 4]);
        let (sin, cos) = angles.map(f32::sin_cos).unzip();
        Some(Arc::new(RotaryTable::new(cos, sin)))
    };
    let positions = [0, 1, 2, 3, 4, 3];
    let each = tokens.iter().map(|&row: &usize| positions[row]).collect::<Vec<_>>();
    let rows = Some(Arc::new(tokens.clone()));
    let shared = SequenceLayout {
        sequences: sequences.clone(),
        token_rows: rows,
        rotary_table: turns(&positions),
    };
    let apart = SequenceLayout { sequences, token_rows: None, rotary_table: turns(&each) };
    let select = |rows: &[usize]| {
        let rows = rows.iter().map(|&row| row as i64).collect::<Vec<_>>();
        let len = rows.len();
        Tensor::<1, Int>::from_data(TensorData::new(rows, [len]), &flex())
    };
    let prompt = |own: Tensor<2>| {
        let heads = |from| own.clone().narrow(0, from, 3).reshape([1, 3, 2, 8]).swap_dims(1, 2);
        let gate = own.clone().narrow(0, 6, 1).narrow(1, 0, 4).reshape([1, 4, 1, 1]);
        GatedPrompt { key: heads(0), value: heads(3), gate, lens: None }
    };
    check(
        "shared rows",
        [random([6, WIDTH]), random([7, 16]).pad((0, WIDTH - 16, 0, 0), 0.0)],
        |[qkv, own]| {
            let own = prompt(own.narrow(1, 0, 16));
            attention(qkv, HEADS, &shared, None, Some(&own), None)
        },
        |[qkv, own]| {
            let own = prompt(own.narrow(1, 0, 16));
            let each = qkv.select(0, select(&tokens));
            let out = attention(each, HEADS, &apart, None, Some(&own), None);
            out.select(0, select(&[0, 1, 2, 3, 4, 8]))
        },
    );
    // Without a prompt, and without gradients.
    let qkv = random([6, WIDTH]);
    let found = attention(qkv.clone(), HEADS, &shared, None, None, None);
    let each = attention(qkv.select(0, select(&tokens)), HEADS, &apart, None, None, None);
    assert_close("without a prompt", found, each.select(0, select(&[0, 1, 2, 3, 4, 8])), 0.0);
}
