//! Products with packed matrices, at every level, against sums in f64.

use proptest::prelude::*;

use super::packed::{Format, Packed, QuantizedMatrix};
use super::product::{product, product_back};
use super::simd::SimdLevel;

/// Numbers between -1 and 1 that look random.
pub(super) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Dense(Format),
    /// Bits, block length, whether with minima.
    Blocks(usize, usize, bool),
}

fn packed(kind: Kind, seed: u64, [rows, columns]: [usize; 2]) -> Packed {
    match kind {
        Kind::Dense(format) => Packed::new(&noise(seed, rows * columns), [rows, columns], format),
        Kind::Blocks(bits, block_len, with_mins) => {
            let largest = (1 << bits) as f32 - 1.0;
            let quant = |value: f32| (f32::midpoint(value, 1.0) * largest) as u8;
            let quants = noise(seed, rows * columns).into_iter().map(quant).collect::<Vec<_>>();
            let scales = noise(seed + 1, rows * columns / block_len);
            let mins = noise(seed + 2, rows * columns / block_len);
            let mins = with_mins.then_some(&mins[..]);
            let zero = if with_mins { 0 } else { 1 << (bits - 1) };
            let matrix = QuantizedMatrix {
                quants: &quants,
                scales: &scales,
                mins,
                zero_point: zero,
                bits,
                block_len,
            };
            Packed::from_blocks(&matrix, [rows, columns])
        }
    }
}

/// Within 2e-6 of the largest number.
pub(super) fn assert_close(what: &str, found: &[f32], expected: &[f64]) {
    let largest = expected.iter().fold(1e-30_f64, |a, b| a.max(b.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= 2e-6 * largest, "{what}: {found} instead of {expected} at {at}");
    }
}

fn check(kind: Kind, n: usize, rows: &[usize], columns: usize, add: bool) {
    let weights = (1..).zip(rows).map(|(seed, &rows)| packed(kind, seed, [rows, columns]));
    let weights = weights.collect::<Vec<_>>();
    let dense = weights.iter().map(Packed::to_dense).collect::<Vec<_>>();
    let weights = weights.iter().collect::<Vec<_>>();
    let width = rows.iter().sum::<usize>();
    let (mut input, mut gradient) = (noise(77, n * columns), noise(78, n * width));
    if kind == Kind::Dense(Format::Bf16) {
        // Some levels round them, see the tests of `bf16`.
        for value in input.iter_mut().chain(&mut gradient) {
            *value = half::bf16::from_f32(*value).to_f32();
        }
    }
    let before = if add { 1.0 } else { 0.0 };

    let mut forward = vec![before; n * width];
    let mut back = vec![before; n * columns];
    for r in 0..n {
        let mut column = 0;
        for dense in &dense {
            for weight in dense.chunks_exact(columns) {
                let row = &input[r * columns..][..columns];
                let dy = f64::from(gradient[r * width + column]);
                for (k, (x, w)) in row.iter().zip(weight).enumerate() {
                    forward[r * width + column] += f64::from(*x) * f64::from(*w);
                    back[r * columns + k] += dy * f64::from(*w);
                }
                column += 1;
            }
        }
    }
    for level in SimdLevel::available() {
        let what = format!("{level:?} {kind:?} {n} x {columns} x {rows:?}");
        let mut out = vec![if add { 1.0 } else { f32::NAN }; n * width];
        product(level, &input, &weights, &mut out, add);
        assert_close(&what, &out, &forward);
        let mut d_input = vec![if add { 1.0 } else { f32::NAN }; n * columns];
        product_back(level, &gradient, &weights, &mut d_input, add);
        assert_close(&format!("{what}, back"), &d_input, &back);
    }
}

const KINDS: [Kind; 8] = [
    Kind::Dense(Format::F32),
    Kind::Dense(Format::Bf16),
    Kind::Dense(Format::F16),
    Kind::Blocks(8, 32, true),
    Kind::Blocks(8, 32, false),
    Kind::Blocks(4, 32, true),
    Kind::Blocks(4, 16, false),
    Kind::Blocks(8, 16, true),
];

#[test]
fn every_kind_gives_both_products() {
    for kind in KINDS {
        for n in [1, 2, 3, 4, 5, 17] {
            check(kind, n, &[48, 7, 33], 96, false);
        }
        check(kind, 130, &[100], 320, true);
        check(kind, 3, &[100], 320, true);
    }
}

#[test]
fn a_matrix_without_rows_or_columns_to_spare_is_read_back_as_it_was() {
    let values = noise(3, 5 * 6);
    let packed = Packed::new(&values, [5, 6], Format::F32);
    assert_eq!(packed.to_dense(), values);
    assert_eq!((packed.dims(), packed.panels(), packed.bits()), ([5, 6], 1, 32));
    assert_eq!(packed.bytes(), 16 * 6 * 4);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let weights = [packed(Kind::Dense(Format::Bf16), 1, [75, 300])];
    let weights = weights.iter().collect::<Vec<_>>();
    let (input, gradient) = (noise(5, 50 * 300), noise(6, 50 * 75));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (mut out, mut d_input) = (vec![0.0; 50 * 75], vec![0.0; 50 * 300]);
            product(SimdLevel::best(), &input, &weights, &mut out, false);
            product_back(SimdLevel::best(), &gradient, &weights, &mut d_input, false);
            (out, d_input)
        })
    };
    assert_eq!(with(1), with(3));
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
        add in any::<bool>(),
    ) {
        check(KINDS[kind], n, &[first, second], columns, add);
    }

    #[test]
    fn odd_sizes_of_blocks(
        kind in 3_usize..8,
        n in 1_usize..40,
        rows in 1_usize..70,
        blocks in 1_usize..12,
    ) {
        check(KINDS[kind], n, &[rows], blocks * 32, false);
    }
}
