//! Adapters of a running engine: names ─► prepared adapters in memory.
//!
//! ```text
//! request ─► AdapterStore::find ─┬─► ready: Instance
//!                                └─► missing ─► AdapterStore::prepare, on the loader's thread
//!                                                 reads the files, mixes, encodes the image
//! ```

mod instance;
mod load;
mod registry;
mod source;
mod stamp;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use instance::Instance;
pub(crate) use load::{AdapterLoader, Job, Loaded, Loading};
pub(crate) use registry::Registry;
pub use source::{AdapterInfo, AdapterLocation, AdapterSource, ImageEncoders};
pub(crate) use store::{AdapterKey, AdapterStore};
