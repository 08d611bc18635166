//! features ─► tokens as wide as the model
//!
//! ```text
//! Global:   class features of several scales ─► norm ─► up ─► GELU ─► down ─► norm
//! Queries:  all tokens ─► proj ─► norm ─┐
//!                        learned queries ┴► blocks ─► the queries' rows ─► proj ─► norm
//! ```

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use llama::model::{Linear, Norm, gelu};
use vision::Block;

use super::config::ImageProjectorConfig;
use super::slots::{Slot, Slots, Visit, block, linear, norm};

/// What makes tokens of a picture's features.
#[derive(Module, Debug)]
pub enum ImageProjector {
    /// One token of a whole picture.
    Global(GlobalProjector),
    /// Tokens of learned queries.
    Queries(QueryProjector),
}

/// Two layers between two norms.
#[derive(Module, Debug)]
pub struct GlobalProjector {
    input_norm: Norm,
    up: Linear,
    down: Linear,
    output_norm: Norm,
}

/// Blocks in which learned queries look at a picture's tokens.
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
    /// Places for the numbers of a form.
    pub(crate) fn empty(
        form: &ImageProjectorConfig,
        features: usize,
        d_model: usize,
        device: &Device,
    ) -> Self {
        match *form {
            ImageProjectorConfig::Global { hidden } => Self::Global(GlobalProjector {
                input_norm: norm(features, device),
                up: linear(features, hidden, device),
                down: linear(hidden, d_model, device),
                output_norm: norm(d_model, device),
            }),
            ImageProjectorConfig::Queries { count, width, blocks, heads } => {
                Self::Queries(QueryProjector {
                    input: linear(features, width, device),
                    input_norm: norm(width, device),
                    query: Param::from_tensor(Tensor::zeros([count, width], device)),
                    blocks: (0..blocks).map(|_| block(width, heads, device)).collect(),
                    output: linear(width, d_model, device),
                    output_norm: norm(d_model, device),
                })
            }
        }
    }

    /// # Shapes
    /// - `features`: `[pictures, tokens of a picture, features]`
    /// - output: `[pictures, 1 or queries, d_model]`
    ///
    /// # Panics
    /// If features have another width, or, where one token is made of a picture, several tokens.
    pub fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Global(own) => own.forward(features),
            Self::Queries(own) => own.forward(features),
        }
    }
}

impl GlobalProjector {
    fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let [_pictures, tokens, _width] = features.dims();
        assert_eq!(tokens, 1, "features of a whole picture are one token");
        let inner = gelu(self.up.forward(self.input_norm.forward(features, None)));
        self.output_norm.forward(self.down.forward(inner), None)
    }
}

impl QueryProjector {
    fn forward(&self, features: Tensor<3>) -> Tensor<3> {
        let [pictures, _tokens, _width] = features.dims();
        let seen = self.input_norm.forward(self.input.forward(features), None);
        let query = self.query.val();
        let [count, width] = query.dims();
        let query = query.unsqueeze::<3>().expand([pictures, count, width]);
        let mut hidden = Tensor::cat(vec![query, seen], 1);
        for block in &self.blocks {
            hidden = block.forward(hidden);
        }
        let query = hidden.slice([0..pictures, 0..count, 0..width]);
        self.output_norm.forward(self.output.forward(query), None)
    }
}

impl Slots for ImageProjector {
    fn slots(&mut self, name: &str, visit: &mut Visit) {
        match self {
            Self::Global(own) => {
                own.input_norm.slots(&format!("{name}.input_norm"), visit);
                own.up.slots(&format!("{name}.up"), visit);
                own.down.slots(&format!("{name}.down"), visit);
                own.output_norm.slots(&format!("{name}.output_norm"), visit);
            }
            // As the original release calls them.
            Self::Queries(own) => {
                own.input.slots(&format!("{name}.clip_proj"), visit);
                own.input_norm.slots(&format!("{name}.clip_proj_norm"), visit);
                visit(format!("{name}.visual_query.weight"), Slot::Matrix(&mut own.query));
                for (index, block) in own.blocks.iter_mut().enumerate() {
                    block.slots(&format!("{name}.visual_blocks.{index}"), visit);
                }
                own.output.slots(&format!("{name}.visual_proj"), visit);
                own.output_norm.slots(&format!("{name}.visual_proj_norm"), visit);
            }
        }
    }
}
