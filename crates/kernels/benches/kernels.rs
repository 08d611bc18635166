//! Each fused operation compared with the same operation composed of tensor operations, forward and
//! backward, with the dimensions of SmolLM2-135M: `just bench-kernels`.

use std::hint::black_box;
use std::sync::Arc;

use burn::tensor::activation::{log_softmax, silu};
use burn::tensor::module::attention as plain_attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
#[cfg(target_arch = "x86_64")]
use kernels::cpu::simd::{Avx2, Avx512};
use kernels::cpu::simd::{Portable, Simd};
use kernels::{
    AttentionDims, DeviceTables, GatedPrompt, PackedWeight, RotaryTable, Sequence, SequenceLayout,
    attention, cross_entropy, linears, rms_norm, swiglu,
};

const TOKENS: usize = 512;
const WIDTH: usize = 576;
const INNER: usize = 1536;
const VOCAB: usize = 49_152;
const HEADS: AttentionDims = AttentionDims { heads: 9, kv_heads: 3, head_dim: 64 };

fn device() -> Device {
    testing::flex()
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 0.1), &device())
}

#[expect(clippy::disallowed_methods, reason = "a bench waits for its device")]
fn data(tensor: Tensor<2>) -> TensorData {
    tensor.into_data()
}

fn pack(dense: &Tensor<2>, dtype: DType) -> PackedWeight {
    PackedWeight::new(data(dense.clone().cast(dtype)), &device())
}

/// Measures the forward pass, and the forward and backward pass.
fn bench_forward_and_backward<const D: usize>(
    criterion: &mut Criterion,
    group: &str,
    name: &str,
    input: &Tensor<D>,
    work: impl Fn(Tensor<D>) -> Tensor<1>,
) {
    let mut group = criterion.benchmark_group(group);
    group.sample_size(10).throughput(Throughput::Elements(input.dims()[0] as u64));
    group.bench_function(BenchmarkId::new(name, "forward"), |bench| {
        bench.iter(|| work(input.clone()));
    });
    group.bench_function(BenchmarkId::new(name, "forward and backward"), |bench| {
        bench.iter(|| work(input.clone().autodiff().require_grad()).backward());
    });
    group.finish();
}

fn frozen_linear(criterion: &mut Criterion) {
    let dense = random([2 * INNER, WIDTH]);
    for rows in [1, 8, TOKENS] {
        let input = random([rows, WIDTH]);
        let group = format!("linear, {rows} rows");
        let f32 = pack(&dense, DType::F32);
        bench_forward_and_backward(criterion, &group, "fused f32", &input, |x| {
            linears(x, None, &[&f32]).sum()
        });
        let bf16 = pack(&dense, DType::BF16);
        bench_forward_and_backward(criterion, &group, "fused bf16", &input, |x| {
            linears(x, None, &[&bf16]).sum()
        });
        bench_forward_and_backward(criterion, &group, "plain f32", &input, |x| {
            x.matmul(dense.clone().transpose()).sum()
        });
    }
}

fn row_ops(criterion: &mut Criterion) {
    let (input, weight) = (random([TOKENS, WIDTH]), random([WIDTH]));
    bench_forward_and_backward(criterion, "norm", "fused", &input, |x| {
        rms_norm(x, weight.clone(), 1e-5).sum()
    });
    bench_forward_and_backward(criterion, "norm", "plain", &input, |x| {
        let mean_square = x.clone().square().mean_dim(1);
        (x * (mean_square + 1e-5).sqrt().recip() * weight.clone().unsqueeze()).sum()
    });
    let gate_up = random([TOKENS, 2 * INNER]);
    bench_forward_and_backward(criterion, "swiglu", "fused", &gate_up, |gate_up| {
        swiglu(gate_up).sum()
    });
    bench_forward_and_backward(criterion, "swiglu", "plain", &gate_up, |gate_up| {
        let gate = gate_up.clone().narrow(1, 0, INNER);
        (silu(gate) * gate_up.narrow(1, INNER, INNER)).sum()
    });
}

