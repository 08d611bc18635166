//! Reader of the header, and the error of an invalid file.

pub(super) use crate::byte_reader::ByteReader;
use crate::byte_source::ByteSource;
use crate::error::Error;

/// A reader from the start of a file.
pub(super) fn header(bytes: &ByteSource) -> ByteReader<'_> {
    ByteReader::new(bytes, "GGUF")
}

/// The error of an invalid file.
pub(super) fn invalid(bytes: &ByteSource, reason: impl Into<String>) -> Error {
    Error::Format { path: bytes.path().into(), format: "GGUF", reason: reason.into() }
}
