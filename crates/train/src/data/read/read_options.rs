//! How data is read, and what the result is.

use std::path::Path;

use ::data::{Columns, FileFormat, RejectFile};

use super::row_report::RowReport;
use crate::data::Instruction;

/// The rows of a file or folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedRows {
    /// The usable rows.
    pub rows: Vec<Instruction>,
    /// What was dropped, adjusted or unused.
    pub report: RowReport,
}

/// How data is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOptions<'a> {
    /// The format of the files; `None`: found by their content.
    pub format: Option<FileFormat>,
    /// Other names of the fields.
    pub columns: Option<&'a Columns>,
    /// Where invalid records go; `None`: the first one is an error.
    pub rejects: Option<&'a RejectFile>,
    /// The folder that relative image paths are relative to; `None`: the folder of the data.
    pub image_folder: Option<&'a Path>,
    /// The split of a folder; `None`: `train`. Ignored for files.
    pub split: Option<&'a str>,
    /// What to do with rows whose output is empty.
    pub empty_outputs: EmptyOutputPolicy,
    /// The rows of a conversation.
    pub conversations: ConversationRows,
}

/// The rows of a conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConversationRows {
    /// One row for each response, with the turns before it as lines of its input: for prompt templates
    /// without earlier turns.
    #[default]
    PerResponse,
    /// One row with all turns: for chat templates.
    Whole,
}

/// What to do with rows whose output is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EmptyOutputPolicy {
    /// Drop them.
    #[default]
    Skip,
    /// Keep them: the model learns to end the response at once.
    Keep,
}
