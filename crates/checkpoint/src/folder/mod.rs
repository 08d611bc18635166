//! Folders of checkpoints: which file holds the weights, shard indices, the Hugging Face Hub's cache, and
//! the error for a path without a checkpoint.
//!
//! ```no_run
//! use checkpoint::TensorSource;
//! use checkpoint::folder::{hub_cache_snapshot, open_weights};
//!
//! # fn main() -> checkpoint::Result<()> {
//! # let folder = std::path::Path::new("models--owner--name");
//! // A folder of the Hub's cache resolves to its snapshot.
//! let snapshot = hub_cache_snapshot(folder)?;
//! let weights = open_weights(snapshot.as_deref().unwrap_or(folder))?;
//! for (name, shape) in weights.shapes() {
//!     println!("{name} {shape:?}");
//! }
//! # Ok(())
//! # }
//! ```

mod hub_cache;
mod index;
mod not_a_model;
mod weights;

pub use hub_cache::hub_cache_snapshot;
pub use index::{WEIGHT_FILES, has_weights, is_index, parse_index, shard_names};
pub use not_a_model::{PARAMS_FILE, file_error, folder_error, only_gguf};
pub use weights::open_weights;
