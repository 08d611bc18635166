//! Images of rows: their features, and adapters that see them.

mod image_feature_cache;

pub use image_feature_cache::{
    BatchAdapter, BrokenImage, FeatureStatistics, ImageFeatureCache, MultimodalAdapter,
};
