//! JSON forms of values that serde's defaults do not preserve.

pub(crate) mod exact_f64;
mod lossy_path;

pub(crate) use lossy_path::{serialize_optional_path, serialize_path};
