//! Shape of a Llama-like model: sizes, biases, positions, norms, window.

use serde::{Deserialize, Serialize};

use crate::architecture::{Architecture, LLAMA};
use crate::error::{Error, Result};

/// Everything that fixes the shapes and the arithmetic of a model.
///
/// Names are the field's own; [`crate::weights::huggingface`] and [`crate::gguf`] fill it from
/// files. The default is a plain Llama whose sizes are still to be filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own in every file")]
pub struct LlamaConfig {
    /// The family: what its files say, and what they call the tensors.
    pub architecture: &'static Architecture,
    /// Decoder layers.
    pub n_layers: usize,
    /// Query heads of a layer.
    pub n_heads: usize,
    /// Key and value heads of a layer; each serves `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// Width of one head. Usually, but not always, `d_model / n_heads`.
    pub head_dim: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Inner width of the feed-forward.
    pub d_ff: usize,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    /// Epsilon of every norm.
    pub norm_eps: f64,
    /// Rotary embedding, where [`positions`](Self::positions) are rotary.
    pub rope: RopeConfig,
    /// Whether the query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward's projections have biases.
    pub mlp_bias: bool,
    /// Whether queries and keys are normed, each head by itself, before they are rotated.
    pub qk_norm: bool,
    /// Whether the output head is the embedding table.
    pub tied_head: bool,
    /// How many positions back, itself included, a token may look; `None`: all of them.
    pub sliding_window: Option<usize>,
    /// Layers at the bottom that look back all the way, whatever the window.
    pub full_attention_layers: usize,
    /// Kind of every norm.
    pub norm: NormKind,
    /// How a token's place in the text comes in.
    pub positions: PositionEmbedding,
    /// Kind of every feed-forward.
    pub feed_forward: FeedForwardKind,
    /// Where an adapter's branch joins the attention.
    pub branch: BranchPoint,
}

/// Kinds of norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Root mean square, with a weight.
    #[default]
    Rms,
    /// Mean and variance, with a weight and a bias.
    Layer,
}

/// How a token's place in the text comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionEmbedding {
    /// Queries and keys are rotated.
    #[default]
    Rotary,
    /// A vector for each position is added to the embedding.
    Learned,
}

/// Kinds of feed-forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedForwardKind {
    /// `down(silu(gate x) * up x)`.
    #[default]
    SwiGlu,
    /// `down(gelu(up x))`.
    Gelu,
    /// The same with gelu's approximation by tanh.
    GeluTanh,
}

/// Where an adapter's gated heads join the attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BranchPoint {
    /// They are added to the model's heads, and pass through its output projection with them.
    #[default]
    BeforeOutput,
    /// They are joined and added to what the output projection gives.
    AfterOutput,
}

/// Base and scaling of the rotary embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RopeConfig {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// How the frequencies are stretched beyond the original context.
    pub scaling: RopeScaling,
}

/// Ways to stretch the rotary frequencies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// Stretch, at least 1.
        factor: f64,
    },
    /// Llama 3.1's rule: long wavelengths divided by `factor`, short ones kept, a ramp between.
    ///
    /// Source: `transformers`, `modeling_rope_utils.py`, `_compute_llama3_parameters`.
    Llama3 {
        /// Stretch of the long wavelengths.
        factor: f64,
        /// Wavelengths above `original_max_positions / low_freq_factor` are stretched in full.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_positions / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context of the first training.
        original_max_positions: usize,
    },
    /// Frequencies divided by a factor each, as stored in a GGUF's `rope_freqs.weight`.
    PerFrequency {
        /// One divisor for each of the `head_dim / 2` frequencies.
        divisors: Vec<f32>,
    },
}

impl Default for LlamaConfig {
    fn default() -> Self {
        Self {
            architecture: &LLAMA,
            n_layers: 0,
            n_heads: 0,
            n_kv_heads: 0,
            head_dim: 0,
            d_model: 0,
            d_ff: 0,
            vocab_size: 0,
            max_positions: 2048,
            norm_eps: 1e-6,
            rope: RopeConfig { theta: 10_000.0, scaling: RopeScaling::None },
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            qk_norm: false,
            tied_head: false,
            sliding_window: None,
            full_attention_layers: 0,
            norm: NormKind::default(),
            positions: PositionEmbedding::default(),
            feed_forward: FeedForwardKind::default(),
            branch: BranchPoint::default(),
        }
    }
}

impl LlamaConfig {
    /// Heads of a layer, as attention wants them.
    pub(crate) fn heads(&self) -> kernels::AttentionDims {
        kernels::AttentionDims {
            heads: self.n_heads,
            kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
        }
    }

    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// [`Error::Config`] names the field, what was found and what would do.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("n_layers", self.n_layers, 1 << 12),
            ("n_heads", self.n_heads, 1 << 12),
            ("n_kv_heads", self.n_kv_heads, 1 << 12),
            ("head_dim", self.head_dim, 1 << 12),
            ("d_model", self.d_model, 1 << 20),
            ("d_ff", self.d_ff, 1 << 20),
            ("vocab_size", self.vocab_size, 1 << 24),
            ("max_positions", self.max_positions, 1 << 31),
        ];
        for (field, value, most) in positive {
            // Far beyond any model, and near enough for every product of them to fit.
            if !(1..=most).contains(&value) {
                return Err(Error::config(field, format!("{value}"), format!("1 to {most}")));
            }
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            return Err(Error::config(
                "n_kv_heads",
                format!("{}", self.n_kv_heads),
                format!("a divisor of the {} heads", self.n_heads),
            ));
        }
        if self.positions == PositionEmbedding::Rotary && !self.head_dim.is_multiple_of(2) {
            return Err(Error::config("head_dim", format!("{}", self.head_dim), "an even number"));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0) {
            return Err(Error::config("norm_eps", format!("{}", self.norm_eps), "above 0"));
        }
        if !(self.rope.theta.is_finite() && self.rope.theta > 0.0) {
            return Err(Error::config("rope.theta", format!("{}", self.rope.theta), "above 0"));
        }
        let factors = match &self.rope.scaling {
            RopeScaling::Linear { factor } => vec![*factor],
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, .. } => {
                vec![*factor, *low_freq_factor, high_freq_factor - low_freq_factor]
            }
            RopeScaling::None | RopeScaling::PerFrequency { .. } => Vec::new(),
        };
        if factors.iter().any(|factor| !(factor.is_finite() && *factor > 0.0)) {
            return Err(Error::config(
                "rope scaling",
                format!("{:?}", self.rope.scaling),
                "factors above 0, the high one above the low one",
            ));
        }
        if let RopeScaling::PerFrequency { divisors } = &self.rope.scaling
            && divisors.len() != self.head_dim / 2
        {
            return Err(Error::config(
                "rope frequency divisors",
                format!("{} numbers", divisors.len()),
                format!("{} numbers, half of head_dim", self.head_dim / 2),
            ));
        }
        if self.sliding_window == Some(0) {
            return Err(Error::config("sliding_window", "0", "at least 1, or none"));
        }
        if self.branch == BranchPoint::AfterOutput && self.n_heads * self.head_dim != self.d_model {
            return Err(Error::config(
                "head_dim",
                format!("{}", self.head_dim),
                format!("{} / {}: the branch has the model's width", self.d_model, self.n_heads),
            ));
        }
        Ok(())
    }

    /// How many positions back, itself included, a token may look in a layer.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.filter(|_| layer >= self.full_attention_layers)
    }
}
