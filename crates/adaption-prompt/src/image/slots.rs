//! The numbers of a condition by name, whatever holds them: to draw, to read and to write them.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use llama::model::{Linear, Norm, Weight};
use vision::{Activation, Attention, Block, Mlp};

/// A place for numbers.
pub(crate) enum Slot<'a> {
    Vector(&'a mut Param<Tensor<1>>),
    Matrix(&'a mut Param<Tensor<2>>),
}

impl Slot<'_> {
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Vector(param) => param.val().dims().to_vec(),
            Self::Matrix(param) => param.val().dims().to_vec(),
        }
    }

    /// Puts numbers, as many as there were, in place of what is there.
    pub fn put(self, values: Vec<f32>, device: &Device) {
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
pub(crate) type Visit<'a> = dyn FnMut(String, Slot) + 'a;

/// Something that holds numbers, each in a place with a name.
pub(crate) trait Slots {
    /// Visits every place, always in the same order. Names begin with `name`.
    fn slots(&mut self, name: &str, visit: &mut Visit);
}

impl Slots for Linear {
    fn slots(&mut self, name: &str, visit: &mut Visit) {
        let Weight::Dense(weight) = &mut self.weight else {
            unreachable!("a condition's matrices can learn")
        };
        visit(format!("{name}.weight"), Slot::Matrix(weight));
        if let Some(bias) = &mut self.bias {
            visit(format!("{name}.bias"), Slot::Vector(bias));
        }
    }
}

impl Slots for Norm {
    fn slots(&mut self, name: &str, visit: &mut Visit) {
        visit(format!("{name}.weight"), Slot::Vector(&mut self.weight));
        if let Some(bias) = &mut self.bias {
            visit(format!("{name}.bias"), Slot::Vector(bias));
        }
    }
}

impl Slots for Block {
    fn slots(&mut self, name: &str, visit: &mut Visit) {
        self.attention_norm.slots(&format!("{name}.norm1"), visit);
        self.attention.query.slots(&format!("{name}.attn.query"), visit);
        self.attention.key.slots(&format!("{name}.attn.key"), visit);
        self.attention.value.slots(&format!("{name}.attn.value"), visit);
        self.attention.output.slots(&format!("{name}.attn.proj"), visit);
        self.mlp_norm.slots(&format!("{name}.norm2"), visit);
        self.mlp.up.slots(&format!("{name}.mlp.fc1"), visit);
        self.mlp.down.slots(&format!("{name}.mlp.fc2"), visit);
    }
}

/// Places for a linear layer with a bias.
pub(crate) fn linear(d_in: usize, d_out: usize, device: &Device) -> Linear {
    Linear::new(Tensor::<2>::zeros([d_out, d_in], device), Some(Tensor::zeros([d_out], device)))
}

/// Places for a layer norm.
pub(crate) fn norm(width: usize, device: &Device) -> Norm {
    /// PyTorch's.
    const EPSILON: f64 = 1e-5;
    let (weight, bias) = (Tensor::ones([width], device), Tensor::zeros([width], device));
    Norm::new(llama::config::NormKind::Layer, weight, Some(bias), EPSILON)
}

/// Places for a block whose feed-forward is four times as wide.
pub(crate) fn block(width: usize, n_heads: usize, device: &Device) -> Block {
    let square = || linear(width, width, device);
    Block {
        attention_norm: norm(width, device),
        attention: Attention {
            query: square(),
            key: square(),
            value: square(),
            output: square(),
            n_heads,
        },
        attention_layer_scale: None,
        mlp_norm: norm(width, device),
        mlp: Mlp {
            up: linear(width, 4 * width, device),
            down: linear(4 * width, width, device),
            activation: Activation::Gelu,
        },
        mlp_layer_scale: None,
    }
}
