//! Kinds of a model's parts.

use serde::{Deserialize, Serialize};

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
