//! What can go wrong while data is read, an adapter is trained, or a run is resumed.

use std::path::{Path, PathBuf};

use diagnostic::{Advice, Diagnostic};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that files, users or the arithmetic can cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of instructions could not be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A record that cannot be read.
    #[error("{path}, {location}: {reason}")]
    Record {
        /// The file.
        path: PathBuf,
        /// `line 3`, `record 3` in a JSON list, or `problem 3` of ScienceQA.
        location: String,
        /// What is wrong.
        reason: String,
        /// What such a record looks like: the advice.
        format_hint: &'static str,
    },
    /// Data without a single usable row.
    #[error("{name}: no rows to {purpose}: {reason}")]
    NoRows {
        /// File or kind of data.
        name: String,
        /// What the rows were wanted for.
        purpose: &'static str,
        /// Why there are none.
        reason: String,
    },
    /// A setting out of range.
    #[error("{field} is {found}, expected {expected}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// What would do.
        expected: &'static str,
    },
    /// A folder that holds something already.
    #[error("{path}: {contents} already")]
    OutputNotEmpty {
        /// The folder.
        path: PathBuf,
        /// Another run, or something else.
        contents: &'static str,
    },
    /// A file in the place of a run's folder.
    #[error("{path}: this is a file, and a run needs a folder")]
    OutputIsFile {
        /// The file.
        path: PathBuf,
    },
    /// A folder in which another run works at this moment.
    #[error("{path}: another run is at work in this folder")]
    OutputLocked {
        /// The folder.
        path: PathBuf,
    },
    /// No run to go on with.
    #[error("{path}: nothing to resume: {reason}")]
    NothingToResume {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A run that was started with other settings.
    #[error(
        "{path}: the run was started with other settings{}{}",
        .differences.iter().map(|d| format!("\n  {d}")).collect::<String>(),
        if *.length_differs { "\n  (the length decides the learning rate of every step, of those that are done too)" } else { "" }
    )]
    SettingsMismatch {
        /// The file that holds them.
        path: PathBuf,
        /// Each with its value then and now.
        differences: Vec<String>,
        /// Whether the run's length is among them.
        length_differs: bool,
        /// Whether the run has left an adapter already.
        has_adapter: bool,
    },
    /// A checkpoint that cannot be used.
    #[error("{path}: not a usable checkpoint: {reason}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The loss or a gradient is no number any more.
    #[error("the {what} became {value} in step {step}: training has diverged")]
    Diverged {
        /// Loss, gradient or adapter.
        what: &'static str,
        /// NaN or infinite.
        value: f64,
        /// The step in which it happened, counted from 1; 0: before the first.
        step: usize,
    },
    /// A picture on the network.
    #[error("{path}, {place}: the image {url} is not on this machine")]
    RemoteImage {
        /// The file that names it.
        path: PathBuf,
        /// The row.
        place: String,
        /// Where the picture is.
        url: String,
    },
    /// A row's image that is neither a path nor a picture in base64.
    #[error("{image}: not an image: {reason}")]
    Image {
        /// Its text, cut to a length fit to be read.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Data of no known format.
    #[error(
        "{path}: {reason}; what is read: JSON lists and JSON lines of instructions or of \
         conversations, .csv and .tsv tables of instructions or of captions, a ScienceQA folder"
    )]
    UnknownFormat {
        /// File or folder.
        path: PathBuf,
        /// What tells that it is none of them.
        reason: String,
        /// What to do with it, where that is known.
        hint: Option<&'static str>,
    },
    /// A file that is known, and holds no rows in a form that is read.
    #[error("{path}: this is {what}, not rows of data")]
    UnsupportedFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
        /// How rows are made of it: the hint.
        mend: &'static str,
    },
    /// A split that a data set does not have.
    #[error("{path}: no split `{requested}`, only {}", .available.join(", "))]
    UnknownSplit {
        /// The file that lists them.
        path: PathBuf,
        /// The one wanted.
        requested: String,
        /// Those there are.
        available: Vec<String>,
    },
    /// An image encoder or a picture.
    #[error(transparent)]
    Vision(#[from] vision::Error),
    /// The base model or its files.
    #[error(transparent)]
    Model(#[from] llama::Error),
    /// A file could not be read or written, or violates its format.
    #[error(transparent)]
    File(#[from] checkpoint::Error),
    /// The tokenizer or the chat template.
    #[error(transparent)]
    Text(#[from] text::Error),
    /// The adapter or its files.
    #[error(transparent)]
    Adapter(#[from] adaption_prompt::Error),
}

impl Diagnostic for Error {
    fn advice(&self) -> Option<Advice> {
        let advice = match self {
            Self::Read { source, .. } => return Advice::for_read_error(source),
            Self::Record { format_hint: form, .. } => (*form).into(),
            Self::UnsupportedFile { mend, .. } => (*mend).into(),
            Self::UnknownFormat { hint: mend, .. } => return mend.map(Advice::from),
            Self::RemoteImage { .. } => {
                "nothing is fetched: download the pictures first, and name their paths".into()
            }
            Self::OutputNotEmpty { .. } => Advice::OtherOutputOrResume,
            Self::NothingToResume { .. } | Self::Checkpoint { .. } => Advice::StartNewRun,
            Self::SettingsMismatch { path, has_adapter: learned, .. } => {
                let folder = path.parent().filter(|_| *learned);
                Advice::ResumeWithSameSettings { adapter_folder: folder.map(Path::to_owned) }
            }
            Self::OutputIsFile { .. } => Advice::OtherOutput,
            Self::OutputLocked { .. } => Advice::WaitOrOtherOutput,
            Self::Diverged { .. } => Advice::LowerLearningRate,
            Self::NoRows { .. } => Advice::CheckSequenceLength,
            Self::Image { .. } => "an image is a path, or data:image/png;base64,...".into(),
            Self::Model(error) => return error.advice(),
            Self::File(error) => return error.advice(),
            Self::Text(error) => return error.advice(),
            Self::Adapter(error) => return error.advice(),
            Self::Vision(error) => return error.advice(),
            Self::Config { .. } | Self::UnknownSplit { .. } => return None,
        };
        Some(advice)
    }

    fn is_usage(&self) -> bool {
        match self {
            Self::Config { .. } => true,
            Self::Model(error) => error.is_usage(),
            Self::File(error) => error.is_usage(),
            Self::Text(error) => error.is_usage(),
            Self::Adapter(error) => error.is_usage(),
            Self::Vision(error) => error.is_usage(),
            _ => false,
        }
    }
}
