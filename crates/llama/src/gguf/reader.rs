//! Little-endian numbers and texts, one after the other, out of a buffered window of the file.

use crate::error::{Error, Result};
use crate::weights::Bytes;

/// Bytes fetched at a time.
const WINDOW: u64 = 256 << 10;
/// Longest header that is read. Vocabularies take up to some 20 MB.
const LONGEST_HEADER: u64 = 256 << 20;

/// Where in the header the reading is.
pub(super) struct Reader<'a> {
    bytes: &'a Bytes,
    window: Vec<u8>,
    /// Place of the window in the file.
    start: u64,
    /// Place in the window.
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, window: Vec::new(), start: 0, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> u64 {
        self.start + self.at as u64
    }

    /// Bytes of the file not read yet.
    pub(super) fn left(&self) -> u64 {
        self.bytes.len() - self.offset()
    }

    /// An error about what was just read.
    pub(super) fn fail(&self, reason: impl std::fmt::Display) -> Error {
        broken(self.bytes, format!("before byte {}: {reason}", self.offset()))
    }

    /// The next `len` bytes, which are `what`. Allocates no more than the file has.
    pub(super) fn take(&mut self, len: usize, what: &str) -> Result<&[u8]> {
        if self.window.len() - self.at < len {
            let (offset, left, needed) = (self.offset(), self.left(), len as u64);
            if needed > left {
                return Err(broken(
                    self.bytes,
                    format!(
                        "{what} at byte {offset} takes {len} bytes, the file has {left} left: it \
                         was cut short, or a length is wrong"
                    ),
                ));
            }
            if offset.saturating_add(needed) > LONGEST_HEADER {
                return Err(broken(
                    self.bytes,
                    format!("{what} at byte {offset}: the header exceeds {LONGEST_HEADER} bytes"),
                ));
            }
            self.window = self.bytes.read(offset, needed.max(WINDOW).min(left) as usize)?;
            self.start = offset;
            self.at = 0;
        }
        let taken = &self.window[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let taken = self.take(N, what)?;
        Ok(taken.try_into().expect("as many bytes were taken"))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A count or length, at most `limit`.
    pub(super) fn count(&mut self, limit: u64, what: &str) -> Result<usize> {
        let count = self.u64(what)?;
        if count > limit {
            return Err(self.fail(format!("{what} is {count}, expected at most {limit}")));
        }
        Ok(count as usize)
    }

    /// A text of at most `limit` bytes.
    pub(super) fn text(&mut self, limit: u64, what: &str) -> Result<String> {
        let len = self.count(limit, &format!("the length of {what}"))?;
        let bytes = self.take(len, what)?.to_vec();
        String::from_utf8(bytes)
            .map_err(|error| self.fail(format!("{what} is not UTF-8: {}", error.utf8_error())))
    }
}

/// The error of everything that is wrong with a file.
pub(super) fn broken(bytes: &Bytes, reason: impl Into<String>) -> Error {
    Error::Format { path: bytes.path().into(), format: "GGUF", reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_follow_each_other() {
        let bytes = Bytes::memory("b", b"\x02\x01\0\0\x03\0\0\0\0\0\0\0abc!");
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u32("number").unwrap(), 258);
        assert_eq!(reader.text(3, "text").unwrap(), "abc");
        assert_eq!((reader.offset(), reader.left()), (15, 1));
    }

    #[test]
    fn more_than_the_file_has_is_refused() {
        let bytes = Bytes::memory("b", b"\xff\xff\xff\xff\xff\xff\xff\x7f....");
        let error = Reader::new(&bytes).text(u64::MAX, "name").unwrap_err().to_string();
        assert!(error.contains("name at byte 8 takes"), "{error}");
        assert!(error.contains("has 4 left"), "{error}");
    }

    #[test]
    fn broken_text_is_named() {
        let bytes = Bytes::memory("b", b"\x02\0\0\0\0\0\0\0\xc3\x28");
        let error = Reader::new(&bytes).text(9, "key 3").unwrap_err().to_string();
        assert!(error.contains("key 3 is not UTF-8"), "{error}");
    }

    #[test]
    fn reading_goes_on_behind_the_window() {
        let mut content = vec![7_u8; WINDOW as usize - 2];
        content.extend(0x0102_0304_u32.to_le_bytes());
        let bytes = Bytes::memory("b", content.leak());
        let mut reader = Reader::new(&bytes);
        reader.take(WINDOW as usize - 2, "filler").unwrap();
        assert_eq!(reader.u32("number").unwrap(), 0x0102_0304);
        assert_eq!(reader.left(), 0);
    }
}
