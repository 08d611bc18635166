//! Names of a model's linear layers.

use serde::{Deserialize, Serialize};

/// A linear layer of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinearName {
    /// Query projection.
    Query,
    /// Key projection.
    Key,
    /// Value projection.
    Value,
    /// Output projection of the attention.
    Output,
    /// Gate projection of the feed-forward network, if it has one.
    Gate,
    /// Up projection of the feed-forward network.
    Up,
    /// Down projection of the feed-forward network.
    Down,
    /// Output head of the model. Its layer is the number of layers.
    Head,
}

impl LinearName {
    /// The linear layers of a decoder layer, in the order of the forward pass.
    pub const ALL_IN_LAYER: &'static [Self] =
        &[Self::Query, Self::Key, Self::Value, Self::Output, Self::Gate, Self::Up, Self::Down];

    /// Name of the module within a layer of a Hugging Face Llama, such as `self_attn.q_proj`; that of
    /// the head within the model.
    pub(crate) fn module(self) -> &'static str {
        match self {
            Self::Query => "self_attn.q_proj",
            Self::Key => "self_attn.k_proj",
            Self::Value => "self_attn.v_proj",
            Self::Output => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
            Self::Head => "lm_head",
        }
    }
}
