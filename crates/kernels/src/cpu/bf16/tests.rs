//! Both directions of every kernel, compared with sums in f64 of the rounded inputs.

use half::bf16;
use proptest::prelude::*;

use super::super::concat::offset_weights;
use super::super::gemm::{gemm, gemm_backward};
use super::super::packed_matrix::{DenseFormat, PackedMatrix};
use super::super::simd::SimdLevel;
use super::super::test_numbers::{assert_close_relative, pseudo_random};
use super::super::workspace;
use super::Bf16Kernel;

/// The kernel that a level selects for a weight in bf16.
fn kernel_of(level: SimdLevel) -> Option<Bf16Kernel> {
    let weight = PackedMatrix::new(&[0.0], [1, 1], DenseFormat::Bf16);
    let (weights, _width) = offset_weights(&[&weight]);
    Bf16Kernel::select(level, &weights)
}

/// All kernels of this processor, with the level that selects each.
fn kernels_and_levels() -> Vec<(Bf16Kernel, Option<SimdLevel>)> {
    let levels = SimdLevel::available().into_iter();
    let kernels = levels.filter_map(|level| kernel_of(level).map(|kernel| (kernel, Some(level))));
    [(Bf16Kernel::Reference, None)].into_iter().chain(kernels).collect()
}

fn rounded(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| bf16::from_f32(value).to_f64()).collect()
}

/// Runs `work` in a thread pool whose workspaces are filled with NaN.
fn in_pool_with_nan_workspaces<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.broadcast(|_thread| {
        workspace::with_u16_buffer(1 << 18, |outer| {
            outer.fill(bf16::NAN.to_bits());
            workspace::with_u16_buffer(1 << 18, |inner| inner.fill(bf16::NAN.to_bits()));
        });
    });
    pool.install(work)
}

/// `x · Wᵀ` and `dy · W`.
fn gemm_both_ways(
    kernel: Bf16Kernel,
    [input, gradient]: [&[f32]; 2],
    weights: &[&PackedMatrix],
    accumulate: bool,
    threads: usize,
) -> [Vec<f32>; 2] {
    let (offset_weights, width) = offset_weights(weights);
    let [_rows, columns] = weights[0].dims();
    let n = input.len() / columns;
    let before = |len| if accumulate { pseudo_random(79, len) } else { vec![f32::NAN; len] };
    let (mut out, mut d_input) = (before(n * width), before(n * columns));
    in_pool_with_nan_workspaces(threads, || {
        kernel.gemm(input, &offset_weights, width, &mut out, accumulate);
        kernel.gemm_backward(gradient, &offset_weights, width, &mut d_input, accumulate);
    });
    [out, d_input]
}

/// Compares both directions of all kernels with the reference.
fn check(n: usize, rows: &[usize], columns: usize, accumulate: bool) {
    let values =
        (1..).zip(rows).map(|(seed, rows)| pseudo_random(seed, rows * columns)).collect::<Vec<_>>();
    let weights = values
        .iter()
        .zip(rows)
        .map(|(values, &rows)| PackedMatrix::new(values, [rows, columns], DenseFormat::Bf16))
        .collect::<Vec<_>>();
    let weights = weights.iter().collect::<Vec<_>>();
    let width = rows.iter().sum::<usize>();
    let (input, gradient) = (pseudo_random(77, n * columns), pseudo_random(78, n * width));

    let before = |len| {
        let value = |value| if accumulate { f64::from(value) } else { 0.0 };
        pseudo_random(79, len).into_iter().map(value).collect::<Vec<_>>()
    };
    let (mut forward, mut backward) = (before(n * width), before(n * columns));
    let (x, dy, w) = (rounded(&input), rounded(&gradient), rounded(&values.concat()));
    for r in 0..n {
        for (c, w) in w.chunks_exact(columns).enumerate() {
            for (k, w) in w.iter().enumerate() {
                forward[r * width + c] += x[r * columns + k] * w;
                backward[r * columns + k] += dy[r * width + c] * w;
            }
        }
    }
    for (kernel, _level) in kernels_and_levels() {
        let what = format!("{kernel:?} {n} x {columns} x {rows:?}");
        let [out, d_input] = gemm_both_ways(kernel, [&input, &gradient], &weights, accumulate, 1);
        assert_close_relative(&what, &out, &forward);
        assert_close_relative(&format!("{what}, backward"), &d_input, &backward);
    }
}

