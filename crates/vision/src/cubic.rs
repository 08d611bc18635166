//! The kernel of cubic convolution interpolation.

/// Weight of a sample at distance `x`. `a` is -0.5 in Pillow and -0.75 in PyTorch.
///
/// Source: R. Keys, "Cubic convolution interpolation for digital image processing", 1981.
pub(crate) fn cubic_kernel(x: f64, a: f64) -> f64 {
    let x = x.abs();
    match x {
        ..1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        ..2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * a,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_is_one_at_zero_and_zero_at_other_integers() {
        for a in [-0.5, -0.75] {
            let found = [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0].map(|x| cubic_kernel(x, a));
            assert_eq!(found.map(f64::abs), [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        }
    }

    #[test]
    fn weights_of_four_neighbors_sum_to_one() {
        for a in [-0.5, -0.75] {
            let weights = [1.3, 0.3, 0.7, 1.7].map(|x| cubic_kernel(x, a));
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{weights:?}");
        }
    }
}
