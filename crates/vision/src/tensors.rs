//! The list of an encoder's tensors: name and shape in a checkpoint, parameter in [`Encoder`].
//!
//! ```text
//!                 ┌─► init: random values
//! encoder_tensors ┼─► load: names and shapes checked, values read
//!                 └─► save: values written
//! ```

use burn::module::Param;
use burn::tensor::Tensor;
use checkpoint::TensorSpec;
use llama::model::{Linear, Norm, Weight};

use crate::block::Block;
use crate::config::{Activation, EncoderConfig};
use crate::encoder::Encoder;
use crate::tensor_names::{CheckpointLayout, QkvNames, TensorNames};

/// A parameter of an encoder.
pub(crate) enum Parameter<'a> {
    Matrix(&'a mut Weight),
    Vector(&'a mut Param<Tensor<1>>),
    /// Class token or position embeddings: `[1, tokens, d_model]`.
    Embedding(&'a mut Param<Tensor<3>>),
}

/// How a parameter is stored in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// All values in order.
    Plain,
    /// A matrix with rows and columns swapped.
    Transposed,
    /// One of three equal parts of a tensor: 0, 1 or 2.
    Third(usize),
    /// Position embeddings for the image size of the config.
    Positions,
}

/// A tensor of a checkpoint and the parameter that it belongs to.
pub(crate) struct EncoderTensor {
    pub spec: TensorSpec,
    pub storage: Storage,
    parameter: Box<ParameterOf>,
}

type ParameterOf = dyn for<'a> Fn(&'a mut Encoder) -> Parameter<'a>;

impl EncoderTensor {
    /// The parameter in an encoder of the config that the list was made for.
    pub fn parameter<'a>(&self, encoder: &'a mut Encoder) -> Parameter<'a> {
        (self.parameter)(encoder)
    }
}

/// Every tensor of an encoder, in the order of its forward pass. Fused tensors are listed three times.
pub(crate) fn encoder_tensors(names: &TensorNames, config: &EncoderConfig) -> Vec<EncoderTensor> {
    let &EncoderConfig { d_model, patch_size, .. } = config;
    let mut list = TensorList(Vec::new());
    let patches = names.patch_embedding();
    let shape = [d_model, 3, patch_size, patch_size];
    list.add(format!("{patches}.weight"), &shape, |encoder| {
        Parameter::Matrix(&mut encoder.patches.weight)
    });
    let is_dinov2 = names.layout() == CheckpointLayout::Dinov2;
    if is_dinov2 {
        list.add(format!("{patches}.bias"), &[d_model], |encoder| bias(&mut encoder.patches));
    }
    let n_positions = 1 + config.grid(config.image_size).pow(2);
    let [class, positions]: [&[usize]; 2] = if is_dinov2 {
        [&[1, 1, d_model], &[1, n_positions, d_model]]
    } else {
        [&[d_model], &[n_positions, d_model]]
    };
    list.add(names.class_token(), class, |encoder| Parameter::Embedding(&mut encoder.class_token));
    list.add_stored(Storage::Positions, names.position_embeddings(), positions, |encoder| {
        Parameter::Embedding(&mut encoder.positions)
    });
    if let Some(name) = names.pre_norm() {
        list.add_norm(&name, d_model, |encoder| {
            encoder.input_norm.as_mut().expect("CLIP has a norm before its blocks")
        });
    }
    for layer in 0..config.n_layers {
        list.add_block(names, config, layer);
    }
    list.add_norm(&names.final_norm(), d_model, |encoder| &mut encoder.final_norm);
    if let Some(width) = config.projection {
        let (storage, shape) = if names.projection_is_transposed() {
            (Storage::Transposed, [d_model, width])
        } else {
            (Storage::Plain, [width, d_model])
        };
        list.add_stored(storage, names.projection(), &shape, |encoder| {
            let projection = encoder.projection.as_mut().expect("the config has a projection");
            Parameter::Matrix(&mut projection.weight)
        });
    }
    list.0
}

/// The bias of a linear layer.
fn bias(linear: &mut Linear) -> Parameter<'_> {
    Parameter::Vector(linear.bias.as_mut().expect("the layer has a bias"))
}

/// A layer scale of DINOv2.
fn scale(scale: &mut Option<Param<Tensor<1>>>) -> Parameter<'_> {
    Parameter::Vector(scale.as_mut().expect("DINOv2 has layer scales"))
}

