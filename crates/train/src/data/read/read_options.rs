//! rows of data, how they are asked for, and what was found beside them

use std::path::Path;

use super::row_report::RowReport;
use crate::data::Instruction;

/// Rows of data, and what became of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedRows {
    /// Those to use.
    pub rows: Vec<Instruction>,
    /// What was left out, changed or not used.
    pub report: RowReport,
}

/// How data is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOptions<'a> {
    /// Where relative paths of images begin; `None`: in the data's own folder.
    pub image_folder: Option<&'a Path>,
    /// The split of a ScienceQA folder; `None`: `train`. Files have no splits.
    pub split: Option<&'a str>,
    /// What becomes of rows whose answer is empty.
    pub empty_outputs: EmptyOutputPolicy,
}

/// What becomes of rows whose answer is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EmptyOutputPolicy {
    /// They are left out.
    #[default]
    Skip,
    /// They stay: what is learned is that the end comes at once.
    Keep,
}
