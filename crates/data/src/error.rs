//! Errors of reading data.

use std::path::PathBuf;

use diagnostic::{Advice, Diagnostic};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error caused by a source of data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system, or of the decompression.
        #[source]
        source: std::io::Error,
    },
    /// An invalid record. The records after it can be read.
    #[error("{path}, {location}: {reason}")]
    Record {
        /// The file.
        path: PathBuf,
        /// `line 3`, `record 3` in a JSON list, `row 3` of a Parquet file, or `problem 3` of ScienceQA.
        location: String,
        /// Why it is invalid.
        reason: String,
        /// The format of such a record, for the advice.
        format_hint: &'static str,
        /// The text of a record that cannot be parsed.
        text: Option<String>,
    },
    /// A file that is damaged from some place on.
    #[error("{path}, {location}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The place.
        location: String,
        /// What is wrong there.
        reason: String,
        /// The format of such a file, for the advice.
        format_hint: &'static str,
    },
    /// Data of an unknown format.
    #[error(
        "{path}: {reason}; supported formats: JSON lists and JSON lines of instructions or of \
         conversations, .csv and .tsv tables of instructions or of captions, Parquet files, a \
         ScienceQA folder, folders of these files"
    )]
    UnknownFormat {
        /// File or folder.
        path: PathBuf,
        /// Why the format is unknown.
        reason: String,
        /// What to do, if known.
        advice: Option<Advice>,
    },
    /// A file of a known format that is not a data format.
    #[error("{path}: this is {what}, not rows of data")]
    UnsupportedFile {
        /// The file.
        path: PathBuf,
        /// The format.
        what: String,
        /// How to convert it to rows.
        hint: &'static str,
    },
    /// A split that the data does not have.
    #[error("{path}: no split `{requested}`, only {}", .available.join(", "))]
    UnknownSplit {
        /// The folder or data set, or the file that lists the splits.
        path: PathBuf,
        /// The requested split.
        requested: String,
        /// The available splits.
        available: Vec<String>,
    },
    /// A column of the column mapping that the file does not have.
    #[error("{path}: no column `{column}`; the file has {available}")]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The columns of the file.
        available: String,
    },
    /// A setting that is not valid.
    #[error("{what} {found:?} is not valid: {expected}")]
    Setting {
        /// The kind of setting.
        what: &'static str,
        /// Its text.
        found: String,
        /// What is valid.
        expected: String,
    },
    /// A file that cannot be written.
    #[error("{path}: cannot write: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// A file that would be overwritten.
    #[error("{path}: this file exists, and it is no list of rejected records")]
    WouldOverwrite {
        /// The file.
        path: PathBuf,
    },
    /// A data set of the Hugging Face Hub that cannot be read.
    #[error("{repo}: cannot fetch {file} from the Hugging Face Hub: {reason}")]
    Hub {
        /// The data set.
        repo: String,
        /// The file, or what was requested.
        file: String,
        /// Why it failed.
        reason: String,
    },
}

impl Diagnostic for Error {
    fn advice(&self) -> Option<Advice> {
        match self {
            Self::Read { source, .. } => Advice::for_read_error(source),
            Self::Write { source, .. } => Advice::for_write_error(source),
            Self::Record { format_hint, .. } | Self::Damaged { format_hint, .. } => {
                Some((*format_hint).into())
            }
            Self::UnknownFormat { advice, .. } => advice.clone(),
            Self::UnsupportedFile { hint, .. } => Some((*hint).into()),
            Self::WouldOverwrite { .. } => Some("choose another file".into()),
            Self::Hub { .. } => Some(
                "check the name of the data set and the network; HF_TOKEN opens private data sets"
                    .into(),
            ),
            Self::UnknownSplit { .. } | Self::NoColumn { .. } | Self::Setting { .. } => None,
        }
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::Setting { .. } | Self::NoColumn { .. })
    }
}
