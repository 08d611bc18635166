//! Sizes of a model that determine the shapes of its linear layers.

use serde::{Deserialize, Serialize};

use super::{Architecture, FeedForwardKind, LinearName, LlamaConfig};
use crate::error::Result;

/// Sizes of a model that determine the shapes of its linear layers and adapters.
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
    /// Inner width of the feed-forward network.
    pub d_ff: usize,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Whether the feed-forward network has a gate.
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
    /// Shape of a linear layer's weight, `[out, in]`.
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

    /// Whether a layer has a linear layer of this name. The head's layer is the number of layers.
    pub fn has_linear(&self, layer: usize, name: LinearName) -> bool {
        match name {
            LinearName::Head => layer == self.n_layers,
            LinearName::Gate => layer < self.n_layers && self.gated,
            _ => layer < self.n_layers,
        }
    }

    /// Checks that a model can have these sizes.
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
}
