//! Sums with a fixed order of additions.

use burn::tensor::Tensor;

/// The sum of all values, bit for bit the same on every call.
///
/// Burn's own sum of a whole tensor adds partial sums in the order in which threads finish: on GPUs
/// with float atomics, and on flex from four million values on.
///
/// # Shapes
/// - output: `[1]`
pub(crate) fn deterministic_sum(values: Tensor<1>) -> Tensor<1> {
    const CHUNK: usize = 1024;
    let len = values.dims()[0];
    if len <= CHUNK {
        return values.sum_dim(0);
    }
    let chunks = len / CHUNK;
    let sums = values.clone().slice(0..chunks * CHUNK).reshape([chunks, CHUNK]).sum_dim(1);
    let mut partial_sums = vec![sums.reshape([chunks])];
    if chunks * CHUNK < len {
        partial_sums.push(values.slice(chunks * CHUNK..len));
    }
    deterministic_sum(Tensor::cat(partial_sums, 0))
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
