//! Statistics of rows before they are trained on: lengths, duplicates, what a batch wastes or shares.
//!
//! Every statistic takes rows one at a time, and its memory does not grow with their texts: 40 bytes a row
//! for duplicates, and at most 150 MB for near-duplicates.

mod batch_cost;
mod duplicates;
mod lengths;
mod min_hash;

pub use batch_cost::BatchCost;
pub use duplicates::{Duplicate, DuplicateFinder, DuplicateKind};
pub use lengths::{LengthBin, LengthSummary};
