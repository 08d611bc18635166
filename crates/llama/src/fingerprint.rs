//! What tells one base model from another, whatever file it came from and in whatever precision.
//!
//! Sizes must agree to the number. Norm weights are f32 or bf16 in every file and never quantized,
//! so a hash over all of them (rounded to bf16) is the same for each form of a model. Models whose
//! norms are alike, such as fresh ones, differ in what a layer makes of a fixed vector.

use std::hash::Hasher;

use burn::tensor::{DType, Tensor, TensorData};
use fnv::FnvHasher;
use half::bf16;
use serde::{Deserialize, Serialize};

use crate::config::Architecture;
use crate::config::{FeedForwardKind, LlamaConfig};
use crate::error::Result;
use crate::linear::Linear;
use crate::model::Llama;
use crate::read_back::read_back;
use crate::seam::LinearName;

/// What fixes the shapes of everything that can be adapted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelShape {
    /// Family of the model.
    pub architecture: &'static Architecture,
    /// Decoder layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Inner width of the feed-forward.
    pub d_ff: usize,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Whether the feed-forward has a gate.
    pub gated: bool,
}

impl From<&LlamaConfig> for ModelShape {
    fn from(config: &LlamaConfig) -> Self {
        let LlamaConfig { n_layers, n_heads, n_kv_heads, head_dim, d_model, d_ff, .. } = *config;
        let LlamaConfig { architecture, vocab_size, feed_forward, .. } = *config;
        let gated = feed_forward == FeedForwardKind::SwiGlu;
        Self {
            architecture,
            n_layers,
            n_heads,
            n_kv_heads,
            head_dim,
            d_model,
            d_ff,
            vocab_size,
            gated,
        }
    }
}

impl ModelShape {
    /// Rows and columns of a linear layer's weight, `[out, in]`.
    pub fn linear_shape(&self, name: LinearName) -> [usize; 2] {
        let (query, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        match name {
            LinearName::Query => [query, self.d_model],
            LinearName::Key | LinearName::Value => [kv, self.d_model],
            LinearName::Output => [self.d_model, query],
            LinearName::Gate | LinearName::Up => [self.d_ff, self.d_model],
            LinearName::Down => [self.d_model, self.d_ff],
            LinearName::Head => [self.vocab_size, self.d_model],
        }
    }

    /// Checks that a model can have such sizes.
    ///
    /// # Errors
    /// As [`LlamaConfig::validate`].
    pub fn validate(&self) -> Result<()> {
        let Self { n_layers, n_heads, n_kv_heads, head_dim, d_model, d_ff, vocab_size, .. } = *self;
        let base = self.architecture.defaults();
        let max_positions = base.max_positions.max(1);
        let sizes = LlamaConfig { n_layers, n_heads, n_kv_heads, head_dim, d_model, ..base };
        LlamaConfig { d_ff, vocab_size, max_positions, ..sizes }.validate()
    }

    /// Whether a layer has a linear layer of this name; the head's layer is the number of layers.
    pub fn has_linear(&self, layer: usize, name: LinearName) -> bool {
        match name {
            LinearName::Head => layer == self.n_layers,
            LinearName::Gate => layer < self.n_layers && self.gated,
            _ => layer < self.n_layers,
        }
    }
}

/// Sizes and a digest of a model's weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Shapes.
    pub sizes: ModelShape,
    /// Hash of every norm weight, rounded to bf16.
    pub norms: String,
    /// What the first layer's query projection and the last layer's downward projection make of a
    /// fixed vector: some of their outputs.
    pub sample: Vec<f32>,
}

impl Llama {
    /// What tells this model from others. Reads the norms and runs two small products.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device)
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        let (norms, sample) = (self.hash_norms()?, self.sample()?);
        Ok(Fingerprint { sizes: self.config().into(), norms, sample })
    }

    /// FNV-1a: it tells models apart; it keeps no secrets.
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

    fn sample(&self) -> Result<Vec<f32>> {
        /// Outputs of each product.
        const KEPT: usize = 16;
        let through = |linear: &Linear, width: usize| {
            // Signs without a pattern: sums of many weights, in which rounding averages out.
            let mut state: u32 = 0x9e37_79b9;
            let signs = (0..width).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if state >> 31 == 0 { 1.0 } else { -1.0 }
            });
            let signs = TensorData::new(signs.collect::<Vec<f32>>(), [1, width]);
            let input = Tensor::<2>::from_data(signs, &self.device().without_autodiff());
            let output = read_back(linear.forward(input))?.convert_dtype(DType::F32);
            Ok::<_, crate::Error>(output.iter::<f32>().take(KEPT).map(rounded).collect::<Vec<_>>())
        };
        let (first, last) = (&self.layers[0], &self.layers[self.layers.len() - 1]);
        let mut sample = through(&first.attention.query, self.config().d_model)?;
        sample.extend(through(&last.feed_forward.down, self.config().d_ff)?);
        Ok(sample)
    }
}

/// Four digits: enough to compare, short to read.
fn rounded(x: f32) -> f32 {
    format!("{x:.3e}").parse().expect("a number was written")
}

impl Fingerprint {
    /// What differs between two models, or nothing if they are the same but for precision.
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
        let alike = self.likeness(other);
        // Four bits a weight leave about 0.99; two unrelated models are near 0.
        if alike < 0.9 {
            found.push(format!("sampled products: likeness {alike:.2}, expected 0.9 to 1"));
        }
        found
    }

    /// Cosine of the two samples.
    fn likeness(&self, other: &Self) -> f64 {
        if self.sample.len() != other.sample.len() {
            return 0.0;
        }
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        let lengths = (dot(&self.sample, &self.sample) * dot(&other.sample, &other.sample)).sqrt();
        // Two models of zeros are alike.
        if lengths == 0.0 { 1.0 } else { dot(&self.sample, &other.sample) / lengths }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RopeConfig, RopeScaling};
    use crate::precision::Precision;
    use crate::source::ModelSource;
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
    fn a_model_is_itself_in_every_precision() {
        let source =
            ModelSource::open(testing::golden_folder().join("llama-gqa-tied/base")).unwrap();
        let print =
            |precision| source.load(precision, &testing::flex()).unwrap().fingerprint().unwrap();
        let whole = print(Precision::F32);
        assert_eq!(whole.differences(&whole), [""; 0]);
        for precision in [Precision::BF16, Precision::F16, Precision::Bits8, Precision::Bits4] {
            assert_eq!(whole.differences(&print(precision)), [""; 0], "{precision}");
        }
    }

    #[test]
    fn other_weights_and_other_sizes_are_named() {
        let model = tiny(12).fingerprint().unwrap();
        // The norms of both are ones: the products tell them apart.
        let other = model.differences(&tiny(12).fingerprint().unwrap());
        assert_eq!(other.len(), 1, "{other:?}");
        assert!(other[0].starts_with("sampled products"), "{other:?}");
        assert_eq!(
            model.differences(&tiny(14).fingerprint().unwrap()),
            ["width of the feed-forward: 12 and 14"]
        );
    }
}
