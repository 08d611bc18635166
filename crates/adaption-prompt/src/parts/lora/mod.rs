//! LoRA: low-rank adaptation of linear layers, as a baseline for comparison.

mod config;
mod data;
mod summary;
mod weights;

pub use config::LoraConfig;
pub use data::{LoraData, LoraPairData};
pub(crate) use data::{LoraSettings, is_lora_pair};
pub use summary::LoraSummary;
pub use weights::{Lora, LoraLayer, LoraPair};
