//! Training data: rows of data files, token sequences, batches.
//!
//! ```text
//! file ─► ::data ─► record ─► read ─► Instruction ─► RowEncoder ─► Example ─► ExampleSampler ─► Batch
//! ```

mod batch;
mod batch_prefetcher;
mod dealer;
mod embedding_noise;
mod example;
mod example_sampler;
mod example_store;
mod image_groups;
mod image_ref;
mod instruction;
pub(crate) mod read;
mod row_encoder;
mod row_store;
mod split;
mod spool;
mod token_batches;
mod token_cache;
mod token_file;
mod turn;

pub use batch::Batch;
pub(crate) use batch_prefetcher::{BatchPrefetcher, StepBatches};
pub(crate) use dealer::Dealer;
pub(crate) use embedding_noise::EmbeddingNoise;
pub use example::{Example, TruncationCounts};
pub use example_sampler::{Batching, ExampleSampler};
pub use example_store::ExampleStore;
pub(crate) use image_groups::group_by_image;
pub use image_ref::ImageRef;
pub(crate) use image_ref::{image_ref_to_path, is_data_url, path_to_image_ref};
pub(crate) use instruction::FORMAT_HINT;
pub use instruction::Instruction;
pub use read::{
    ConversationRows, DropReason, EmptyOutputPolicy, LoadedRows, Occurrences, ReadOptions,
    RecordKind, RowAdjustment, RowCounts, RowReport, RunRowCounts, SCIENCE_QA_TAGS, ScienceQa,
    parse_rows, read_rows, stream_rows,
};
pub use row_encoder::RowEncoder;
pub use row_store::{RowStore, RowStoreBuilder};
pub use split::split_rows;
pub use token_batches::TokenBatches;
pub(crate) use token_cache::{EncodedRows, ExampleEncoder};
pub(crate) use turn::history_line;
pub use turn::{RowContext, Turn};
