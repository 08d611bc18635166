//! what `--data` and its companions say ─► rows, and notes of what became of others

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use train::data::{EmptyOutputPolicy, LoadedRows};
use train::{ReadOptions, read_rows};

/// How rows are read.
#[derive(Debug, Clone, clap::Args)]
pub struct DataArgs {
    /// What to do with rows whose output is empty: leave them out and say how many, or learn that
    /// the answer ends at once.
    #[arg(long, value_enum, default_value_t, value_name = "WHAT", help_heading = "Data")]
    empty_outputs: Empty,
}

/// The choices of `--empty-outputs`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Empty {
    #[default]
    Skip,
    Learn,
}

impl DataArgs {
    /// The rows of several files or folders, one after the other; of ScienceQA's those of a split.
    /// `tell` hears what is not used of each as it is.
    pub fn read_all(
        &self,
        paths: &[PathBuf],
        images: Option<&Path>,
        split: &str,
        tell: &dyn Fn(&str),
    ) -> train::Result<LoadedRows> {
        let empty_outputs = match self.empty_outputs {
            Empty::Skip => EmptyOutputPolicy::Skip,
            Empty::Learn => EmptyOutputPolicy::Keep,
        };
        let options = ReadOptions { image_folder: images, split: Some(split), empty_outputs };
        let mut all = LoadedRows::default();
        for path in paths {
            let LoadedRows { rows, report } = read_rows(path, &options)?;
            for line in report.messages() {
                tell(&format!("{}: {line}", path.display()));
            }
            all.rows.extend(rows);
            all.report.merge(report);
        }
        Ok(all)
    }
}
