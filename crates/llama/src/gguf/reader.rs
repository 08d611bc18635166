//! The header's reader, and the error of everything that is wrong with a file.

use crate::error::Error;
use crate::weights::Bytes;
pub(super) use crate::weights::reader::Reader;

/// Reads a file from its start.
pub(super) fn header(bytes: &Bytes) -> Reader<'_> {
    Reader::new(bytes, "GGUF")
}

/// The error of everything that is wrong with a file.
pub(super) fn broken(bytes: &Bytes, reason: impl Into<String>) -> Error {
    Error::Format { path: bytes.path().into(), format: "GGUF", reason: reason.into() }
}
