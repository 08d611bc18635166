//! Options of the training and evaluation data ─► rows

use std::path::{Path, PathBuf};

use train::data::{ConversationRows, EmptyOutputPolicy, LoadedRows};
use train::{ReadOptions, read_rows};

use crate::choice::choice;

/// How data files are read.
#[derive(Debug, Clone, clap::Args)]
pub struct DataArgs {
    /// Rows with an empty output: skip and count them, or keep them and train on the
    /// end-of-sequence token alone.
    #[arg(long, value_enum, default_value_t, value_name = "POLICY", help_heading = "Data")]
    empty_outputs: EmptyOutputChoice,
}

choice! {
    /// The values of `--empty-outputs`.
    #[derive(Default)]
    enum EmptyOutputChoice => EmptyOutputPolicy {
        #[default]
        Skip => Self::Skip,
        #[value(alias = "learn")]
        Keep => Self::Keep,
    }
}

impl DataArgs {
    /// Reads the rows of several files or folders in order; of ScienceQA folders only one split.
    /// `notify` gets a message about each kind of skipped, changed or unused data.
    pub fn load_rows(
        &self,
        paths: &[PathBuf],
        images: Option<&Path>,
        split: &str,
        conversations: ConversationRows,
        notify: &dyn Fn(&str),
    ) -> train::Result<LoadedRows> {
        let options = ReadOptions {
            image_folder: images,
            split: Some(split),
            empty_outputs: self.empty_outputs.into(),
            conversations,
        };
        let mut all = LoadedRows::default();
        for path in paths {
            let LoadedRows { rows, report } = read_rows(path, &options)?;
            for line in report.describe_kinds().into_iter().chain(report.messages()) {
                notify(&format!("{}: {line}", path.display()));
            }
            all.rows.extend(rows);
            all.report.merge(report);
        }
        Ok(all)
    }
}
