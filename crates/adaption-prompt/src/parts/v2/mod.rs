//! Adapter V2: scales and biases of linear layers, and norm weights.

mod config;
mod data;
mod summary;
mod weights;

pub use config::{V2Config, V2Scale};
pub(crate) use data::V2Settings;
pub use data::{V2Data, V2LinearData, V2NormData};
pub use summary::V2Summary;
pub use weights::{AdapterV2, V2Layer, V2Linear, V2Norm};
