//! The adaption prompt: gated prompts of the adapted layers.

mod config;
mod data;
mod summary;
mod weights;

pub use config::{AdaptionPromptConfig, PromptInit, PromptProjection};
pub(crate) use data::PromptSettings;
pub use data::{PromptData, PromptLayerData};
pub use summary::{PromptLayerSummary, PromptSummary};
pub use weights::{AdaptionPrompt, LayerPrompt};
