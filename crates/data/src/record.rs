//! A record, and where it was.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::value_scanner::count_lines;

/// A record of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Where it is in the file.
    pub location: Location,
    /// Its value, an object unless the file is odd.
    pub value: Value,
}

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// A line of a text.
    Line(usize),
    /// An element of a list.
    Record(usize),
    /// A row of a Parquet file.
    Row(usize),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Record(number) => write!(f, "record {number}"),
            Self::Row(number) => write!(f, "row {number}"),
        }
    }
}

/// The records of a file in order. After [`Error::Record`] they go on; any other error is the last item.
pub type Records = Box<dyn Iterator<Item = Result<Record>>>;

/// The records that `next` reads, to the first `None` or the first error that is not about a record.
pub(crate) fn records(mut next: impl FnMut() -> Result<Option<Record>> + 'static) -> Records {
    let mut is_done = false;
    Box::new(std::iter::from_fn(move || {
        if is_done {
            return None;
        }
        let record = next().transpose();
        is_done = !matches!(record, Some(Ok(_) | Err(Error::Record { .. })));
        record
    }))
}

/// Memory that one record may take as text: a file without line ends is not read whole.
pub(crate) const MAX_RECORD_BYTES: usize = 256 << 20;

/// The error of a record longer than [`MAX_RECORD_BYTES`].
pub(crate) fn too_long(path: &Path, location: Location, format_hint: &'static str) -> Error {
    Error::Damaged {
        path: path.into(),
        location: location.to_string(),
        reason: format!("a record of more than {} MiB", MAX_RECORD_BYTES >> 20),
        format_hint,
    }
}

/// The text of some bytes; the first of them are in line `line`.
pub(crate) fn utf8<'a>(path: &Path, line: usize, bytes: &'a [u8]) -> Result<&'a str> {
    str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let lines_before = count_lines(&bytes[..at]);
        Error::Record {
            path: path.into(),
            location: Location::Line(line + lines_before).to_string(),
            reason: format!("not UTF-8: there is a byte 0x{:02x}", bytes[at]),
            format_hint: "save the file as UTF-8; it may be in an older encoding, such as Latin-1",
            text: Some(String::from_utf8_lossy(bytes).into_owned()),
        }
    })
}
