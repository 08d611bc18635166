//! Validation of a config.

use super::LlamaConfig;
use super::kinds::{BranchPoint, PositionEmbedding, RopeScaling};
use crate::error::{Error, Result};

impl LlamaConfig {
    /// Checks that sizes are in range and consistent.
    ///
    /// # Errors
    /// [`Error::Config`] for the first invalid field.
    pub fn validate(&self) -> Result<()> {
        let bounds = [
            ("n_layers", self.n_layers, 1 << 12),
            ("n_heads", self.n_heads, 1 << 12),
            ("n_kv_heads", self.n_kv_heads, 1 << 12),
            ("head_dim", self.head_dim, 1 << 12),
            ("d_model", self.d_model, 1 << 20),
            ("d_ff", self.d_ff, 1 << 20),
            ("vocab_size", self.vocab_size, 1 << 24),
            ("max_positions", self.max_positions, 1 << 31),
        ];
        for (field, value, max) in bounds {
            // Beyond any model, and small enough that products of sizes do not overflow.
            if !(1..=max).contains(&value) {
                return Err(Error::config(field, format!("{value}"), format!("1 to {max}")));
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
}
