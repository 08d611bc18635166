//! features ─► tokens of the model's width
//!
//! ```text
//! Global:   features of an image ─► norm ─► up ─► GELU ─► down ─► norm
//! Queries:  feature tokens ─► proj ─► norm ─┐
//!                            visual queries ┴► blocks ─► rows of the queries ─► proj ─► norm
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use llama::model::{Linear, Norm, gelu};
use vision::Block;

use super::config::ImageProjectorConfig;
use super::parameters::{
    NamedParameters, ParameterMut, ParameterVisitor, identity_norm, zero_block, zero_linear,
};

/// Makes image tokens from features.
#[derive(Module, Debug)]
pub enum ImageProjector {
    /// One token per image.
    Global(GlobalProjector),
    /// One token per visual query.
    Queries(QueryProjector),
}

/// A two-layer MLP between two norms.
#[derive(Module, Debug)]
pub struct GlobalProjector {
    input_norm: Norm,
    up: Linear,
    down: Linear,
    output_norm: Norm,
}

/// Transformer blocks over visual queries and feature tokens.
///
/// Source: the original multi-modal release, `LLaMA_adapter.forward_visual`.
#[derive(Module, Debug)]
pub struct QueryProjector {
    input: Linear,
    input_norm: Norm,
    /// `[queries, width]`
    query: Param<Tensor<2>>,
    blocks: Vec<Block>,
    output: Linear,
    output_norm: Norm,
}

impl ImageProjector {
    /// A projector with zero matrices and identity norms.
    pub(super) fn zeros(
        config: &ImageProjectorConfig,
        features: usize,
        d_model: usize,
        device: &Device,
    ) -> Self {
        match *config {
            ImageProjectorConfig::Global { hidden } => Self::Global(GlobalProjector {
                input_norm: identity_norm(features, device),
                up: zero_linear(features, hidden, device),
                down: zero_linear(hidden, d_model, device),
                output_norm: identity_norm(d_model, device),
            }),
            ImageProjectorConfig::Queries { count, width, blocks, heads } => {
                Self::Queries(QueryProjector {
                    input: zero_linear(features, width, device),
                    input_norm: identity_norm(width, device),
                    query: Param::from_tensor(Tensor::zeros([count, width], device)),
                    blocks: (0..blocks).map(|_| zero_block(width, heads, device)).collect(),
                    output: zero_linear(width, d_model, device),
                    output_norm: identity_norm(d_model, device),
                })
            }
        }
    }

    /// Image tokens.
    ///
    /// # Shapes
    /// - `features`: `[images, tokens per image, features]`
    /// - output: `[images, 1 or queries, d_model]`
    ///
    /// # Panics
    /// If the features have another width, or a global projector gets several tokens per image.
    pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Global(own) => own.forward(features),
            Self::Queries(own) => own.forward(features),
        }
    }
}

impl GlobalProjector {
    fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let [_images, tokens, _width] = features.dims();
        assert_eq!(tokens, 1, "a global projector takes one token per image");
        let hidden = gelu(self.up.forward(self.input_norm.forward(features, None)));
        self.output_norm.forward(self.down.forward(hidden), None)
    }
}

impl QueryProjector {
    fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let [images, _tokens, _width] = features.dims();
        let image_tokens = self.input_norm.forward(self.input.forward(features), None);
        let query = self.query.val();
        let [count, width] = query.dims();
        let query = query.unsqueeze::<3>().expand([images, count, width]);
        let mut hidden = Tensor::cat(vec![query, image_tokens], 1);
        for block in &self.blocks {
            hidden = block.forward(hidden);
        }
        let query = hidden.slice([0..images, 0..count, 0..width]);
        self.output_norm.forward(self.output.forward(query), None)
    }
}

impl NamedParameters for ImageProjector {
    fn visit_parameters(&mut self, name: &str, visitor: &mut ParameterVisitor) {
        match self {
            Self::Global(own) => {
                own.input_norm.visit_parameters(&format!("{name}.input_norm"), visitor);
                own.up.visit_parameters(&format!("{name}.up"), visitor);
                own.down.visit_parameters(&format!("{name}.down"), visitor);
                own.output_norm.visit_parameters(&format!("{name}.output_norm"), visitor);
            }
            // The names of the original release.
            Self::Queries(own) => {
                own.input.visit_parameters(&format!("{name}.clip_proj"), visitor);
                own.input_norm.visit_parameters(&format!("{name}.clip_proj_norm"), visitor);
                visitor(
                    format!("{name}.visual_query.weight"),
                    ParameterMut::Matrix(&mut own.query),
                );
                for (index, block) in own.blocks.iter_mut().enumerate() {
                    block.visit_parameters(&format!("{name}.visual_blocks.{index}"), visitor);
                }
                own.output.visit_parameters(&format!("{name}.visual_proj"), visitor);
                own.output_norm.visit_parameters(&format!("{name}.visual_proj_norm"), visitor);
            }
        }
    }
}
