//! hidden ─► norm ─► attention (─► × scale) ─► + ─► norm ─► feed-forward (─► × scale) ─► +

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, silu, softmax};
use llama::model::{Linear, Norm, gelu};

use crate::config::Activation;

/// One block of a vision transformer.
///
/// Source: arXiv 2010.11929; arXiv 2103.17239 for the scales.
#[derive(Module, Debug)]
pub struct Block {
    /// Before the attention.
    pub attention_norm: Norm,
    /// Tokens look at each other.
    pub attention: Attention,
    /// What DINOv2 multiplies the attention's result by: `[d_model]`.
    pub attention_layer_scale: Option<Param<Tensor<1>>>,
    /// Before the feed-forward.
    pub mlp_norm: Norm,
    /// The feed-forward.
    pub mlp: Mlp,
    /// As `attention_layer_scale`, for the feed-forward.
    pub mlp_layer_scale: Option<Param<Tensor<1>>>,
}

/// Every token looks at every token.
#[derive(Module, Debug)]
pub struct Attention {
    /// `d_model -> d_model`, as the other three.
    pub query: Linear,
    /// Keys.
    pub key: Linear,
    /// Values.
    pub value: Linear,
    /// Behind the heads.
    pub output: Linear,
    /// Heads that the width is divided among.
    #[module(skip)]
    pub n_heads: usize,
}

/// Works on each token alone.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `d_model -> d_ff`, or twice that where half of it is a gate.
    pub up: Linear,
    /// `d_ff -> d_model`.
    pub down: Linear,
    /// Between them.
    #[module(skip)]
    pub activation: Activation,
}

impl Block {
    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`
    pub fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let normed = self.attention_norm.forward(hidden.clone(), None);
        let hidden =
            hidden + scaled(self.attention.forward(normed), self.attention_layer_scale.as_ref());
        let normed = self.mlp_norm.forward(hidden.clone(), None);
        hidden + scaled(self.mlp.forward(normed), self.mlp_layer_scale.as_ref())
    }
}

fn scaled(hidden: Tensor<3>, scale: Option<&Param<Tensor<1>>>) -> Tensor<3> {
    match scale {
        Some(scale) => hidden * scale.val().unsqueeze(),
        None => hidden,
    }
}

impl Attention {
    fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let [batch, seq, d_model] = hidden.dims();
        let head_dim = d_model / self.n_heads;
        let heads = |linear: &Linear| {
            let projected = linear.forward(hidden.clone());
            projected.reshape([batch, seq, self.n_heads, head_dim]).swap_dims(1, 2)
        };
        let (query, key) = (heads(&self.query), heads(&self.key));
        let scores = query.matmul(key.transpose()) / (head_dim as f64).sqrt();
        let mixed = softmax(scores, 3).matmul(heads(&self.value));
        self.output.forward(mixed.swap_dims(1, 2).reshape([batch, seq, d_model]))
    }
}

impl Mlp {
    fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let up = self.up.forward(hidden);
        let inner = match self.activation {
            Activation::QuickGelu => up.clone() * sigmoid(up * 1.702),
            Activation::Gelu => gelu(up),
            Activation::SwiGlu => {
                let [first, second] = up.chunk(2, 2).try_into().expect("two halves");
                silu(first) * second
            }
        };
        self.down.forward(inner)
    }
}
