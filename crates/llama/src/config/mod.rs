//! Config of a Llama-like model: sizes and the variants of its components.

mod architecture;
mod kinds;
mod linear_name;
mod model_shape;
mod tensor_names;
mod validate;

use serde::{Deserialize, Serialize};

pub use architecture::Architecture;
pub use kinds::{
    BranchPoint, FeedForwardKind, NormKind, PositionEmbedding, RopeConfig, RopeScaling,
};
pub use linear_name::LinearName;
pub use model_shape::ModelShape;
pub(crate) use tensor_names::{NameRow, NamingScheme, TensorNames};

/// Shapes and architecture of a model.
///
/// [`crate::weights::huggingface`] and [`crate::gguf`] read it from files. The default is a plain Llama
/// whose sizes are zero: set them before use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate setting in files")]
pub struct LlamaConfig {
    /// Family of the model.
    pub architecture: &'static Architecture,
    /// Decoder layers.
    pub n_layers: usize,
    /// Query heads per layer.
    pub n_heads: usize,
    /// Key and value heads per layer; each serves `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// Width of one head; usually `d_model / n_heads`.
    pub head_dim: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Inner width of the feed-forward network.
    pub d_ff: usize,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Context length in tokens.
    pub max_positions: usize,
    /// Epsilon of all norms.
    pub norm_eps: f64,
    /// Rotary embedding, if [`positions`](Self::positions) is rotary.
    pub rope: RopeConfig,
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the projections of the feed-forward network have biases.
    pub mlp_bias: bool,
    /// Whether each query and key head is normalized before the rotary embedding.
    pub qk_norm: bool,
    /// Whether the output head is tied to the embedding table.
    pub tied_head: bool,
    /// Positions that a token attends to, itself included; `None`: all.
    pub sliding_window: Option<usize>,
    /// Number of lowest layers without a sliding window.
    pub full_attention_layers: usize,
    /// Kind of all norms.
    pub norm: NormKind,
    /// Position embedding.
    pub positions: PositionEmbedding,
    /// Kind of all feed-forward networks.
    pub feed_forward: FeedForwardKind,
    /// Where the branch of an adapter's gated prompts is added.
    pub branch: BranchPoint,
}

impl LlamaConfig {
    /// Heads of a layer, for the kernels.
    pub(crate) fn attention_dims(&self) -> kernels::AttentionDims {
        kernels::AttentionDims {
            heads: self.n_heads,
            kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
        }
    }

    /// Positions that a token attends to in a layer, itself included; `None`: all.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.filter(|_| layer >= self.full_attention_layers)
    }

    /// Whether a linear layer has a bias.
    pub(crate) fn has_bias(&self, name: LinearName) -> bool {
        match name {
            LinearName::Query | LinearName::Key | LinearName::Value => self.qkv_bias,
            LinearName::Output => self.output_bias,
            LinearName::Gate | LinearName::Up | LinearName::Down => self.mlp_bias,
            LinearName::Head => false,
        }
    }
}
