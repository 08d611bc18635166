//! GEMM with packed matrices at every level, compared with sums in f64.

use proptest::prelude::*;

use super::gemm::{gemm, gemm_backward};
use super::packed_matrix::{DenseFormat, PackedMatrix, QuantizedMatrix};
use super::simd::SimdLevel;
use super::test_numbers::{assert_close_relative, pseudo_random};

#[derive(Debug, Clone, Copy, PartialEq)]
enum WeightKind {
    Dense(DenseFormat),
    Quantized { bits: usize, block_len: usize, with_mins: bool },
}

fn packed(kind: WeightKind, seed: u64, [rows, columns]: [usize; 2]) -> PackedMatrix {
    match kind {
        WeightKind::Dense(format) => {
            PackedMatrix::new(&pseudo_random(seed, rows * columns), [rows, columns], format)
        }
        WeightKind::Quantized { bits, block_len, with_mins } => {
            let max_quant = (1 << bits) as f32 - 1.0;
            let quant = |value: f32| (f32::midpoint(value, 1.0) * max_quant) as u8;
            let quants =
                pseudo_random(seed, rows * columns).into_iter().map(quant).collect::<Vec<_>>();
            let scales = pseudo_random(seed + 1, rows * columns / block_len);
            let mins = pseudo_random(seed + 2, rows * columns / block_len);
            let mins = with_mins.then_some(&mins[..]);
            let zero_point = if with_mins { 0 } else { 1 << (bits - 1) };
            let matrix = QuantizedMatrix {
                quants: &quants,
                scales: &scales,
                mins,
                zero_point,
                bits,
                block_len,
            };
            PackedMatrix::from_quantized(&matrix, [rows, columns])
        }
    }
}

/// Compares both directions with the reference at every level.
fn check(kind: WeightKind, n: usize, rows: &[usize], columns: usize, accumulate: bool) {
    let weights = (1..).zip(rows).map(|(seed, &rows)| packed(kind, seed, [rows, columns]));
    let weights = weights.collect::<Vec<_>>();
    let dense = weights.iter().map(PackedMatrix::to_dense).collect::<Vec<_>>();
    let weights = weights.iter().collect::<Vec<_>>();
    let width = rows.iter().sum::<usize>();
    let (mut input, mut gradient) = (pseudo_random(77, n * columns), pseudo_random(78, n * width));
    if kind == WeightKind::Dense(DenseFormat::Bf16) {
        // Some levels round the inputs to bf16, see the tests of `bf16`.
        for value in input.iter_mut().chain(&mut gradient) {
            *value = half::bf16::from_f32(*value).to_f32();
        }
    }
    let before = if accumulate { 1.0 } else { 0.0 };

    let mut forward = vec![before; n * width];
    let mut backward = vec![before; n * columns];
    for r in 0..n {
        let mut column = 0;
        for dense in &dense {
            for weight in dense.chunks_exact(columns) {
                let row = &input[r * columns..][..columns];
                let dy = f64::from(gradient[r * width + column]);
                for (k, (x, w)) in row.iter().zip(weight).enumerate() {
                    forward[r * width + column] += f64::from(*x) * f64::from(*w);
                    backward[r * columns + k] += dy * f64::from(*w);
                }
                column += 1;
            }
        }
    }
    for level in SimdLevel::available() {
        let what = format!("{level:?} {kind:?} {n} x {columns} x {rows:?}");
        let mut out = vec![if accumulate { 1.0 } else { f32::NAN }; n * width];
        gemm(level, &input, &weights, &mut out, accumulate);
        assert_close_relative(&what, &out, &forward);
        let mut d_input = vec![if accumulate { 1.0 } else { f32::NAN }; n * columns];
        gemm_backward(level, &gradient, &weights, &mut d_input, accumulate);
        assert_close_relative(&format!("{what}, backward"), &d_input, &backward);
    }
}

const fn quantized(bits: usize, block_len: usize, with_mins: bool) -> WeightKind {
    WeightKind::Quantized { bits, block_len, with_mins }
}

const WEIGHT_KINDS: [WeightKind; 8] = [
    WeightKind::Dense(DenseFormat::F32),
    WeightKind::Dense(DenseFormat::Bf16),
    WeightKind::Dense(DenseFormat::F16),
    quantized(8, 32, true),
    quantized(8, 32, false),
    quantized(4, 32, true),
    quantized(4, 16, false),
    quantized(8, 16, true),
];

