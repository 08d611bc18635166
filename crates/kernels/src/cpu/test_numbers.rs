//! Inputs and comparisons of the kernels' tests.

/// Reproducible values between -1 and 1.
pub fn pseudo_random(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The largest absolute value, at least `floor`.
pub fn largest(values: &[f64], floor: f64) -> f64 {
    values.iter().fold(floor, |a, b| a.max(b.abs()))
}

/// Compares the results of a GEMM.
///
/// # Panics
/// If a value differs by more than 2e-6 of the largest.
#[track_caller]
pub fn assert_close_relative(what: &str, found: &[f32], expected: &[f64]) {
    assert_close(what, found, expected, 2e-6 * largest(expected, 1e-30));
}

/// # Panics
/// If a value differs by more than `tolerance`.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(
            error <= tolerance,
            "{what}: {found} instead of {expected} at {at}, tolerance {tolerance}",
        );
    }
}
