//! Shape of a Llama-like model: sizes, biases, positions, norms, window.

mod kinds;
mod names;
mod validate;

use std::fmt;

use checkpoint::settings::Fields;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::error::Result;
pub use kinds::{
    BranchPoint, FeedForwardKind, NormKind, PositionEmbedding, RopeConfig, RopeScaling,
};
pub(crate) use names::{Format, Name, Names};

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

impl LlamaConfig {
    /// Heads of a layer, as attention wants them.
    pub(crate) fn heads(&self) -> kernels::AttentionDims {
        kernels::AttentionDims {
            heads: self.n_heads,
            kv_heads: self.n_kv_heads,
            head_dim: self.head_dim,
        }
    }

    /// How many positions back, itself included, a token may look in a layer.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.filter(|_| layer >= self.full_attention_layers)
    }
}

/// A family of models.
pub struct Architecture {
    /// What `config.json` calls it in `model_type`.
    pub name: &'static str,
    /// What `config.json` calls its class.
    pub(crate) class: &'static str,
    /// What GGUF files call it. The first row of a name serves it.
    pub(crate) gguf: &'static str,
    /// Whether every model of the family has as many key and value heads as query heads.
    pub multi_head_only: bool,
    /// Whether llama.cpp's files hold the rows of Wq and Wk interleaved.
    pub(crate) gguf_rotary_interleaved: bool,
    /// What its tensors are called.
    pub(crate) names: Names,
    /// Keys of `config.json` that [`read`](Self::read) acts on.
    pub(crate) keys: &'static [&'static [&'static str]],
    /// What is the same in every model of the family; sizes that every file names are left at zero.
    pub(crate) base: fn() -> LlamaConfig,
    /// Fills the base from `config.json`.
    pub(crate) read: fn(&Fields<'_>, LlamaConfig) -> Result<LlamaConfig>,
    /// The way back, as far as `config.json` can say it.
    pub(crate) write: fn(&LlamaConfig) -> Value,
}

impl Architecture {
    /// What transformers calls the attention of a layer, such as `model.layers.3.self_attn`.
    pub fn attention_module(&self, layer: usize) -> String {
        self.names.attention(layer)
    }

    /// What a module of transformers' holds, such as `transformer.h.3.attn.c_attn`: its layer, and the parts
    /// in the order of their rows, several where the family stacks them. Parts are called as in a
    /// Llama, such as `self_attn.q_proj`.
    pub fn resolve_module(&self, module: &str) -> Option<(usize, Vec<&'static str>)> {
        let (layer, module) = self.names.split_layer(module)?;
        let parts = self.names.layer.iter().filter(|[_, theirs, _]| *theirs == module);
        let parts = parts.map(|[ours, _, _]| *ours).collect::<Vec<_>>();
        (!parts.is_empty()).then_some((layer, parts))
    }

    /// Whether some linear layers are one module in transformers, such as query, key and value.
    pub fn has_fused_linears(&self) -> bool {
        let modules = self.names.layer.iter().map(|[_, module, _]| module);
        let mut distinct = modules.clone().collect::<Vec<_>>();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.len() < modules.count()
    }

    pub(crate) fn gguf_rotary_interleaved(&self) -> bool {
        self.gguf_rotary_interleaved
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Whether `config.json` may say something by this key that is acted on.
    pub(crate) fn reads(&self, key: &str) -> bool {
        self.keys.iter().any(|keys| keys.contains(&key))
    }

    /// What is the same in every model of the family. The sizes are still to be filled in.
    pub fn defaults(&self) -> LlamaConfig {
        (self.base)()
    }
}

impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Architecture {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}
