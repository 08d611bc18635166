//! pixels ─► patches ─► + class token, + places ─► blocks ─► norm (─► projection)

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use llama::model::{Linear, Norm};

use crate::block::Block;
use crate::config::EncoderConfig;

/// A frozen vision transformer.
///
/// Source: arXiv 2010.11929.
#[derive(Module, Debug)]
pub struct Encoder {
    /// A patch's pixels, channel by channel, to a token.
    pub(crate) patches: Linear,
    /// `[1, 1, d_model]`
    pub(crate) class_token: Param<Tensor<3>>,
    /// Of the class token and each patch, for pictures of [`image_size`](Self::image_size):
    /// `[1, 1 + patches, d_model]`.
    pub(crate) positions: Param<Tensor<3>>,
    pub(crate) input_norm: Option<Norm>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) final_norm: Norm,
    /// Into the space that CLIP shares with texts.
    pub(crate) projection: Option<Linear>,
    #[module(skip)]
    pub(crate) config: EncoderConfig,
    #[module(skip)]
    pub(crate) image_size: usize,
}

/// What an encoder sees in pictures.
#[derive(Debug, Clone)]
pub struct EncoderOutput {
    /// Hidden states of the layers asked for, in that order, the class token's first:
    /// `[batch, 1 + patches, d_model]` each.
    pub hidden_states: Vec<Tensor<3>>,
    /// The last layer's through the final norm: the same shape.
    pub normed: Tensor<3>,
    /// That in CLIP's shared space, `[batch, 1 + patches, projection]`, if the files have the way.
    pub projected: Option<Tensor<3>>,
}

impl EncoderOutput {
    /// What the class token gathered: `[batch, d_model]`.
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
    /// Its shape.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Pixels a side of the pictures that it takes.
    pub fn image_size(&self) -> usize {
        self.image_size
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        self.positions.val().device()
    }

    /// Looks at pictures.
    ///
    /// `layers` are those whose hidden states are wanted: 0 is what goes into the first block, `n`
    /// what the n-th one made of it.
    ///
    /// # Shapes
    /// - `pixels`: `[batch, 3, image_size, image_size]`, as
    ///   [`Preprocessing`](crate::Preprocessing) makes them
    ///
    /// # Panics
    /// If pictures have another size, or there is no such layer.
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
        let layers = layers.iter().map(|layer| states[layer].clone()).collect();
        let normed = self.final_norm.forward(hidden, None);
        let projected = self.projection.as_ref().map(|linear| linear.forward(normed.clone()));
        EncoderOutput { hidden_states: layers, normed, projected }
    }

    /// `[batch, 1 + patches, d_model]`
    fn embed(&self, pixels: Tensor<4>) -> Tensor<3> {
        let [batch, channels, height, width] = pixels.dims();
        let size = self.image_size;
        assert_eq!([channels, height, width], [3, size, size], "a picture's size");
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
