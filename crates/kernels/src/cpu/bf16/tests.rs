//! Both products, every way, against sums in f64 of what is left after rounding.

use half::bf16;
use proptest::prelude::*;

use super::super::packed::{Format, Packed};
use super::super::product::{places, product, product_back};
use super::super::product_tests::{assert_close, noise};
use super::super::simd::SimdLevel;
use super::super::workspace;
use super::Bf16Kernel;

/// What a level multiplies matrices in bf16 with.
fn way_of(level: SimdLevel) -> Option<Bf16Kernel> {
    let weight = Packed::new(&[0.0], [1, 1], Format::Bf16);
    let (places, _width) = places(&[&weight]);
    Bf16Kernel::of(level, &places)
}

fn ways() -> Vec<(Bf16Kernel, Option<SimdLevel>)> {
    let levels = SimdLevel::available().into_iter();
    let ways = levels.filter_map(|level| way_of(level).map(|way| (way, Some(level))));
    [(Bf16Kernel::Plain, None)].into_iter().chain(ways).collect()
}

fn rounded(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| bf16::from_f32(value).to_f64()).collect()
}

/// Runs `work` in a pool of threads whose workspaces hold no number.
fn in_pool<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
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
fn both(
    way: Bf16Kernel,
    [input, gradient]: [&[f32]; 2],
    weights: &[&Packed],
    add: bool,
    threads: usize,
) -> [Vec<f32>; 2] {
    let (places, width) = places(weights);
    let [_rows, columns] = weights[0].dims();
    let n = input.len() / columns;
    let before = |len| if add { noise(79, len) } else { vec![f32::NAN; len] };
    let (mut out, mut d_input) = (before(n * width), before(n * columns));
    in_pool(threads, || {
        way.product(input, &places, width, &mut out, add);
        way.product_back(gradient, &places, width, &mut d_input, add);
    });
    [out, d_input]
}

fn check(n: usize, rows: &[usize], columns: usize, add: bool) {
    let values =
        (1..).zip(rows).map(|(seed, rows)| noise(seed, rows * columns)).collect::<Vec<_>>();
    let weights = values
        .iter()
        .zip(rows)
        .map(|(values, &rows)| Packed::new(values, [rows, columns], Format::Bf16))
        .collect::<Vec<_>>();
    let weights = weights.iter().collect::<Vec<_>>();
    let width = rows.iter().sum::<usize>();
    let (input, gradient) = (noise(77, n * columns), noise(78, n * width));

    let before = |len| {
        let value = |value| if add { f64::from(value) } else { 0.0 };
        noise(79, len).into_iter().map(value).collect::<Vec<_>>()
    };
    let (mut forward, mut back) = (before(n * width), before(n * columns));
    let (x, dy, w) = (rounded(&input), rounded(&gradient), rounded(&values.concat()));
    for r in 0..n {
        for (c, w) in w.chunks_exact(columns).enumerate() {
            for (k, w) in w.iter().enumerate() {
                forward[r * width + c] += x[r * columns + k] * w;
                back[r * columns + k] += dy[r * width + c] * w;
            }
        }
    }
    for (way, _level) in ways() {
        let what = format!("{way:?} {n} x {columns} x {rows:?}");
        let [out, d_input] = both(way, [&input, &gradient], &weights, add, 1);
        assert_close(&what, &out, &forward);
        assert_close(&format!("{what}, back"), &d_input, &back);
    }
}

#[test]
fn rows_and_columns_of_tiles_and_beside_them() {
    // A tile has 12 or 32 rows, and 32 columns of 32 terms.
    for (n, rows, columns) in [(5, 16, 32), (16, 32, 16), (17, 33, 31), (33, 48, 64), (64, 7, 1)] {
        check(n, &[rows], columns, false);
        check(n, &[rows], columns, true);
    }
}

#[test]
fn weights_side_by_side() {
    check(13, &[48, 7, 33], 40, false);
    check(13, &[1, 1, 80], 17, true);
}

#[test]
fn terms_that_are_not_worked_on_at_once() {
    check(35, &[40], 1300, false);
    check(35, &[1300], 40, true);
}

#[test]
fn rows_that_are_not_worked_on_at_once() {
    check(1030, &[3], 5, false);
}

#[test]
fn numbers_that_do_not_exist_stay_in_their_row() {
    let weight = Packed::new(&noise(1, 20 * 9), [20, 9], Format::Bf16);
    for (way, _level) in ways() {
        let mut input = vec![1.0; 6 * 9];
        input[3 * 9 + 2] = f32::NAN;
        let mut gradient = vec![1.0; 6 * 20];
        gradient[2 * 20 + 19] = f32::INFINITY;
        let [out, d_input] = both(way, [&input, &gradient], &[&weight], false, 1);
        for (row, out) in out.chunks_exact(20).enumerate() {
            assert_eq!(out.iter().all(|value| value.is_nan()), row == 3, "{way:?}");
            assert_eq!(out.iter().any(|value| value.is_nan()), row == 3, "{way:?}");
        }
        for (row, d_input) in d_input.chunks_exact(9).enumerate() {
            assert_eq!(d_input.iter().all(|value| value.is_infinite()), row == 2, "{way:?}");
            assert_eq!(d_input.iter().all(|value| value.is_finite()), row != 2, "{way:?}");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let weights =
        [75, 40].map(|rows| Packed::new(&noise(1, rows * 700), [rows, 700], Format::Bf16));
    let (input, gradient) = (noise(5, 20 * 700), noise(6, 20 * 115));
    for (way, _level) in ways() {
        let with = |threads| both(way, [&input, &gradient], &weights.each_ref(), false, threads);
        assert_eq!(with(1), with(3), "{way:?}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn levels_have_their_ways() {
    assert_eq!(way_of(SimdLevel::Avx512), None);
    assert_eq!(way_of(SimdLevel::Avx512Bf16), Some(Bf16Kernel::Dot));
    assert_eq!(way_of(SimdLevel::Amx), Some(Bf16Kernel::Amx));
}

#[test]
fn a_level_takes_its_way_for_more_than_a_few_rows_of_bf16_alone() {
    let (values, columns) = (noise(1, 24 * 40), 40);
    for (way, level) in ways() {
        let Some(level) = level else { continue };
        for format in [Format::F32, Format::Bf16, Format::F16] {
            let weight = Packed::new(&values, [24, columns], format);
            for n in [4, 5] {
                let (input, gradient) = (noise(2, n * columns), noise(3, n * 24));
                let found = |level: SimdLevel| {
                    let (mut out, mut d_input) = (vec![0.0; n * 24], vec![0.0; n * columns]);
                    product(level, &input, &[&weight], &mut out, false);
                    product_back(level, &gradient, &[&weight], &mut d_input, false);
                    [out, d_input]
                };
                let expected = if n > 4 && format == Format::Bf16 {
                    both(way, [&input, &gradient], &[&weight], false, 1)
                } else {
                    found(SimdLevel::Avx512)
                };
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
        add in any::<bool>(),
    ) {
        check(n, &[first, second], columns, add);
    }
}