#[test]
fn gemm_and_its_backward_pass_match_the_reference_for_every_weight_kind() {
    for kind in WEIGHT_KINDS {
        for n in [1, 2, 3, 4, 5, 17] {
            check(kind, n, &[48, 7, 33], 96, false);
        }
        check(kind, 130, &[100], 320, true);
        check(kind, 3, &[100], 320, true);
    }
}

#[test]
fn a_small_matrix_round_trips() {
    let values = pseudo_random(3, 5 * 6);
    let packed = PackedMatrix::new(&values, [5, 6], DenseFormat::F32);
    assert_eq!(packed.to_dense(), values);
    assert_eq!((packed.dims(), packed.panels(), packed.bits()), ([5, 6], 1, 32));
    assert_eq!(packed.bytes(), 16 * 6 * 4);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let weights = [packed(WeightKind::Dense(DenseFormat::Bf16), 1, [75, 300])];
    let weights = weights.iter().collect::<Vec<_>>();
    let (input, gradient) = (pseudo_random(5, 50 * 300), pseudo_random(6, 50 * 75));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut out, mut d_input) = (vec![0.0; 50 * 75], vec![0.0; 50 * 300]);
            gemm(SimdLevel::best(), &input, &weights, &mut out, false);
            gemm_backward(SimdLevel::best(), &gradient, &weights, &mut d_input, false);
            (out, d_input)
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn a_row_of_a_product_does_not_depend_on_the_others() {
    for kind in WEIGHT_KINDS {
        for [rows, columns] in [[1536, 576], [576, 1536]] {
            check_rows(&[packed(kind, 1, [rows, columns])], &[2, 3, 4, 5, 13, 33], false);
        }
        for [rows, columns] in [[65, 320], [33, 96], [17, 32], [100, 672]] {
            // Two weights side by side, the first with an incomplete panel.
            let weights = [packed(kind, 1, [rows, columns]), packed(kind, 2, [7, columns])];
            for accumulate in [false, true] {
                check_rows(&weights, &(1..=40).collect::<Vec<_>>(), accumulate);
            }
        }
    }
    for columns in [1, 13, 17, 31, 33, 257, 700] {
        for format in [DenseFormat::F32, DenseFormat::Bf16, DenseFormat::F16] {
            let weights = [packed(WeightKind::Dense(format), 3, [13, columns])];
            check_rows(&weights, &(1..=40).collect::<Vec<_>>(), false);
        }
    }
}

/// Compares every row of products of several rows with the row alone.
fn check_rows(weights: &[PackedMatrix], batches: &[usize], accumulate: bool) {
    let weights = weights.iter().collect::<Vec<_>>();
    let [_rows, columns] = weights[0].dims();
    let width = weights.iter().map(|weight| weight.dims()[0]).sum::<usize>();
    let most = batches.iter().copied().max().expect("there are batches");
    let (input, before) = (pseudo_random(5, most * columns), pseudo_random(6, most * width));
    let pools = [1, 2].map(|threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool")
    });
    for level in SimdLevel::available() {
        let multiply = |first: usize, n: usize, threads: usize| {
            let mut out = before[first * width..][..n * width].to_vec();
            let input = &input[first * columns..][..n * columns];
            pools[threads - 1].install(|| gemm(level, input, &weights, &mut out, accumulate));
            out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let alone = (0..most).flat_map(|row| multiply(row, 1, 1)).collect::<Vec<_>>();
        for &n in batches {
            for threads in [1, 2] {
                let found = multiply(most - n, n, threads);
                let dims = weights[0].dims();
                assert!(
                    found == alone[(most - n) * width..],
                    "{level:?}, {dims:?}, {n} rows, {threads} threads",
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::with_cases(64) })]

    #[test]
    fn odd_sizes(
        kind in 0_usize..3,
        n in 1_usize..40,
        first in 1_usize..70,
        second in 1_usize..20,
        columns in 1_usize..300,
        accumulate in any::<bool>(),
    ) {
        check(WEIGHT_KINDS[kind], n, &[first, second], columns, accumulate);
    }

    #[test]
    fn odd_sizes_quantized(
        kind in 3_usize..8,
        n in 1_usize..40,
        rows in 1_usize..70,
        blocks in 1_usize..12,
    ) {
        check(WEIGHT_KINDS[kind], n, &[rows], blocks * 32, false);
    }
}
