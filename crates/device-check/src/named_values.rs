//! Input values, the same on every device, and comparison of output values.

use burn::tensor::{Device, Tensor, TensorData, kind};
use llama::read_back;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use train::Result;

/// An output of a device.
#[derive(Debug, Clone)]
pub struct NamedValues {
    pub name: String,
    pub values: Vec<f32>,
}

impl NamedValues {
    /// Reads a tensor from its device.
    pub fn from_tensor<const D: usize, K: kind::Basic>(
        name: impl Into<String>,
        tensor: Tensor<D, K>,
    ) -> Result<Self> {
        Ok(Self { name: name.into(), values: read_back(tensor)?.iter::<f32>().collect() })
    }

    /// The largest difference from `expected`, relative to its largest value; infinite for NaN, for
    /// another length, or if all expected values are 0.
    pub fn relative_difference(&self, expected: &Self) -> f64 {
        let largest = expected.values.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
        if self.values.len() != expected.values.len() || !(largest > 0.0 && largest.is_finite()) {
            return f64::INFINITY;
        }
        let pairs = self.values.iter().zip(&expected.values);
        let differences = pairs.map(|(actual, expected)| f64::from((actual - expected).abs()));
        // `f64::max` ignores NaN.
        let worst = differences.fold(0.0, |max: f64, difference| {
            if difference.is_finite() { max.max(difference) } else { f64::INFINITY }
        });
        worst / f64::from(largest)
    }
}

/// Values between -1 and 1 from a seed.
pub fn random_values(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// A tensor of [`random_values`].
pub fn random_tensor<const D: usize>(seed: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(random_values(seed, shape.iter().product()), shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(values: &[f32]) -> NamedValues {
        NamedValues { name: "some".into(), values: values.to_vec() }
    }

    #[test]
    fn the_difference_is_relative_to_the_largest_value() {
        let expected = numbers(&[0.0, -8.0, 2.0]);
        assert_eq!(expected.relative_difference(&expected), 0.0);
        assert_eq!(numbers(&[0.0, -8.0, 4.0]).relative_difference(&expected), 0.25);
    }

    #[test]
    fn nan_or_missing_values_give_an_infinite_difference() {
        let expected = numbers(&[1.0, 2.0]);
        for actual in [&[f32::NAN, 2.0][..], &[f32::INFINITY, 2.0], &[1.0], &[]] {
            assert_eq!(numbers(actual).relative_difference(&expected), f64::INFINITY, "{actual:?}");
        }
        assert_eq!(expected.relative_difference(&numbers(&[f32::NAN, 2.0])), f64::INFINITY);
        // Zeros alone prove nothing.
        assert_eq!(numbers(&[0.0]).relative_difference(&numbers(&[0.0])), f64::INFINITY);
    }
}
