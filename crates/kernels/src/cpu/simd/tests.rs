//! All levels compared with plain Rust.

use half::{bf16, f16};

use super::{Simd, SimdLevel, dispatch};

/// Compares the results of `work` at every level with those of plain Rust.
fn check_every_level(values: &[f32; 16], work: impl Fn(SimdLevel, &[f32; 16]) -> Vec<f32>) {
    let expected = work(SimdLevel::Portable, values);
    for level in SimdLevel::available() {
        let found = work(level, values);
        for (found, expected) in found.iter().zip(&expected) {
            let error = (found - expected).abs() / expected.abs().max(1e-30);
            assert!(error < 3e-7, "{level:?}: {found} instead of {expected}");
        }
    }
}

fn map<S: Simd>(simd: S, values: &[f32; 16], work: impl Fn(S::F) -> S::F) -> Vec<f32> {
    let mut out = vec![0.0; 16];
    for (from, to) in values.chunks(S::LANES).zip(out.chunks_mut(S::LANES)) {
        simd.write(to, work(simd.read(from)));
    }
    out
}

const VALUES: [f32; 16] = [
    0.0, 1.0, -1.0, 0.3, -0.7, 10.0, -10.0, 87.0, -87.0, 1e-8, -1e-8, 5.5, -33.3, 2.5, 88.0, -60.0,
];

#[test]
fn exp_is_accurate_to_the_last_places() {
    check_every_level(&VALUES, |level, values| {
        let found = dispatch!(level, simd => map(simd, values, |x| simd.exp(x)));
        for (found, value) in found.iter().zip(values) {
            let expected = f64::from(*value).exp();
            let error = (f64::from(*found) - expected).abs() / expected;
            assert!(error < 2.5e-7, "{level:?}: exp({value}) is {found}, not {expected}");
        }
        found
    });
    for level in SimdLevel::available() {
        let nan = dispatch!(level, simd => map(simd, &[f32::NAN; 16], |x| simd.exp(x)));
        assert!(nan.iter().all(|value| value.is_nan()), "{level:?}");
    }
    let far = dispatch!(SimdLevel::best(), simd => map(simd, &[-1e30; 16], |x| simd.exp(x)));
    assert!(far.iter().all(|&value| value < 2e-38));
}

#[test]
fn lanes_are_reduced_to_sum_and_maximum() {
    for level in SimdLevel::available() {
        let values: [f32; 16] = std::array::from_fn(|i| (i as f32 - 5.0) * 2.0);
        let (sum, largest, lanes) = dispatch!(level, simd => {
            let vector = simd.read(&values);
            (simd.reduce_sum(vector), simd.reduce_max(vector), lanes(simd))
        });
        assert_eq!(sum, values[..lanes].iter().sum::<f32>());
        assert_eq!(largest, values[lanes - 1]);
    }
}

fn lanes<S: Simd>(_simd: S) -> usize {
    S::LANES
}

#[test]
fn loads_convert_to_f32() {
    let bf16s: [bf16; 16] = std::array::from_fn(|i| bf16::from_f32(i as f32 * 0.5 - 3.0));
    let mut f16s: [f16; 16] = std::array::from_fn(|i| f16::from_f32(i as f32 * 0.1 - 0.7));
    // Smallest subnormal, largest, negative zero.
    (f16s[0], f16s[1], f16s[2]) = (f16::from_bits(0x0001), f16::MAX, f16::from_bits(0x8000));
    let bytes: [u8; 16] = std::array::from_fn(|i| (i * 17) as u8);
    for level in SimdLevel::available() {
        for i in 0..16 / dispatch!(level, simd => lanes(simd)) {
            let (found, lanes) = dispatch!(level, simd => {
                let n = lanes(simd);
                let mut out = [[0.0_f32; 16]; 5];
                // SAFETY: the arrays have 16 elements, and `i * n + n` is at most 16.
                let vectors = unsafe {
                    let (low, high) = simd.load_nibbles(bytes[i * n..].as_ptr());
                    [
                        simd.load_bf16(bf16s[i * n..].as_ptr()),
                        simd.load_f16(f16s[i * n..].as_ptr()),
                        simd.load_u8(bytes[i * n..].as_ptr()),
                        low,
                        high,
                    ]
                };
                for (out, vector) in out.iter_mut().zip(vectors) {
                    simd.write(out, vector);
                }
                (out, n)
            });
            let [from_bf16, from_f16, from_u8, low, high] = found;
            for lane in 0..lanes {
                let at = i * lanes + lane;
                assert_eq!(from_bf16[lane], bf16s[at].to_f32());
                assert_eq!(from_f16[lane].to_bits(), f16s[at].to_f32().to_bits());
                assert_eq!(from_u8[lane], f32::from(bytes[at]));
                assert_eq!(low[lane], f32::from(bytes[at] & 15));
                assert_eq!(high[lane], f32::from(bytes[at] >> 4));
            }
        }
    }
}

#[test]
fn blocks_are_transposed() {
    let from = std::array::from_fn(|i| i as f32);
    for level in SimdLevel::available() {
        let mut to = [0.0; 256];
        dispatch!(level, simd => simd.transpose_16x16(&from, &mut to));
        for (at, value) in to.into_iter().enumerate() {
            assert_eq!(value, from[at % 16 * 16 + at / 16], "{level:?} at {at}");
        }
    }
}