fn adapted_attention(criterion: &mut Criterion) {
    const SEQ: usize = 128;
    let AttentionDims { heads, kv_heads, head_dim } = HEADS;
    let batch = TOKENS / SEQ;
    let sequence = |row: usize| Sequence { first_row: row * SEQ, len: SEQ, past: 0, padding: 0 };
    let rotary_table =
        RotaryTable::new(vec![1.0; TOKENS * head_dim / 2], vec![0.0; TOKENS * head_dim / 2]);
    let layout = SequenceLayout {
        sequences: Arc::new((0..batch).map(sequence).collect()),
        token_rows: None,
        block_tables: None,
        rotary_table: Some(Arc::new(rotary_table)),
        device_tables: DeviceTables::default(),
    };
    let prompt = GatedPrompt {
        key: random([1, kv_heads, 10, head_dim]),
        value: random([1, kv_heads, 10, head_dim]),
        gate: random([1, 1, 1, 1]),
        lens: None,
    };
    let qkv = random([TOKENS, (heads + 2 * kv_heads) * head_dim]);
    bench_forward_and_backward(criterion, "attention", "fused", &qkv, |qkv| {
        attention(qkv, HEADS, &layout, None, Some(&prompt)).sum()
    });
    // Without the rotary embedding, which would take additional time.
    bench_forward_and_backward(criterion, "attention", "plain", &qkv, |qkv| {
        let part = |from: usize, count: usize| {
            let part = qkv.clone().narrow(1, from * head_dim, count * head_dim);
            part.reshape([batch, SEQ, count, head_dim]).swap_dims(1, 2)
        };
        let repeat = |shared: Tensor<4>| {
            let shared = shared.unsqueeze_dim::<5>(2);
            let shared = shared.expand([batch, kv_heads, heads / kv_heads, SEQ, head_dim]);
            shared.reshape([batch, heads, SEQ, head_dim])
        };
        let query = part(0, heads);
        let (key, value) = (part(heads, kv_heads), part(heads + kv_heads, kv_heads));
        let options = AttentionModuleOptions { scale: None, softcap: None, is_causal: true };
        let attended =
            plain_attention(query.clone(), repeat(key), repeat(value), None, None, options);
        (attended + prompt.forward(query)).sum()
    });
}

fn head_and_loss(criterion: &mut Criterion) {
    const LABELS: usize = 128;
    let dense = random([VOCAB, WIDTH]);
    let packed = pack(&dense, DType::F32);
    let hidden = random([LABELS, WIDTH]);
    let labels = (0..LABELS as i64).map(|label| label * 379 % VOCAB as i64).collect::<Vec<_>>();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [LABELS]), &device());
    bench_forward_and_backward(criterion, "head and loss", "fused", &hidden, |hidden| {
        cross_entropy(hidden, &packed, labels.clone())
    });
    bench_forward_and_backward(criterion, "head and loss", "plain", &hidden, |hidden| {
        let logits = hidden.matmul(dense.clone().transpose());
        log_softmax(logits, 1).gather(1, labels.clone().unsqueeze_dim(1)).sum().neg()
    });
}

/// The limits of the processor: multiply-adds in registers, and memory bandwidth.
fn hardware_limits(criterion: &mut Criterion) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = Avx512::new() {
        return hardware_limits_of(criterion, simd);
    } else if let Some(simd) = Avx2::new() {
        return hardware_limits_of(criterion, simd);
    }
    hardware_limits_of(criterion, Portable);
}

fn hardware_limits_of<S: Simd>(criterion: &mut Criterion, simd: S) {
    const SUMS: usize = 12;
    const TIMES: usize = 1_000_000;
    let mut group = criterion.benchmark_group("limits, all threads");
    group.sample_size(10);
    let threads = rayon::current_num_threads();
    let operations = 2 * SUMS * S::LANES * TIMES * threads;
    group.throughput(Throughput::Elements(operations as u64));
    group.bench_function("multiply and add", |bench| {
        bench.iter(|| {
            rayon::broadcast(|_| {
                let (x, y) = (black_box(0.5), black_box(1e-9));
                simd.vectorize(
                    #[inline(always)]
                    || {
                        let (x, y) = (simd.splat(x), simd.splat(y));
                        let mut sums = [simd.splat(0.0); SUMS];
                        for _ in 0..TIMES {
                            for sum in &mut sums {
                                *sum = simd.mul_add(x, y, *sum);
                            }
                        }
                        let mut total = 0.0;
                        for sum in sums {
                            total += simd.reduce_sum(sum);
                        }
                        total
                    },
                )
            })
        });
    });
    let data = vec![1.0_f32; 64 << 20];
    group.throughput(Throughput::Bytes(size_of_val(&data[..]) as u64));
    group.bench_function("read memory", |bench| {
        bench.iter(|| {
            rayon::broadcast(|thread| {
                let len = data.len() / threads;
                let data = &data[thread.index() * len..][..len];
                simd.vectorize(
                    #[inline(always)]
                    || {
                        let mut sums = [simd.splat(0.0); SUMS];
                        for part in data.chunks_exact(SUMS * S::LANES) {
                            for (sum, part) in sums.iter_mut().zip(part.chunks_exact(S::LANES)) {
                                *sum = simd.add(*sum, simd.read(part));
                            }
                        }
                        let mut total = 0.0;
                        for sum in sums {
                            total += simd.reduce_sum(sum);
                        }
                        total
                    },
                )
            })
        });
    });
}

criterion_group!(
    benches,
    hardware_limits,
    frozen_linear,
    row_ops,
    adapted_attention,
    head_and_loss
);
criterion_main!(benches);
