//! Errors of this crate.

use std::io;
use std::path::{Path, PathBuf};

use diagnostic::{Advice, Diagnostic};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a report, a comparison or an event file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A folder without a log.
    #[error("{}: not the folder of a run: it has no {}", .path.display(), crate::METRICS_FILE)]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// A log without a single event.
    #[error("{}: no events: {found}", .path.display())]
    NoEvents {
        /// The log.
        path: PathBuf,
        /// What it holds instead.
        found: String,
    },
    /// A file with other content than expected.
    #[error("{}: {reason}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },
    /// A file that cannot be read.
    #[error("{}: cannot read: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file that cannot be written. An older file is unchanged.
    #[error("{}: cannot write: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read { path: path.into(), source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write { path: path.into(), source }
    }
}

impl Diagnostic for Error {
    fn advice(&self) -> Option<Advice> {
        match self {
            Self::NotARun { .. } => Some("pass the output folder of a training run".into()),
            Self::NoEvents { .. } => Some("wait until the run has completed a step".into()),
            Self::Read { source, .. } => Advice::for_read_error(source),
            Self::Write { source, .. } => Advice::for_write_error(source),
            Self::Format { .. } => None,
        }
    }
}
