//! Variants of a model's components.

use serde::{Deserialize, Serialize};

/// Kind of all norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// RMS norm, with a weight.
    #[default]
    Rms,
    /// Layer norm, with a weight and a bias.
    Layer,
}

/// How the model encodes positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionEmbedding {
    /// Rotary embedding of queries and keys.
    #[default]
    Rotary,
    /// A learned vector per position, added to the token embedding.
    Learned,
}

/// Kind of all feed-forward networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedForwardKind {
    /// `down(silu(gate x) * up x)`.
    #[default]
    SwiGlu,
    /// `down(gelu(up x))`.
    Gelu,
    /// `down(gelu(up x))` with the tanh approximation of GELU.
    GeluTanh,
}

/// Where the branch of an adapter's gated prompts is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BranchPoint {
    /// To the attention heads, before the output projection.
    #[default]
    BeforeOutput,
    /// To the output of the output projection, without passing through it.
    AfterOutput,
}

/// Base and scaling of the rotary embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RopeConfig {
    /// Base of the frequencies, `theta^(-2i / head_dim)`.
    pub theta: f64,
    /// Scaling of the frequencies for contexts longer than the original one.
    pub scaling: RopeScaling,
}

/// Scaling of the rotary frequencies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RopeScaling {
    /// No scaling.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, interpolation between.
    ///
    /// Source: `transformers`, `modeling_rope_utils.py`, `_compute_llama3_parameters`.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_max_positions / low_freq_factor` are multiplied by `factor`.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_positions / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length of the original training.
        original_max_positions: usize,
    },
    /// A divisor for each frequency, as in a GGUF's `rope_freqs.weight`.
    PerFrequency {
        /// `head_dim / 2` divisors.
        divisors: Vec<f32>,
    },
}
