//! An adapter: its parts in all forms, and how adapters are prepared, mixed and named.
//!
//! The containers have one optional field per part. They are generated from the list of parts.

pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod mix;
mod modifiers;
pub(crate) mod packed_adapters;
pub(crate) mod prepared;
pub(crate) mod row_adapters;
mod row_groups;
pub(crate) mod set;
pub(crate) mod summary;
pub(crate) mod weights;
