//! What a model trains on: rows, examples, batches.

mod batch;
mod batch_prefetcher;
mod example;
mod image_ref;
mod instruction;
pub(crate) mod read;
mod split;
pub mod template;

pub use batch::{Batch, ExampleSampler};
pub(crate) use batch_prefetcher::BatchPrefetcher;
pub use example::{Example, TruncationCounts};
pub use image_ref::ImageRef;
pub(crate) use image_ref::{image_ref_to_path, is_data_url, path_to_image_ref};
pub(crate) use instruction::FORMAT_HINT;
pub use instruction::Instruction;
pub use split::split_rows;