#[test]
fn full_and_partial_tiles() {
    // A tile has 12 or 32 rows, and 32 columns.
    for (n, rows, columns) in [(5, 16, 32), (16, 32, 16), (17, 33, 31), (33, 48, 64), (64, 7, 1)] {
        check(n, &[rows], columns, false);
        check(n, &[rows], columns, true);
    }
}

#[test]
fn concatenated_weights() {
    check(13, &[48, 7, 33], 40, false);
    check(13, &[1, 1, 80], 17, true);
}

#[test]
fn depth_beyond_one_block() {
    check(35, &[40], 1300, false);
    check(35, &[1300], 40, true);
}

#[test]
fn rows_beyond_one_block() {
    check(1030, &[3], 5, false);
}

#[test]
fn nan_and_infinity_stay_in_their_row() {
    let weight = PackedMatrix::new(&pseudo_random(1, 20 * 9), [20, 9], DenseFormat::Bf16);
    for (kernel, _level) in kernels_and_levels() {
        let mut input = vec![1.0; 6 * 9];
        input[3 * 9 + 2] = f32::NAN;
        let mut gradient = vec![1.0; 6 * 20];
        gradient[2 * 20 + 19] = f32::INFINITY;
        let [out, d_input] = gemm_both_ways(kernel, [&input, &gradient], &[&weight], false, 1);
        for (row, out) in out.chunks_exact(20).enumerate() {
            assert_eq!(out.iter().all(|value| value.is_nan()), row == 3, "{kernel:?}");
            assert_eq!(out.iter().any(|value| value.is_nan()), row == 3, "{kernel:?}");
        }
        for (row, d_input) in d_input.chunks_exact(9).enumerate() {
            assert_eq!(d_input.iter().all(|value| value.is_infinite()), row == 2, "{kernel:?}");
            assert_eq!(d_input.iter().all(|value| value.is_finite()), row != 2, "{kernel:?}");
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let weights = [75, 40].map(|rows| {
        PackedMatrix::new(&pseudo_random(1, rows * 700), [rows, 700], DenseFormat::Bf16)
    });
    let (input, gradient) = (pseudo_random(5, 20 * 700), pseudo_random(6, 20 * 115));
    for (kernel, _level) in kernels_and_levels() {
        let with = |threads| {
            gemm_both_ways(kernel, [&input, &gradient], &weights.each_ref(), false, threads)
        };
        assert_eq!(with(1), with(3), "{kernel:?}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn each_level_selects_its_bf16_kernel() {
    assert_eq!(kernel_of(SimdLevel::Avx512), None);
    assert_eq!(kernel_of(SimdLevel::Avx512Bf16), Some(Bf16Kernel::Avx512Bf16));
    assert_eq!(kernel_of(SimdLevel::Amx), Some(Bf16Kernel::Amx));
}

#[test]
fn bf16_kernels_run_for_bf16_weights() {
    let (values, columns) = (pseudo_random(1, 24 * 40), 40);
    for (kernel, level) in kernels_and_levels() {
        let Some(level) = level else { continue };
        for format in [DenseFormat::F32, DenseFormat::Bf16, DenseFormat::F16] {
            let weight = PackedMatrix::new(&values, [24, columns], format);
            for n in [4, 5] {
                let (input, gradient) = (pseudo_random(2, n * columns), pseudo_random(3, n * 24));
                let found = |level: SimdLevel| {
                    let (mut out, mut d_input) = (vec![0.0; n * 24], vec![0.0; n * columns]);
                    gemm(level, &input, &[&weight], &mut out, false);
                    gemm_backward(level, &gradient, &[&weight], &mut d_input, false);
                    [out, d_input]
                };
                let mut expected = found(SimdLevel::Avx512);
                if format == DenseFormat::Bf16 {
                    let both = gemm_both_ways(kernel, [&input, &gradient], &[&weight], false, 1);
                    let [out, d_input] = both;
                    expected[0] = out;
                    // Gradients of few rows are not rounded.
                    if n > 4 {
                        expected[1] = d_input;
                    }
                }
                assert_eq!(found(level), expected, "{level:?} {format:?} {n}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::with_cases(48) })]

    #[test]
    fn odd_sizes(
        n in 5_usize..40,
        first in 1_usize..70,
        second in 1_usize..20,
        columns in 1_usize..100,
        accumulate in any::<bool>(),
    ) {
        check(n, &[first, second], columns, accumulate);
    }
}
