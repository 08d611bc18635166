//! Sums that are the same each time.

use burn::tensor::Tensor;

/// Sum of all numbers, to the bit the same each time.
///
/// Burn's own sum of a whole tensor adds up parts in the order in which threads finish them: on a
/// GPU with float atomics, and on flex from four million numbers.
///
/// # Shapes
/// - output: `[1]`
pub(crate) fn deterministic_sum(values: Tensor<1>) -> Tensor<1> {
    const CHUNK: usize = 1024;
    let len = values.dims()[0];
    if len <= CHUNK {
        return values.sum_dim(0);
    }
    let parts = len / CHUNK;
    let sums = values.clone().slice(0..parts * CHUNK).reshape([parts, CHUNK]).sum_dim(1);
    let mut left = vec![sums.reshape([parts])];
    if parts * CHUNK < len {
        left.push(values.slice(parts * CHUNK..len));
    }
    deterministic_sum(Tensor::cat(left, 0))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Int, Tensor};

    use super::deterministic_sum;

    #[test]
    fn deterministic_sum_counts_every_value_once() {
        for device in testing::devices() {
            for len in [1, 1024, 1025, 2048, 5_000] {
                let values = Tensor::<1, Int>::arange(1..len + 1, &device).float();
                let sum = testing::values(deterministic_sum(values))[0];
                let expected = (len * (len + 1) / 2) as f32;
                assert!((sum - expected).abs() <= expected * 1e-6, "{len}: {sum}");
            }
        }
    }

    #[test]
    fn a_long_sum_is_deterministic() {
        let device = testing::flex();
        let len = 5_000_000;
        let values = (Tensor::<1, Int>::arange(0..len, &device).float() * 0.37).sin();
        let first = testing::values(deterministic_sum(values.clone()));
        for _ in 0..20 {
            assert_eq!(testing::values(deterministic_sum(values.clone())), first);
        }
    }
}
