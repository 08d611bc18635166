//! Images of rows: their features, and adapters that use them.

mod image_feature_cache;
mod multimodal_adapter;

pub use image_feature_cache::{BrokenImage, FeatureStatistics, ImageFeatureCache};
pub use multimodal_adapter::{BatchAdapter, MultimodalAdapter};
