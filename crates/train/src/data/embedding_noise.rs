//! NEFTune: noise on the token embeddings in training.

use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Uniform noise on the token embeddings of training batches.
///
/// The values of a row of `n` tokens are between `-a` and `a`, with
/// `a = alpha / sqrt(n * d_model)`. They are a function of the seed, the step and the example, and so
/// independent of how a step is divided into batches.
///
/// Source: arXiv 2310.05914.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EmbeddingNoise {
    pub alpha: f64,
    pub seed: u64,
}

/// The noise of one batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BatchNoise {
    noise: EmbeddingNoise,
    step: usize,
    /// The example of each row.
    examples: Vec<usize>,
}

impl EmbeddingNoise {
    /// The noise of a batch of these examples in a step.
    pub fn of_batch(self, step: usize, examples: &[usize]) -> BatchNoise {
        BatchNoise { noise: self, step, examples: examples.to_vec() }
    }

    /// The values of one row, token by token.
    fn row(self, step: usize, example: usize, tokens: usize, d_model: usize) -> Vec<f32> {
        /// Separates these numbers from those of the shuffling.
        const SEED_OFFSET: u64 = 0x6e_6f69_7365;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(SEED_OFFSET));
        rng.set_stream(((step as u64) << 32) ^ example as u64);
        let len = tokens * d_model;
        let magnitude = (self.alpha / (len.max(1) as f64).sqrt()) as f32;
        // 24 random bits: every value is exact in f32.
        let uniform = |bits: u32| (bits >> 8) as f32 / (1_u32 << 23) as f32 - 1.0;
        (0..len).map(|_| uniform(rng.next_u32()) * magnitude).collect()
    }
}

impl BatchNoise {
    /// The noise of all rows of hidden states. `token_rows` gives the row of each token of each
    /// sequence; no two tokens share a row.
    ///
    /// # Shapes
    /// - output: `shape`, `[batch, seq, d_model]`
    pub fn tensor(
        &self,
        token_rows: &[Vec<usize>],
        shape: [usize; 3],
        device: &Device,
    ) -> Tensor<3> {
        let [_batch, _seq, d_model] = shape;
        let mut values = vec![0.0; shape.iter().product()];
        for (&example, rows) in self.examples.iter().zip(token_rows) {
            let noise = self.noise.row(self.step, example, rows.len(), d_model);
            for (&row, noise) in rows.iter().zip(noise.chunks(d_model)) {
                values[row * d_model..][..d_model].copy_from_slice(noise);
            }
        }
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: EmbeddingNoise = EmbeddingNoise { alpha: 5.0, seed: 7 };

    #[test]
    fn noise_is_a_function_of_seed_step_and_example() {
        let row = |noise: EmbeddingNoise, step, example| noise.row(step, example, 3, 4);
        let first = row(NOISE, 2, 9);
        assert_eq!(first, row(NOISE, 2, 9));
        assert_ne!(first, row(NOISE, 3, 9));
        assert_ne!(first, row(NOISE, 2, 8));
        assert_ne!(first, row(EmbeddingNoise { seed: 8, ..NOISE }, 2, 9));
    }

    #[test]
    fn noise_is_uniform_with_a_magnitude_of_alpha_over_the_root_of_the_values() {
        let row = NOISE.row(0, 0, 100, 64);
        let magnitude = 5.0 / 80.0_f32;
        assert!(row.iter().all(|value| value.abs() <= magnitude));
        let mean = row.iter().sum::<f32>() / 6400.0;
        assert!(mean.abs() < 0.03 * magnitude, "{mean}");
        // The variance of a uniform distribution.
        let variance = row.iter().map(|value| value * value).sum::<f32>() / 6400.0;
        assert!((variance / (magnitude * magnitude / 3.0) - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn a_row_has_the_same_noise_wherever_it_is_in_a_batch() {
        let device = testing::flex();
        let alone = NOISE.of_batch(1, &[5]).tensor(&[vec![0, 1]], [1, 2, 3], &device);
        let batch = NOISE.of_batch(1, &[4, 5]);
        let both = batch.tensor(&[vec![0, 1, 2], vec![3, 4]], [2, 3, 3], &device);
        let both = testing::values(both);
        assert_eq!(testing::values(alone), both[9..15]);
        assert_eq!(both[15..], [0.0; 3], "padding has no noise");
    }
}
