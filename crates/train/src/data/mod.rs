//! Training data: rows of data files, token sequences, batches.
//!
//! ```text
//! file ─► read ─► Instruction ─► Example ─► ExampleSampler ─► Batch
//! ```

mod batch;
mod batch_prefetcher;
mod embedding_noise;
mod example;
mod example_sampler;
mod image_groups;
mod image_ref;
mod instruction;
pub(crate) mod read;
mod shorten;
mod split;
mod token_batches;

pub use batch::Batch;
pub(crate) use batch_prefetcher::BatchPrefetcher;
pub(crate) use embedding_noise::EmbeddingNoise;
pub use example::{Example, TruncationCounts};
pub use example_sampler::{Batching, ExampleSampler};
pub(crate) use image_groups::group_by_image;
pub use image_ref::ImageRef;
pub(crate) use image_ref::{image_ref_to_path, is_data_url, path_to_image_ref};
pub(crate) use instruction::FORMAT_HINT;
pub use instruction::Instruction;
pub use read::{
    DropReason, EmptyOutputPolicy, LoadedRows, Occurrences, ReadOptions, RowAdjustment, RowCounts,
    RowReport, RunRowCounts, SCIENCE_QA_TAGS, ScienceQa, parse_rows, read_rows,
};
pub(crate) use shorten::{first_chars, join_first};
pub use split::split_rows;
pub use token_batches::TokenBatches;