struct TensorList(Vec<EncoderTensor>);

impl TensorList {
    fn add(
        &mut self,
        name: String,
        shape: &[usize],
        parameter: impl for<'a> Fn(&'a mut Encoder) -> Parameter<'a> + 'static,
    ) {
        self.add_stored(Storage::Plain, name, shape, parameter);
    }

    fn add_stored(
        &mut self,
        storage: Storage,
        name: String,
        shape: &[usize],
        parameter: impl for<'a> Fn(&'a mut Encoder) -> Parameter<'a> + 'static,
    ) {
        let spec = TensorSpec { name, shape: shape.to_vec() };
        self.0.push(EncoderTensor { spec, storage, parameter: Box::new(parameter) });
    }

    fn add_norm(
        &mut self,
        name: &str,
        width: usize,
        norm: impl for<'a> Fn(&'a mut Encoder) -> &'a mut Norm + Copy + 'static,
    ) {
        self.add(format!("{name}.weight"), &[width], move |encoder| {
            Parameter::Vector(&mut norm(encoder).weight)
        });
        self.add(format!("{name}.bias"), &[width], move |encoder| {
            Parameter::Vector(norm(encoder).bias.as_mut().expect("layer norms have a bias"))
        });
    }

    fn add_block(&mut self, names: &TensorNames, config: &EncoderConfig, layer: usize) {
        let &EncoderConfig { d_model, d_ff, activation, .. } = config;
        let names = names.block(layer, activation);
        let square = [d_model, d_model];
        self.add_norm(&names.attention_norm, d_model, move |encoder| {
            &mut encoder.blocks[layer].attention_norm
        });
        let qkv: [fn(&mut Block) -> &mut Linear; 3] = [
            |block| &mut block.attention.query,
            |block| &mut block.attention.key,
            |block| &mut block.attention.value,
        ];
        match names.qkv {
            QkvNames::Separate(names) => {
                for (name, linear) in names.iter().zip(qkv) {
                    self.add_linear(name, square, layer, linear);
                }
            }
            QkvNames::Fused(name) => self.add_fused(&name, d_model, layer, qkv),
        }
        self.add_linear(&names.output, square, layer, |block| &mut block.attention.output);
        if let Some(name) = names.attention_layer_scale {
            self.add(name, &[d_model], move |encoder| {
                scale(&mut encoder.blocks[layer].attention_layer_scale)
            });
        }
        self.add_norm(&names.mlp_norm, d_model, move |encoder| &mut encoder.blocks[layer].mlp_norm);
        let up = if activation == Activation::SwiGlu { 2 * d_ff } else { d_ff };
        self.add_linear(&names.up, [up, d_model], layer, |block| &mut block.mlp.up);
        self.add_linear(&names.down, [d_model, d_ff], layer, |block| &mut block.mlp.down);
        if let Some(name) = names.mlp_layer_scale {
            self.add(name, &[d_model], move |encoder| {
                scale(&mut encoder.blocks[layer].mlp_layer_scale)
            });
        }
    }

    /// A linear layer with a bias.
    fn add_linear(
        &mut self,
        name: &str,
        [rows, columns]: [usize; 2],
        layer: usize,
        linear: fn(&mut Block) -> &mut Linear,
    ) {
        self.add(format!("{name}.weight"), &[rows, columns], move |encoder| {
            Parameter::Matrix(&mut linear(&mut encoder.blocks[layer]).weight)
        });
        self.add(format!("{name}.bias"), &[rows], move |encoder| {
            bias(linear(&mut encoder.blocks[layer]))
        });
    }

    /// Query, key and value in one tensor.
    fn add_fused(
        &mut self,
        name: &str,
        d_model: usize,
        layer: usize,
        qkv: [fn(&mut Block) -> &mut Linear; 3],
    ) {
        let fused = 3 * d_model;
        for (third, linear) in qkv.into_iter().enumerate() {
            let storage = Storage::Third(third);
            self.add_stored(storage, format!("{name}weight"), &[fused, d_model], move |encoder| {
                Parameter::Matrix(&mut linear(&mut encoder.blocks[layer]).weight)
            });
        }
        for (third, linear) in qkv.into_iter().enumerate() {
            let storage = Storage::Third(third);
            self.add_stored(storage, format!("{name}bias"), &[fused], move |encoder| {
                bias(linear(&mut encoder.blocks[layer]))
            });
        }
    }
}
