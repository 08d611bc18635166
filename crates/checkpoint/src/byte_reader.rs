//! Sequential reading of little-endian numbers and strings through a buffered window of the file.

use std::ops::Range;

use crate::byte_source::ByteSource;
use crate::error::{Error, Result};

/// Size of the window.
const WINDOW: u64 = 256 << 10;
/// Maximum length of a header. Vocabularies take up to about 20 MB.
const MAX_HEADER_LEN: u64 = 256 << 20;

/// A position in a file.
pub(crate) struct ByteReader<'a> {
    bytes: &'a ByteSource,
    format: &'static str,
    window: Vec<u8>,
    /// Offset of the window in the file.
    start: u64,
    /// Offset in the window.
    at: usize,
    /// Offset of the first byte that was read.
    first: u64,
    /// End of the part that may be read.
    end: u64,
}

impl<'a> ByteReader<'a> {
    /// Reads a file from its start; `format` is its name in errors.
    pub(crate) fn new(bytes: &'a ByteSource, format: &'static str) -> Self {
        Self::range(bytes, format, 0..bytes.len())
    }

    /// Reads a part of a file.
    pub(crate) fn range(bytes: &'a ByteSource, format: &'static str, part: Range<u64>) -> Self {
        let (first, end) = (part.start, part.end.min(bytes.len()));
        Self { bytes, format, window: Vec::new(), start: first, at: 0, first, end }
    }

    /// The file, for messages.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.bytes.path()
    }

    /// Current offset in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.start + self.at as u64
    }

    /// Number of bytes left.
    pub(crate) fn left(&self) -> u64 {
        self.end.saturating_sub(self.offset())
    }

    /// The error about what was just read.
    pub(crate) fn fail(&self, reason: impl std::fmt::Display) -> Error {
        self.invalid(format!("before byte {}: {reason}", self.offset()))
    }

    fn invalid(&self, reason: String) -> Error {
        Error::Format { path: self.bytes.path().into(), format: self.format, reason }
    }

    /// The next `len` bytes; `what` describes them in errors. Allocates at most what the file has left.
    pub(crate) fn take(&mut self, len: usize, what: &str) -> Result<&[u8]> {
        if self.window.len() - self.at < len {
            let (offset, left, needed) = (self.offset(), self.left(), len as u64);
            if needed > left {
                return Err(self.invalid(format!(
                    "{what} at byte {offset} takes {len} bytes, the file has {left} left: it was \
                     cut short, or a length is wrong"
                )));
            }
            if (offset - self.first).saturating_add(needed) > MAX_HEADER_LEN {
                return Err(self.invalid(format!(
                    "{what} at byte {offset}: the header exceeds {MAX_HEADER_LEN} bytes"
                )));
            }
            self.window = self.bytes.read(offset, needed.max(WINDOW).min(left) as usize)?;
            self.start = offset;
            self.at = 0;
        }
        let taken = &self.window[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let taken = self.take(N, what)?;
        Ok(taken.try_into().expect("as many bytes were taken"))
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A line of at most `limit` bytes.
    pub(crate) fn line(&mut self, limit: usize, what: &str) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.array(what)? {
                [b'\n'] => break,
                [byte] if line.len() < limit => line.push(byte),
                _ => return Err(self.fail(format!("{what} exceeds {limit} bytes"))),
            }
        }
        String::from_utf8(line)
            .map_err(|error| self.fail(format!("{what} is not UTF-8: {}", error.utf8_error())))
    }

    /// A count of at most `limit`.
    pub(crate) fn count(&mut self, limit: u64, what: &str) -> Result<usize> {
        let count = self.u64(what)?;
        if count > limit {
            return Err(self.fail(format!("{what} is {count}, expected at most {limit}")));
        }
        Ok(count as usize)
    }

    /// A length-prefixed string of at most `limit` bytes.
    pub(crate) fn text(&mut self, limit: u64, what: &str) -> Result<String> {
        let len = self.count(limit, &format!("the length of {what}"))?;
        let bytes = self.take(len, what)?.to_vec();
        String::from_utf8(bytes)
            .map_err(|error| self.fail(format!("{what} is not UTF-8: {}", error.utf8_error())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_strings_are_read_in_order() {
        let bytes = ByteSource::memory("b", b"\x02\x01\0\0\x03\0\0\0\0\0\0\0abc!");
        let mut reader = ByteReader::new(&bytes, "test");
        assert_eq!(reader.u32("number").unwrap(), 258);
        assert_eq!(reader.text(3, "text").unwrap(), "abc");
        assert_eq!((reader.offset(), reader.left()), (15, 1));
    }

    #[test]
    fn reading_past_the_end_is_an_error() {
        let bytes = ByteSource::memory("b", b"\xff\xff\xff\xff\xff\xff\xff\x7f....");
        let error = ByteReader::new(&bytes, "test").text(u64::MAX, "name").unwrap_err().to_string();
        assert!(error.contains("name at byte 8 takes"), "{error}");
        assert!(error.contains("has 4 left"), "{error}");
    }

    #[test]
    fn invalid_utf_8_is_an_error() {
        let bytes = ByteSource::memory("b", b"\x02\0\0\0\0\0\0\0\xc3\x28");
        let error = ByteReader::new(&bytes, "test").text(9, "key 3").unwrap_err().to_string();
        assert!(error.contains("key 3 is not UTF-8"), "{error}");
    }

    #[test]
    fn reading_continues_after_the_window() {
        let mut content = vec![7_u8; WINDOW as usize - 2];
        content.extend(0x0102_0304_u32.to_le_bytes());
        let bytes = ByteSource::memory("b", content);
        let mut reader = ByteReader::new(&bytes, "test");
        reader.take(WINDOW as usize - 2, "filler").unwrap();
        assert_eq!(reader.u32("number").unwrap(), 0x0102_0304);
        assert_eq!(reader.left(), 0);
    }
}
