//! The numbers of a condition by name, whatever holds them: to draw, to read and to write them.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use llama::{Linear, Norm, Weight};
use vision::{Activation, Attention, Block, Mlp};

/// A place for numbers.
pub(crate) enum ParameterMut<'a> {
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

    /// Puts numbers, as many as there were, in place of what is there.
    pub fn set(self, values: Vec<f32>, device: &Device) {
        match self {
            Self::Vector(param) => {
                let dims = param.val().dims();
                *param = Param::from_data(TensorData::new(values, dims), device);
            }
            Self::Matrix(param) => {
                let dims = param.val().dims();
                *param = Param::from_data(TensorData::new(values, dims), device);
            }
        }
    }

    pub fn values(&self) -> llama::Result<Vec<f32>> {
        let data = match self {
            Self::Vector(param) => llama::read_back(param.val())?,
            Self::Matrix(param) => llama::read_back(param.val())?,
        };
        Ok(data.iter::<f32>().collect())
    }
}

/// What is done with each place.
pub(crate) type ParameterVisitor<'a> = dyn FnMut(String, ParameterMut) + 'a;

/// Something that holds numbers, each in a place with a name.
pub(crate) trait NamedParameters {
    /// Visits every place, always in the same order. Names begin with `name`.
    fn visit_parameters(&mut self, name: &str, visit: &mut ParameterVisitor);
}

impl NamedParameters for Linear {
    fn visit_parameters(&mut self, name: &str, visit: &mut ParameterVisitor) {
        let Weight::Dense(weight) = &mut self.weight else {
            unreachable!("a condition's matrices can learn")
        };
        visit(format!("{name}.weight"), ParameterMut::Matrix(weight));
        if let Some(bias) = &mut self.bias {
            visit(format!("{name}.bias"), ParameterMut::Vector(bias));
        }
    }
}

impl NamedParameters for Norm {
    fn visit_parameters(&mut self, name: &str, visit: &mut ParameterVisitor) {
        visit(format!("{name}.weight"), ParameterMut::Vector(&mut self.weight));
        if let Some(bias) = &mut self.bias {
            visit(format!("{name}.bias"), ParameterMut::Vector(bias));
        }
    }
}

impl NamedParameters for Block {
    fn visit_parameters(&mut self, name: &str, visit: &mut ParameterVisitor) {
        self.attention_norm.visit_parameters(&format!("{name}.norm1"), visit);
        self.attention.query.visit_parameters(&format!("{name}.attn.query"), visit);
        self.attention.key.visit_parameters(&format!("{name}.attn.key"), visit);
        self.attention.value.visit_parameters(&format!("{name}.attn.value"), visit);
        self.attention.output.visit_parameters(&format!("{name}.attn.proj"), visit);
        self.mlp_norm.visit_parameters(&format!("{name}.norm2"), visit);
        self.mlp.up.visit_parameters(&format!("{name}.mlp.fc1"), visit);
        self.mlp.down.visit_parameters(&format!("{name}.mlp.fc2"), visit);
    }
}

/// Places for a linear layer with a bias.
pub(crate) fn zero_linear(d_in: usize, d_out: usize, device: &Device) -> Linear {
    Linear::new(Tensor::<2>::zeros([d_out, d_in], device), Some(Tensor::zeros([d_out], device)))
}

/// Places for a layer norm.
pub(crate) fn identity_norm(width: usize, device: &Device) -> Norm {
    /// PyTorch's.
    const EPSILON: f64 = 1e-5;
    let (weight, bias) = (Tensor::ones([width], device), Tensor::zeros([width], device));
    Norm::new(llama::NormKind::Layer, weight, Some(bias), EPSILON)
}

/// Places for a block whose feed-forward is four times as wide.
pub(crate) fn zero_block(width: usize, n_heads: usize, device: &Device) -> Block {
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
