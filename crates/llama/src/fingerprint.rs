//! Fingerprint of a base model, the same for every file format and precision of the model.
//!
//! Sizes must be equal. Norm weights are f32 or bf16 in every file and never quantized, so a hash of all of
//! them (rounded to bf16) identifies the model. Models with equal norms, such as randomly initialized ones,
//! differ in the outputs of two projections for a fixed vector; sums over many weights average out the
//! rounding of a precision. Names and hashes of files would depend on the format.

use std::hash::Hasher;

use burn::tensor::{DType, Tensor, TensorData};
use fnv::FnvHasher;
use half::bf16;
use serde::{Deserialize, Serialize};

use crate::config::ModelShape;
use crate::error::Result;
use crate::model::{Linear, Llama};
use crate::read_back::read_back;

/// Sizes and a digest of a model's weights. Adapters store it to recognize their base model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Sizes.
    pub sizes: ModelShape,
    /// Hash of every norm weight, rounded to bf16.
    pub norms: String,
    /// Some outputs of the first layer's query projection and the last layer's down projection for a
    /// fixed vector.
    pub sample: Vec<f32>,
}

impl Llama {
    /// The model's fingerprint. Reads back the norms and the outputs of two projections.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device)
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        let (norms, sample) = (self.hash_norms()?, self.sample_outputs()?);
        Ok(Fingerprint { sizes: self.config().into(), norms, sample })
    }

    /// FNV-1a: distinguishes models, not cryptographic.
    fn hash_norms(&self) -> Result<String> {
        let layers = self.layers.iter();
        let norms = layers.flat_map(|layer| [&layer.attention_norm, &layer.feed_forward_norm]);
        let weights = norms.chain([&self.norm]).map(|norm| norm.weight.val()).collect();
        let data = read_back(Tensor::cat(weights, 0))?.convert_dtype(DType::F32);
        let mut hash = FnvHasher::default();
        for weight in data.iter::<f32>() {
            hash.write(&bf16::from_f32(weight).to_le_bytes());
        }
        Ok(format!("{:016x}", hash.finish()))
    }

    fn sample_outputs(&self) -> Result<Vec<f32>> {
        /// Outputs per projection.
        const SAMPLE_LEN: usize = 16;
        let project = |linear: &Linear, width: usize| {
            // Pseudo-random signs: sums of many weights, in which rounding averages out.
            let mut state: u32 = 0x9e37_79b9;
            let signs = (0..width).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if state >> 31 == 0 { 1.0 } else { -1.0 }
            });
            let signs = TensorData::new(signs.collect::<Vec<f32>>(), [1, width]);
            let input = Tensor::<2>::from_data(signs, &self.device().without_autodiff());
            let output = read_back(linear.forward(input))?.convert_dtype(DType::F32);
            Ok::<_, crate::Error>(
                output.iter::<f32>().take(SAMPLE_LEN).map(round_4_digits).collect::<Vec<_>>(),
            )
        };
        let (first, last) = (&self.layers[0], &self.layers[self.layers.len() - 1]);
        let mut sample = project(&first.attention.query, self.config().d_model)?;
        sample.extend(project(&last.feed_forward.down, self.config().d_ff)?);
        Ok(sample)
    }
}

/// Four digits are enough to compare, and keep stored fingerprints short.
fn round_4_digits(x: f32) -> f32 {
    format!("{x:.3e}").parse().expect("a number was written")
}

impl Fingerprint {
    /// Differences between two models; none if they are equal except for precision.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let pairs = |sizes: &ModelShape| {
            [
                ("layers", sizes.n_layers),
                ("heads", sizes.n_heads),
                ("key and value heads", sizes.n_kv_heads),
                ("width of a head", sizes.head_dim),
                ("width", sizes.d_model),
                ("width of the feed-forward", sizes.d_ff),
                ("vocabulary", sizes.vocab_size),
                ("gates of the feed-forward", usize::from(sizes.gated)),
            ]
        };
        for ((what, ours), (_, theirs)) in pairs(&self.sizes).into_iter().zip(pairs(&other.sizes)) {
            if ours != theirs {
                found.push(format!("{what}: {ours} and {theirs}"));
            }
        }
        if !found.is_empty() {
            return found;
        }
        if self.norms != other.norms {
            found.push(format!("hash of the norms: {} and {}", self.norms, other.norms));
        }
        let similarity = self.cosine_similarity(other);
        // Quantization to 4 bits leaves about 0.99; unrelated models are near 0.
        if similarity < 0.9 {
            found.push(format!(
                "sampled outputs: cosine similarity {similarity:.2}, expected 0.9 to 1"
            ));
        }
        found
    }

    /// Cosine similarity of the two samples.
    fn cosine_similarity(&self, other: &Self) -> f64 {
        if self.sample.len() != other.sample.len() {
            return 0.0;
        }
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        let lengths = (dot(&self.sample, &self.sample) * dot(&other.sample, &other.sample)).sqrt();
        // Two models of zeros are equal.
        if lengths == 0.0 { 1.0 } else { dot(&self.sample, &other.sample) / lengths }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LlamaConfig, RopeConfig, RopeScaling};
    use crate::model_source::ModelSource;
    use crate::precision::Precision;
    use crate::weights;

    fn tiny(d_ff: usize) -> Llama {
        let rope = RopeConfig { theta: 1e4, scaling: RopeScaling::None };
        let config = LlamaConfig {
            n_layers: 2,
            n_heads: 2,
            n_kv_heads: 1,
            head_dim: 4,
            d_model: 8,
            d_ff,
            vocab_size: 11,
            max_positions: 16,
            norm_eps: 1e-5,
            rope,
            tied_head: true,
            ..LlamaConfig::default()
        };
        weights::random_init(config, &testing::flex()).unwrap()
    }

    #[test]
    fn fingerprints_match_across_precisions() {
        let source =
            ModelSource::open(testing::golden_folder().join("llama-gqa-tied/base")).unwrap();
        let fingerprint_in =
            |precision| source.load(precision, &testing::flex()).unwrap().fingerprint().unwrap();
        let reference = fingerprint_in(Precision::F32);
        assert_eq!(reference.differences(&reference), [""; 0]);
        for precision in [Precision::BF16, Precision::F16, Precision::Bits8, Precision::Bits4] {
            assert_eq!(reference.differences(&fingerprint_in(precision)), [""; 0], "{precision}");
        }
    }

    #[test]
    fn different_weights_and_shapes_are_reported() {
        let model = tiny(12).fingerprint().unwrap();
        // All norms are ones: only the sampled outputs differ.
        let other = model.differences(&tiny(12).fingerprint().unwrap());
        assert_eq!(other.len(), 1, "{other:?}");
        assert!(other[0].starts_with("sampled outputs"), "{other:?}");
        assert_eq!(
            model.differences(&tiny(14).fingerprint().unwrap()),
            ["width of the feed-forward: 12 and 14"]
        );
    }
}
