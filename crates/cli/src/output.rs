//! Writes results to stdout and notes to stderr.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use diagnostic::{Advice, Diagnostic};
use serde::{Serialize, Serializer};

/// An error while writing to stdout.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader closed the pipe, as `| head` does. Not reported to the user.
    #[error("standard output is closed")]
    Closed,
    /// Any other write error, such as a full disk.
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
    /// The result has no JSON form.
    #[error("cannot write the result as JSON")]
    Json(#[source] serde_json::Error),
}

impl Diagnostic for OutputError {
    fn advice(&self) -> Option<Advice> {
        match self {
            Self::Write(source) => Advice::for_write_error(source),
            Self::Closed | Self::Json(_) => None,
        }
    }
}

/// Writes text to stdout and flushes it.
pub fn print(text: &str) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => OutputError::Closed,
        _ => OutputError::Write(error),
    })
}

/// Writes a line of JSON to stdout.
pub fn json(value: &impl Serialize) -> Result<(), OutputError> {
    let text = serde_json::to_string(value).map_err(OutputError::Json)?;
    print(&(text + "\n"))
}

/// Serializes a path as text; bytes that are not UTF-8 become `�`.
pub fn serialize_path_lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Writes a line to stderr. A closed stderr is ignored.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
