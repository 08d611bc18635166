//! Errors of reading data, training, and resuming runs.

use std::path::{Path, PathBuf};

use diagnostic::{Advice, Diagnostic};

use crate::run::{RankDifference, SettingDifference};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error caused by files, settings or diverging numbers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of a run cannot be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// Data without a usable row.
    #[error("{name}: no rows to {purpose}: {reason}")]
    NoRows {
        /// The file or kind of data.
        name: String,
        /// What the rows are for.
        purpose: &'static str,
        /// Why there are none.
        reason: String,
    },
    /// A row that the prompt template rejects.
    #[error("the row `{question}`: {source}")]
    Row {
        /// The start of its question.
        question: String,
        /// The template's error.
        #[source]
        source: text::Error,
    },
    /// A setting out of range.
    #[error("{field} is {found}, expected {expected}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// The valid values.
        expected: &'static str,
    },
    /// An output folder that is not empty.
    #[error("{path}: {contents} already")]
    OutputNotEmpty {
        /// The folder.
        path: PathBuf,
        /// What it contains.
        contents: &'static str,
    },
    /// A file at the path of the output folder.
    #[error("{path}: this is a file, and a run needs a folder")]
    OutputIsFile {
        /// The file.
        path: PathBuf,
    },
    /// A folder that another run is using.
    #[error("{path}: another run is using this folder")]
    OutputLocked {
        /// The folder.
        path: PathBuf,
    },
    /// A folder without a run that can be resumed.
    #[error("{path}: nothing to resume: {reason}")]
    NothingToResume {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A run that was started with different settings.
    #[error(
        "{path}: the run was started with different settings{}{}",
        .differences.iter().map(|d| format!("\n  {d}")).collect::<String>(),
        if *.length_differs { "\n  (the length determines the learning rate of every step, including completed ones)" } else { "" }
    )]
    SettingsMismatch {
        /// The file with the settings.
        path: PathBuf,
        /// The settings that differ.
        differences: Vec<SettingDifference>,
        /// Whether the length of the training differs.
        length_differs: bool,
        /// Whether the run has saved an adapter.
        has_adapter: bool,
    },
    /// Ranks with different programs, models, data or settings.
    #[error(
        "the ranks were not started with the same things{}{}",
        .differences.iter().take(MAX_DIFFERENCES).map(|d| format!("\n  {d}")).collect::<String>(),
        more_differences(.differences.len())
    )]
    RanksDiffer {
        /// What differs, in the order of the ranks.
        differences: Vec<RankDifference>,
    },
    /// Ranks whose weights are no longer equal: a rank computes wrong results.
    #[error("after step {step} rank {rank} has other weights than rank 0")]
    RankWeightsDiffer {
        /// The first rank that differs.
        rank: usize,
        /// Completed steps.
        step: usize,
    },
    /// A checkpoint that cannot be used.
    #[error("{path}: not a usable checkpoint: {reason}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The folder of a run disappeared while the run was using it.
    #[error("{path}: the folder was removed or replaced while the run was using it")]
    OutputRemoved {
        /// The folder.
        path: PathBuf,
    },
    /// A run that was asked to stop. Its state is saved.
    #[error("{path}: stopped after step {step} of {total_steps}")]
    Interrupted {
        /// The folder.
        path: PathBuf,
        /// Completed steps.
        step: usize,
        /// Steps of the whole run.
        total_steps: usize,
    },
    /// The loss, a gradient or the weights are NaN or infinite.
    #[error(
        "the {what} became {value} in step {step}{}: training has diverged",
        skipped_in_a_row(*.skipped)
    )]
    Diverged {
        /// The quantity: loss, gradient, or weights.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The step, counted from 1; 0: before the first step.
        step: usize,
        /// Number of consecutive steps, from this one on, that were skipped.
        skipped: usize,
        /// A learning rate to try instead, unless the learning rate is not at fault.
        suggested_learning_rate: Option<f64>,
    },
    /// An image with a remote URL.
    #[error("{path}, {location}: the image {url} is not a local file")]
    RemoteImage {
        /// The file that names it.
        path: PathBuf,
        /// The location of the row.
        location: String,
        /// The URL of the image.
        url: String,
    },
    /// An image reference that is neither a path nor a base64 image.
    #[error("{image}: not an image: {reason}")]
    Image {
        /// The start of the reference.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An error of a source of data.
    #[error(transparent)]
    Data(#[from] ::data::Error),
    /// An error of an image encoder or an image.
    #[error(transparent)]
    Vision(#[from] vision::Error),
    /// An error of the model or its files.
    #[error(transparent)]
    Model(#[from] llama::Error),
    /// A file that cannot be read or written, or that violates its format.
    #[error(transparent)]
    File(#[from] checkpoint::Error),
    /// An error of the tokenizer or the chat template.
    #[error(transparent)]
    Text(#[from] text::Error),
    /// An error of the adapter or its files.
    #[error(transparent)]
    Adapter(#[from] adaption_prompt::Error),
}

/// Differences of ranks in a message.
const MAX_DIFFERENCES: usize = 8;

/// The part of a message about differences that it does not list.
fn more_differences(count: usize) -> String {
    match count.saturating_sub(MAX_DIFFERENCES) {
        0 => String::new(),
        more => format!("\n  and {more} more differences"),
    }
}

/// The part of a message about steps that were skipped in a row.
fn skipped_in_a_row(skipped: usize) -> String {
    match skipped {
        0 | 1 => String::new(),
        n => format!(", and {n} steps in a row were skipped"),
    }
}

impl Diagnostic for Error {
    fn advice(&self) -> Option<Advice> {
        let advice = match self {
            Self::Read { source, .. } => return Advice::for_read_error(source),
            Self::Data(error) => return error.advice(),
            Self::RemoteImage { .. } => {
                "images are not downloaded: download them first, and use their paths".into()
            }
            Self::OutputNotEmpty { .. } => Advice::OtherOutputOrResume,
            Self::NothingToResume { .. } | Self::Checkpoint { .. } => Advice::StartNewRun,
            Self::SettingsMismatch { path, has_adapter, .. } => {
                let folder = path.parent().filter(|_| *has_adapter);
                Advice::ResumeWithSameSettings { adapter_folder: folder.map(Path::to_owned) }
            }
            Self::RanksDiffer { .. } => {
                "start all ranks with the same program, base model, data and settings".into()
            }
            Self::RankWeightsDiffer { .. } => {
                "the last checkpoint is older and can be resumed; check that rank's device".into()
            }
            Self::OutputIsFile { .. } => Advice::OtherOutput,
            Self::OutputLocked { .. } => Advice::WaitOrOtherOutput,
            Self::OutputRemoved { .. } => {
                "start again in another folder, or put the folder back and resume the run".into()
            }
            Self::Interrupted { .. } => Advice::ResumeRun,
            Self::Diverged { suggested_learning_rate: Some(rate), .. } => {
                Advice::LowerLearningRate { suggested: format!("{rate:e}") }
            }
            Self::Diverged { .. } => Advice::WiderPrecision,
            Self::NoRows { .. } => Advice::CheckSequenceLength,
            Self::Image { .. } => "an image is a path, or data:image/png;base64,...".into(),
            Self::Model(error) => return error.advice(),
            Self::File(error) => return error.advice(),
            Self::Row { source: error, .. } | Self::Text(error) => return error.advice(),
            Self::Adapter(error) => return error.advice(),
            Self::Vision(error) => return error.advice(),
            Self::Config { .. } => return None,
        };
        Some(advice)
    }

    fn is_usage(&self) -> bool {
        match self {
            Self::Config { .. } => true,
            Self::Data(error) => error.is_usage(),
            Self::Model(error) => error.is_usage(),
            Self::File(error) => error.is_usage(),
            Self::Row { source: error, .. } | Self::Text(error) => error.is_usage(),
            Self::Adapter(error) => error.is_usage(),
            Self::Vision(error) => error.is_usage(),
            _ => false,
        }
    }
}
