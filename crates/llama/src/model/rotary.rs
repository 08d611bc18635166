//! Rotary position embedding: position ids ─► angles ─► rotation of pairs of each query and key.
//!
//! Pairs are `(i, i + head_dim / 2)`, Hugging Face's layout.

use burn::tensor::{Device, Tensor, TensorData};
use kernels::RotaryTable;

use crate::config::{LlamaConfig, RopeScaling};

/// Frequencies of the rotary embedding, in radians per position.
#[derive(Debug, Clone)]
pub(super) struct RotaryEmbedding {
    frequencies: Vec<f32>,
}

/// Cosines and sines of the positions of one pass, as tensors.
#[derive(Debug, Clone)]
pub(super) struct RotaryTensors {
    /// `[batch or 1, 1, seq, head_dim]`
    cos: Tensor<4>,
    /// `[batch or 1, 1, seq, head_dim]`
    sin: Tensor<4>,
}

impl RotaryEmbedding {
    /// The frequencies of `config`.
    ///
    /// Source: arXiv 2104.09864; scaling as in `transformers`, `modeling_rope_utils.py`.
    pub(super) fn new(config: &LlamaConfig) -> Self {
        let half = config.head_dim / 2;
        let frequencies = (0..half)
            .map(|i| {
                let exponent = 2.0 * i as f32 / config.head_dim as f32;
                let base = 1.0 / (config.rope.theta as f32).powf(exponent);
                scale_frequency(base, i, &config.rope.scaling)
            })
            .collect();
        Self { frequencies }
    }

    /// Cosines and sines of each row's positions.
    ///
    /// `position_ids` holds one list for the whole batch, or one list per row; all have the same length.
    pub(super) fn tensors(&self, position_ids: &[Vec<usize>], device: &Device) -> RotaryTensors {
        let size = [position_ids.len(), position_ids[0].len()];
        let table = self.table(position_ids.iter().flatten().copied());
        RotaryTensors::from_table(&table, size, device)
    }

    /// Cosines and sines of positions, for fused attention.
    pub(super) fn table(&self, position_ids: impl Iterator<Item = usize>) -> RotaryTable {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in position_ids {
            for frequency in &self.frequencies {
                let (s, c) = (position as f32 * frequency).sin_cos();
                cos.push(c);
                sin.push(s);
            }
        }
        RotaryTable::new(cos, sin)
    }
}

fn scale_frequency(frequency: f32, index: usize, scaling: &RopeScaling) -> f32 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / *factor as f32,
        RopeScaling::PerFrequency { divisors } => frequency / divisors[index],
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        } => {
            let frequency = f64::from(frequency);
            let wavelength = 2.0 * std::f64::consts::PI / frequency;
            let context = *original_max_positions as f64;
            let scaled = if wavelength < context / high_freq_factor {
                frequency
            } else if wavelength > context / low_freq_factor {
                frequency / factor
            } else {
                let smooth =
                    (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            };
            scaled as f32
        }
    }
}

impl RotaryTensors {
    /// Tensors of a table with `batch * seq` rows.
    pub(super) fn from_table(
        table: &RotaryTable,
        [batch, seq]: [usize; 2],
        device: &Device,
    ) -> Self {
        let to_tensor = |half: &[f32]| {
            let width = half.len() / (batch * seq);
            let data = TensorData::new(half.to_vec(), [batch, 1, seq, width]);
            let half = Tensor::<4>::from_data(data, &device.clone().without_autodiff());
            Tensor::cat(vec![half.clone(), half], 3)
        };
        Self { cos: to_tensor(table.cos()), sin: to_tensor(table.sin()) }
    }

    /// Rotates heads.
    ///
    /// # Shapes
    /// - `heads` and output: `[batch, heads, seq, head_dim]`
    pub(super) fn apply(&self, heads: Tensor<4>) -> Tensor<4> {
        let [_batch, _heads, _seq, head_dim] = heads.dims();
        let first = heads.clone().narrow(3, 0, head_dim / 2);
        let second = heads.clone().narrow(3, head_dim / 2, head_dim / 2);
        let rotated_half = Tensor::cat(vec![second.neg(), first], 3);
        heads * self.cos.clone() + rotated_half * self.sin.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quarter_rotation() -> RotaryEmbedding {
        RotaryEmbedding { frequencies: vec![std::f32::consts::FRAC_PI_2] }
    }

    #[test]
    fn position_zero_is_unrotated_and_position_one_rotates_by_its_frequency() {
        for device in testing::devices() {
            let rotation = quarter_rotation().tensors(&[vec![0, 1]], &device);
            let heads = Tensor::<4>::from_floats([[[[1.0, 0.0], [1.0, 0.0]]]], &device);
            let expected = Tensor::<4>::from_floats([[[[1.0, 0.0], [0.0, 1.0]]]], &device);
            testing::assert_close("rotation", rotation.apply(heads), expected, 1e-6);
        }
    }

    #[test]
    fn each_row_may_have_its_own_positions() {
        let device = testing::flex();
        let rotation = quarter_rotation().tensors(&[vec![0], vec![2]], &device);
        let heads = Tensor::<4>::from_floats([[[[1.0, 0.0]]], [[[1.0, 0.0]]]], &device);
        let expected = Tensor::<4>::from_floats([[[[1.0, 0.0]]], [[[-1.0, 0.0]]]], &device);
        testing::assert_close("rotation", rotation.apply(heads), expected, 1e-6);
    }

    #[test]
    fn linear_scaling_divides_every_frequency() {
        assert_eq!(scale_frequency(0.5, 0, &RopeScaling::Linear { factor: 4.0 }), 0.125);
    }

    #[test]
    fn llama3_scaling_keeps_short_wavelengths_and_stretches_long_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_positions: 16,
        };
        assert_eq!(scale_frequency(2.0, 0, &scaling), 2.0);
        assert_eq!(scale_frequency(0.1, 0, &scaling), 0.012_5);
    }

    /// See `tests/golden/README.md` for how the file is made.
    #[test]
    fn frequencies_match_transformers_for_every_config_form() {
        let path = testing::golden_folder().join("files/rope.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let mut json = golden["sizes"].clone();
            json["model_type"] = "llama".into();
            for (key, value) in case["settings"].as_object().unwrap() {
                json[key] = value.clone();
            }
            let config = crate::weights::huggingface::parse_config(&path, &json.to_string());
            let found = RotaryEmbedding::new(&config.unwrap()).frequencies;
            let expected = case["frequencies"].as_array().unwrap();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                let expected = expected.as_f64().unwrap();
                let difference = (f64::from(*found) - expected).abs();
                assert!(difference < 1e-6 * expected, "{case}: {found} for {expected}");
            }
        }
    }
}
