//! The header's reader, and the error of everything that is wrong with a file.

pub(super) use crate::byte_reader::ByteReader;
use crate::byte_source::ByteSource;
use crate::error::Error;

/// Reads a file from its start.
pub(super) fn header(bytes: &ByteSource) -> ByteReader<'_> {
    ByteReader::new(bytes, "GGUF")
}

/// The error of everything that is wrong with a file.
pub(super) fn broken(bytes: &ByteSource, reason: impl Into<String>) -> Error {
    Error::Format { path: bytes.path().into(), format: "GGUF", reason: reason.into() }
}
