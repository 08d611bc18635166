//! Errors of task files.

use std::path::{Path, PathBuf};

use diagnostic::{Advice, Diagnostic};

/// [`Result`](std::result::Result) with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error in a task file or in its documents.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// A task file that is not a YAML mapping of settings.
    #[error("{path}: not a task file: {reason}")]
    NotATask {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// A setting whose value has another type or is out of range.
    #[error("{path}: `{key}` is {found}, expected {expected}")]
    Setting {
        /// The task file.
        path: PathBuf,
        /// The setting.
        key: String,
        /// Its value.
        found: String,
        /// The valid values.
        expected: &'static str,
    },
    /// A setting that this program does not have.
    #[error("{path}: `{key}` is not supported: {reason}")]
    Unsupported {
        /// The task file.
        path: PathBuf,
        /// The setting.
        key: String,
        /// What it asks for.
        reason: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// A setting that lm-evaluation-harness does not have either.
    #[error("{path}: unknown setting `{key}`")]
    UnknownSetting {
        /// The task file.
        path: PathBuf,
        /// The setting.
        key: String,
    },
    /// A data file whose content is not a list of objects.
    #[error("{path}: not documents: {reason}")]
    NotDocuments {
        /// The data file.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// A split without documents, or without a file.
    #[error("{path}: no documents in the split `{split}`: {reason}")]
    NoDocuments {
        /// The task file.
        path: PathBuf,
        /// The split.
        split: String,
        /// Why there are none.
        reason: String,
    },
    /// A document that a template or the scoring does not accept.
    #[error("{path}: `{key}` of document {document}: {reason}")]
    Document {
        /// The task file.
        path: PathBuf,
        /// The setting that was applied.
        key: &'static str,
        /// The document, counted from 1 within its split.
        document: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A template that is not valid Jinja.
    #[error("{path}: `{key}`: {reason}")]
    Template {
        /// The task file.
        path: PathBuf,
        /// The setting.
        key: &'static str,
        /// The template engine's message.
        reason: String,
    },
}

impl Error {
    /// For `map_err` on an error of reading `path`.
    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}

impl Diagnostic for Error {
    fn advice(&self) -> Option<Advice> {
        match self {
            Self::Read { source, .. } => Advice::for_read_error(source),
            Self::Unsupported { hint, .. } => Some((*hint).into()),
            Self::NotATask { .. } => {
                Some("a task file is YAML as lm-evaluation-harness reads it".into())
            }
            Self::NotDocuments { .. } => {
                Some("documents are JSON objects, one per line or in a list".into())
            }
            Self::Setting { .. }
            | Self::UnknownSetting { .. }
            | Self::NoDocuments { .. }
            | Self::Document { .. }
            | Self::Template { .. } => None,
        }
    }
}
