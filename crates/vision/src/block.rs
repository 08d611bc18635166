//! hidden ─► norm ─► attention (─► × layer scale) ─► + ─► norm ─► MLP (─► × layer scale) ─► +

use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::{sigmoid, silu, softmax};
use burn::tensor::{Device, Tensor};
use llama::config::NormKind;
use llama::model::{Linear, Norm, Weight, gelu};

use crate::config::Activation;

/// Sizes of a [`Block`].
#[derive(Debug, Clone, PartialEq)]
pub struct BlockConfig {
    /// Width of a token.
    pub d_model: usize,
    /// Hidden width of the MLP.
    pub d_ff: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Activation of the MLP.
    pub activation: Activation,
    /// Whether both branches have a layer scale.
    pub layer_scale: bool,
    /// Added to the variance in norms.
    pub norm_eps: f64,
}

impl BlockConfig {
    /// A block whose matrices and biases are zero and whose norms and layer scales are one.
    /// Matrices are allocated on first use.
    pub fn init(&self, device: &Device) -> Block {
        let &Self { d_model, d_ff, n_heads, activation, layer_scale, norm_eps } = self;
        let linear = |d_in: usize, d_out: usize| zero_linear(d_in, d_out, true, device);
        let up = if activation == Activation::SwiGlu { 2 * d_ff } else { d_ff };
        let scale = || layer_scale.then(|| Initializer::Ones.init([d_model], device));
        Block {
            attention_norm: layer_norm(d_model, norm_eps, device),
            attention: Attention {
                query: linear(d_model, d_model),
                key: linear(d_model, d_model),
                value: linear(d_model, d_model),
                output: linear(d_model, d_model),
                n_heads,
            },
            attention_layer_scale: scale(),
            mlp_norm: layer_norm(d_model, norm_eps, device),
            mlp: Mlp { up: linear(d_model, up), down: linear(d_ff, d_model), activation },
            mlp_layer_scale: scale(),
        }
    }
}

/// A linear layer of zeros. Its matrix is allocated on first use.
pub(crate) fn zero_linear(d_in: usize, d_out: usize, has_bias: bool, device: &Device) -> Linear {
    let weight = Weight::Dense(Initializer::Zeros.init([d_out, d_in], device));
    Linear::new(weight, has_bias.then(|| Tensor::zeros([d_out], device)))
}

/// A layer norm with weight one and bias zero.
pub(crate) fn layer_norm(width: usize, epsilon: f64, device: &Device) -> Norm {
    let (weight, bias) = (Tensor::ones([width], device), Tensor::zeros([width], device));
    Norm::new(NormKind::Layer, weight, Some(bias), epsilon)
}

/// One pre-norm block of a vision transformer.
///
/// Source: arXiv 2010.11929; layer scale: arXiv 2103.17239.
#[derive(Module, Debug)]
pub struct Block {
    /// Norm of the attention's input.
    pub attention_norm: Norm,
    /// Self-attention.
    pub attention: Attention,
    /// Factor of the attention's output, in DINOv2: `[d_model]`.
    pub attention_layer_scale: Option<Param<Tensor<1>>>,
    /// Norm of the MLP's input.
    pub mlp_norm: Norm,
    /// The MLP.
    pub mlp: Mlp,
    /// Factor of the MLP's output, in DINOv2: `[d_model]`.
    pub mlp_layer_scale: Option<Param<Tensor<1>>>,
}

/// Multi-head self-attention without a mask.
#[derive(Module, Debug)]
pub struct Attention {
    /// Query projection, `d_model -> d_model`.
    pub query: Linear,
    /// Key projection, `d_model -> d_model`.
    pub key: Linear,
    /// Value projection, `d_model -> d_model`.
    pub value: Linear,
    /// Output projection, `d_model -> d_model`.
    pub output: Linear,
    /// Heads.
    #[module(skip)]
    pub n_heads: usize,
}

/// The feed-forward of a block.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `d_model -> d_ff`, or `d_model -> 2 * d_ff` with [`Activation::SwiGlu`].
    pub up: Linear,
    /// `d_ff -> d_model`.
    pub down: Linear,
    /// Applied to the output of `up`.
    #[module(skip)]
    pub activation: Activation,
}

impl Block {
    /// # Shapes
    /// - `hidden` and output: `[batch, seq, d_model]`
    pub fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let normed = self.attention_norm.forward(hidden.clone(), None);
        let attention = self.attention.forward(normed);
        let hidden = hidden + layer_scale(attention, self.attention_layer_scale.as_ref());
        let normed = self.mlp_norm.forward(hidden.clone(), None);
        hidden + layer_scale(self.mlp.forward(normed), self.mlp_layer_scale.as_ref())
    }
}

fn layer_scale(hidden: Tensor<3>, scale: Option<&Param<Tensor<1>>>) -> Tensor<3> {
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
        let context = softmax(scores, 3).matmul(heads(&self.value));
        self.output.forward(context.swap_dims(1, 2).reshape([batch, seq, d_model]))
    }
}

impl Mlp {
    fn forward(&self, hidden: Tensor<3>) -> Tensor<3> {
        let up = self.up.forward(hidden);
        let inner = match self.activation {
            Activation::QuickGelu => up.clone() * sigmoid(up * 1.702),
            Activation::Gelu => gelu(up),
            Activation::SwiGlu => {
                let [gate, value] = up.chunk(2, 2).try_into().expect("two halves");
                silu(gate) * value
            }
        };
        self.down.forward(inner)
    }
}
