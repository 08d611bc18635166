//! Adapters of a running engine: names ─► prepared adapters in memory.

mod registry;
mod source;

pub(crate) use registry::Registry;
pub use source::{AdapterInfo, AdapterLocation, AdapterSource, ImageEncoders};
