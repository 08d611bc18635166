//! pixels ─► patches ─► + class token, + position embeddings ─► blocks ─► norm (─► projection)

use std::collections::BTreeMap;

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use llama::model::{Linear, Norm};

use crate::block::{Block, layer_norm, zero_linear};
use crate::config::{EncoderConfig, EncoderFamily};

/// A vision transformer.
///
/// Source: arXiv 2010.11929.
#[derive(Module, Debug)]
pub struct Encoder {
    /// Patch embedding: pixels of a patch, channel by channel, to a token.
    pub(crate) patches: Linear,
    /// `[1, 1, d_model]`
    pub(crate) class_token: Param<Tensor<3>>,
    /// Position embeddings of the class token and each patch, for images of
    /// [`image_size`](Self::image_size): `[1, 1 + patches, d_model]`.
    pub(crate) positions: Param<Tensor<3>>,
    /// Norm before the first block, in CLIP.
    pub(crate) input_norm: Option<Norm>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) final_norm: Norm,
    /// Projection to CLIP's joint image-text space.
    pub(crate) projection: Option<Linear>,
    #[module(skip)]
    pub(crate) config: EncoderConfig,
    #[module(skip)]
    pub(crate) image_size: usize,
}

/// Hidden states of a batch of images.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EncoderOutput {
    /// Hidden states of the requested layers, in the order of the request:
    /// `[batch, 1 + patches, d_model]` each, the class token first.
    pub hidden_states: Vec<Tensor<3>>,
    /// Hidden states of the last layer after the final norm: `[batch, 1 + patches, d_model]`.
    pub normed: Tensor<3>,
    /// `normed` in CLIP's joint image-text space, if the checkpoint has the projection:
    /// `[batch, 1 + patches, projection]`.
    pub projected: Option<Tensor<3>>,
}

impl EncoderOutput {
    /// The class token after the final norm: `[batch, d_model]`.
    pub fn class_token(&self) -> Tensor<2> {
        class_token(&self.normed)
    }
}

/// The class token's row: `[batch, seq, d_model] -> [batch, d_model]`.
pub fn class_token(hidden: &Tensor<3>) -> Tensor<2> {
    let [batch, _seq, d_model] = hidden.dims();
    hidden.clone().slice([0..batch, 0..1, 0..d_model]).reshape([batch, d_model])
}

impl Encoder {
    /// An encoder whose matrices, biases and embeddings are zero and whose norms and layer scales are
    /// one. Matrices and embeddings are allocated on first use.
    pub(crate) fn zeros(config: &EncoderConfig, image_size: usize, device: &Device) -> Self {
        let &EncoderConfig { d_model, patch_size, norm_eps, .. } = config;
        let is_clip = config.family == EncoderFamily::Clip;
        let embedding = |n: usize| Initializer::Zeros.init([1, n, d_model], device);
        let norm = || layer_norm(d_model, norm_eps, device);
        let block = config.block();
        Self {
            patches: zero_linear(3 * patch_size.pow(2), d_model, !is_clip, device),
            class_token: embedding(1),
            positions: embedding(1 + config.grid(image_size).pow(2)),
            input_norm: is_clip.then(norm),
            blocks: (0..config.n_layers).map(|_layer| block.init(device)).collect(),
            final_norm: norm(),
            projection: config.projection.map(|width| zero_linear(d_model, width, false, device)),
            config: config.clone(),
            image_size,
        }
    }

    /// Sizes of the encoder.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Height and width of its input in pixels.
    pub fn image_size(&self) -> usize {
        self.image_size
    }

    /// Device of the parameters.
    pub fn device(&self) -> Device {
        self.positions.val().device()
    }

    /// Encodes a batch of images.
    ///
    /// `layers` selects [`EncoderOutput::hidden_states`]: 0 is the input of the first block, `n` the
    /// output of the n-th block.
    ///
    /// # Shapes
    /// - `pixels`: `[batch, 3, image_size, image_size]`, from
    ///   [`Preprocessing::pixels`](crate::Preprocessing::pixels)
    ///
    /// # Panics
    /// If the images have another size or a layer does not exist.
    pub fn forward(&self, pixels: Tensor<4>, layers: &[usize]) -> EncoderOutput {
        assert!(layers.iter().all(|&layer| layer <= self.blocks.len()), "layers {layers:?}");
        let mut hidden = self.embed(pixels);
        let mut states = BTreeMap::from([(0, hidden.clone())]);
        for (index, block) in self.blocks.iter().enumerate() {
            hidden = block.forward(hidden);
            if layers.contains(&(index + 1)) {
                states.insert(index + 1, hidden.clone());
            }
        }
        let hidden_states = layers.iter().map(|layer| states[layer].clone()).collect();
        let normed = self.final_norm.forward(hidden, None);
        let projected = self.projection.as_ref().map(|linear| linear.forward(normed.clone()));
        EncoderOutput { hidden_states, normed, projected }
    }

    /// `[batch, 1 + patches, d_model]`
    fn embed(&self, pixels: Tensor<4>) -> Tensor<3> {
        let [batch, channels, height, width] = pixels.dims();
        let size = self.image_size;
        assert_eq!([channels, height, width], [3, size, size], "shape of an image");
        let (grid, patch) = (self.config.grid(size), self.config.patch_size);
        let patches = pixels
            .reshape([batch, channels, grid, patch, grid, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, grid * grid, channels * patch * patch]);
        let patches = self.patches.forward(patches);
        let class = self.class_token.val().repeat_dim(0, batch);
        let hidden = Tensor::cat(vec![class, patches], 1) + self.positions.val();
        match &self.input_norm {
            Some(norm) => norm.forward(hidden, None),
            None => hidden,
        }
    }
}
