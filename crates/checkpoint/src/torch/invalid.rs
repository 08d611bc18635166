//! The error of an invalid file.

use crate::byte_source::ByteSource;
use crate::error::Error;

/// Name of the format in messages.
pub(super) const FORMAT: &str = "PyTorch";

/// The error of an invalid file.
pub(super) fn invalid(bytes: &ByteSource, reason: impl Into<String>) -> Error {
    Error::format(bytes.path(), FORMAT, reason)
}
