//! The parameters of an image condition by name: for initialization, reading and writing.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use llama::model::{Linear, Norm, Weight};
use vision::{Activation, Attention, Block, Mlp};

use crate::error::Result;
use crate::param;

/// A parameter of a module.
pub(super) enum ParameterMut<'a> {
    Vector(&'a mut Param<Tensor<1>>),
    Matrix(&'a mut Param<Tensor<2>>),
}

impl ParameterMut<'_> {
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Vector(param) => param.val().dims().to_vec(),
            Self::Matrix(param) => param.val().dims().to_vec(),
        }
    }

    /// Replaces the values, keeping the shape.
    pub fn set(self, values: Vec<f32>, device: &Device) {
        match self {
            Self::Vector(own) => *own = param::from_values(values, own.val().dims(), device),
            Self::Matrix(own) => *own = param::from_values(values, own.val().dims(), device),
        }
    }

    pub fn values(&self) -> Result<Vec<f32>> {
        match self {
            Self::Vector(own) => param::values(own),
            Self::Matrix(own) => param::values(own),
        }
    }
}

/// Called with the name of each parameter.
pub(super) type ParameterVisitor<'a> = dyn FnMut(String, ParameterMut) + 'a;

/// A module whose parameters have names in files.
pub(super) trait NamedParameters {
    /// Visits every parameter, always in the same order. Names begin with `name`.
    fn visit_parameters(&mut self, name: &str, visitor: &mut ParameterVisitor);
}

impl NamedParameters for Linear {
    fn visit_parameters(&mut self, name: &str, visitor: &mut ParameterVisitor) {
        let Weight::Dense(weight) = &mut self.weight else {
            unreachable!("trainable matrices are dense")
        };
        visitor(format!("{name}.weight"), ParameterMut::Matrix(weight));
        if let Some(bias) = &mut self.bias {
            visitor(format!("{name}.bias"), ParameterMut::Vector(bias));
        }
    }
}

impl NamedParameters for Norm {
    fn visit_parameters(&mut self, name: &str, visitor: &mut ParameterVisitor) {
        visitor(format!("{name}.weight"), ParameterMut::Vector(&mut self.weight));
        if let Some(bias) = &mut self.bias {
            visitor(format!("{name}.bias"), ParameterMut::Vector(bias));
        }
    }
}

impl NamedParameters for Block {
    fn visit_parameters(&mut self, name: &str, visitor: &mut ParameterVisitor) {
        self.attention_norm.visit_parameters(&format!("{name}.norm1"), visitor);
        self.attention.query.visit_parameters(&format!("{name}.attn.query"), visitor);
        self.attention.key.visit_parameters(&format!("{name}.attn.key"), visitor);
        self.attention.value.visit_parameters(&format!("{name}.attn.value"), visitor);
        self.attention.output.visit_parameters(&format!("{name}.attn.proj"), visitor);
        self.mlp_norm.visit_parameters(&format!("{name}.norm2"), visitor);
        self.mlp.up.visit_parameters(&format!("{name}.mlp.fc1"), visitor);
        self.mlp.down.visit_parameters(&format!("{name}.mlp.fc2"), visitor);
    }
}

/// A linear layer of zeros, with a bias.
pub(super) fn zero_linear(d_in: usize, d_out: usize, device: &Device) -> Linear {
    Linear::new(Tensor::<2>::zeros([d_out, d_in], device), Some(Tensor::zeros([d_out], device)))
}

/// A layer norm of weight 1 and bias 0.
pub(super) fn identity_norm(width: usize, device: &Device) -> Norm {
    /// PyTorch's.
    const EPSILON: f64 = 1e-5;
    let (weight, bias) = (Tensor::ones([width], device), Tensor::zeros([width], device));
    Norm::new(llama::config::NormKind::Layer, weight, Some(bias), EPSILON)
}

/// A transformer block of zero matrices, with an MLP four times as wide.
pub(super) fn zero_block(width: usize, n_heads: usize, device: &Device) -> Block {
    let square = || zero_linear(width, width, device);
    Block {
        attention_norm: identity_norm(width, device),
        attention: Attention {
            query: square(),
            key: square(),
            value: square(),
            output: square(),
            n_heads,
        },
        attention_layer_scale: None,
        mlp_norm: identity_norm(width, device),
        mlp: Mlp {
            up: zero_linear(width, 4 * width, device),
            down: zero_linear(4 * width, width, device),
            activation: Activation::Gelu,
        },
        mlp_layer_scale: None,
    }
}
