//! Little-endian numbers and texts, one after the other, out of a buffered window of the file.

use std::ops::Range;

use crate::byte_source::ByteSource;
use crate::error::{Error, Result};

/// Bytes fetched at a time.
const WINDOW: u64 = 256 << 10;
/// Longest header that is read. Vocabularies take up to some 20 MB.
const LONGEST_HEADER: u64 = 256 << 20;

/// Where in the header the reading is.
pub(crate) struct ByteReader<'a> {
    bytes: &'a ByteSource,
    format: &'static str,
    window: Vec<u8>,
    /// Place of the window in the file.
    start: u64,
    /// Place in the window.
    at: usize,
    /// Where the reading began.
    first: u64,
    /// Where the part of the file ends that may be read.
    end: u64,
}

impl<'a> ByteReader<'a> {
    /// Reads a file from its start; errors say that it is not a valid `format` file.
    pub(crate) fn new(bytes: &'a ByteSource, format: &'static str) -> Self {
        Self::between(bytes, format, 0..bytes.len())
    }

    /// Reads a part of a file.
    pub(crate) fn between(bytes: &'a ByteSource, format: &'static str, part: Range<u64>) -> Self {
        let (first, end) = (part.start, part.end.min(bytes.len()));
        Self { bytes, format, window: Vec::new(), start: first, at: 0, first, end }
    }

    /// The file, for messages.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.bytes.path()
    }

    /// Bytes read so far.
    pub(crate) fn offset(&self) -> u64 {
        self.start + self.at as u64
    }

    /// Bytes of the file not read yet.
    pub(crate) fn left(&self) -> u64 {
        self.end.saturating_sub(self.offset())
    }

    /// An error about what was just read.
    pub(crate) fn fail(&self, reason: impl std::fmt::Display) -> Error {
        self.broken(format!("before byte {}: {reason}", self.offset()))
    }

    fn broken(&self, reason: String) -> Error {
        Error::Format { path: self.bytes.path().into(), format: self.format, reason }
    }

    /// The next `len` bytes, which are `what`. Allocates no more than the file has.
    pub(crate) fn take(&mut self, len: usize, what: &str) -> Result<&[u8]> {
        if self.window.len() - self.at < len {
            let (offset, left, needed) = (self.offset(), self.left(), len as u64);
            if needed > left {
                return Err(self.broken(format!(
                    "{what} at byte {offset} takes {len} bytes, the file has {left} left: it was \
                     cut short, or a length is wrong"
                )));
            }
            if (offset - self.first).saturating_add(needed) > LONGEST_HEADER {
                return Err(self.broken(format!(
                    "{what} at byte {offset}: the header exceeds {LONGEST_HEADER} bytes"
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

    /// A text up to the end of its line, of at most `limit` bytes.
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

    /// A count or length, at most `limit`.
    pub(crate) fn count(&mut self, limit: u64, what: &str) -> Result<usize> {
        let count = self.u64(what)?;
        if count > limit {
            return Err(self.fail(format!("{what} is {count}, expected at most {limit}")));
        }
        Ok(count as usize)
    }

    /// A text of at most `limit` bytes.
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
    fn numbers_and_texts_follow_each_other() {
        let bytes = ByteSource::memory("b", b"\x02\x01\0\0\x03\0\0\0\0\0\0\0abc!");
        let mut reader = ByteReader::new(&bytes, "test");
        assert_eq!(reader.u32("number").unwrap(), 258);
        assert_eq!(reader.text(3, "text").unwrap(), "abc");
        assert_eq!((reader.offset(), reader.left()), (15, 1));
    }

    #[test]
    fn more_than_the_file_has_is_refused() {
        let bytes = ByteSource::memory("b", b"\xff\xff\xff\xff\xff\xff\xff\x7f....");
        let error = ByteReader::new(&bytes, "test").text(u64::MAX, "name").unwrap_err().to_string();
        assert!(error.contains("name at byte 8 takes"), "{error}");
        assert!(error.contains("has 4 left"), "{error}");
    }

    #[test]
    fn broken_text_is_named() {
        let bytes = ByteSource::memory("b", b"\x02\0\0\0\0\0\0\0\xc3\x28");
        let error = ByteReader::new(&bytes, "test").text(9, "key 3").unwrap_err().to_string();
        assert!(error.contains("key 3 is not UTF-8"), "{error}");
    }

    #[test]
    fn reading_goes_on_behind_the_window() {
        let mut content = vec![7_u8; WINDOW as usize - 2];
        content.extend(0x0102_0304_u32.to_le_bytes());
        let bytes = ByteSource::memory("b", content);
        let mut reader = ByteReader::new(&bytes, "test");
        reader.take(WINDOW as usize - 2, "filler").unwrap();
        assert_eq!(reader.u32("number").unwrap(), 0x0102_0304);
        assert_eq!(reader.left(), 0);
    }
}
