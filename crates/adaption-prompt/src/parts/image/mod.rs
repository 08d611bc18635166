//! Image conditioning: features of images become tokens of the model's width, which are fused with the
//! prompts or are prompts of their own.

mod config;
mod data;
mod parameters;
mod projector;
mod summary;
mod weights;

pub use config::{ImageConfig, ImageFusion, ImageProjectorConfig};
pub use data::ImageData;
pub(crate) use data::TENSOR_PREFIX;
pub use projector::{GlobalProjector, ImageProjector, QueryProjector};
pub use weights::ImageCondition;
