//! A file, compressed or not ─► a stream of its bytes that can be opened again.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Bytes that are looked at to detect a format.
const HEAD_BYTES: usize = 64 << 10;

/// A file that is opened as often as necessary.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    /// The file, for messages.
    pub path: PathBuf,
    content: Content,
    pub compression: Compression,
    /// The first bytes after decompression, without a byte order mark.
    pub head: Arc<[u8]>,
    /// Whether there are more bytes than those of the head.
    pub is_longer: bool,
}

#[derive(Debug, Clone)]
enum Content {
    File(PathBuf),
    /// The content of a pipe, which cannot be read twice.
    Spooled(Arc<NamedTempFile>),
    Memory(Arc<[u8]>),
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// `, compressed with gzip`, or nothing.
    pub fn description(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ", compressed with gzip",
            Self::Zstd => ", compressed with zstd",
        }
    }
}

impl Input {
    /// Opens a file. What is no regular file, such as a pipe, is copied to a temporary file.
    ///
    /// # Errors
    /// [`Error::Read`]
    pub fn open(path: &Path) -> Result<Self> {
        let read_error = |source| Error::Read { path: path.into(), source };
        let metadata = std::fs::metadata(path).map_err(read_error)?;
        let content = if metadata.is_file() || metadata.is_dir() {
            Content::File(path.into())
        } else {
            let spool = || {
                let mut file = NamedTempFile::new()?;
                std::io::copy(&mut File::open(path)?, &mut file)?;
                Ok(file)
            };
            Content::Spooled(Arc::new(spool().map_err(read_error)?))
        };
        Self::new(path, content)
    }

    /// The content of a file that is in memory; `path` is for messages.
    pub fn memory(path: &Path, bytes: impl Into<Arc<[u8]>>) -> Result<Self> {
        Self::new(path, Content::Memory(bytes.into()))
    }

    fn new(path: &Path, content: Content) -> Result<Self> {
        let mut input = Self {
            path: path.into(),
            content,
            compression: Compression::None,
            head: Arc::default(),
            is_longer: false,
        };
        let start = input.read_head()?;
        input.compression = Compression::of(&start);
        let mut head =
            if input.compression == Compression::None { start } else { input.read_head()? };
        input.is_longer = head.len() > HEAD_BYTES;
        head.truncate(HEAD_BYTES);
        input.head = strip_byte_order_marks(&head).into();
        Ok(input)
    }

    /// At most one byte more than the head has.
    fn read_head(&self) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        let limit = HEAD_BYTES as u64 + 1;
        let read = self.bytes()?.take(limit).read_to_end(&mut head);
        read.map_err(|source| self.read_error(source))?;
        Ok(head)
    }

    /// The decompressed bytes from the start.
    ///
    /// # Errors
    /// [`Error::Read`]
    pub fn bytes(&self) -> Result<Box<dyn BufRead>> {
        let raw: Box<dyn BufRead> = match &self.content {
            Content::File(path) => Box::new(BufReader::new(self.open_file(path)?)),
            Content::Spooled(file) => Box::new(BufReader::new(self.open_file(file.path())?)),
            Content::Memory(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
        };
        Ok(match self.compression {
            Compression::None => raw,
            Compression::Gzip => Box::new(BufReader::new(MultiGzDecoder::new(raw))),
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(raw);
                Box::new(BufReader::new(decoder.map_err(|source| self.read_error(source))?))
            }
        })
    }

    /// The decompressed bytes of a text, without a byte order mark.
    ///
    /// # Errors
    /// [`Error::Read`]
    pub fn text(&self) -> Result<Box<dyn BufRead>> {
        let mut bytes = self.bytes()?;
        loop {
            let start = bytes.fill_buf().map_err(|source| self.read_error(source))?;
            if !start.starts_with(BYTE_ORDER_MARK) {
                return Ok(bytes);
            }
            bytes.consume(BYTE_ORDER_MARK.len());
        }
    }

    /// The decompressed content as a file that can be read from any position.
    ///
    /// # Errors
    /// [`Error::Read`]
    pub fn seekable(&self) -> Result<File> {
        match (&self.content, self.compression) {
            (Content::File(path), Compression::None) => self.open_file(path),
            (Content::Spooled(file), Compression::None) => self.open_file(file.path()),
            _ => {
                let mut bytes = self.bytes()?;
                let mut copy = || {
                    let mut file = tempfile::tempfile()?;
                    std::io::copy(&mut bytes, &mut file)?;
                    Ok(file)
                };
                copy().map_err(|source| self.read_error(source))
            }
        }
    }

    /// The error of a failed read.
    pub fn read_error(&self, source: std::io::Error) -> Error {
        Error::Read { path: self.path.clone(), source }
    }

    fn open_file(&self, path: &Path) -> Result<File> {
        File::open(path).map_err(|source| self.read_error(source))
    }
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

fn strip_byte_order_marks(mut text: &[u8]) -> &[u8] {
    while let Some(rest) = text.strip_prefix(BYTE_ORDER_MARK) {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(bytes: Vec<u8>) -> (String, Compression) {
        let input = Input::memory(Path::new("a"), bytes).unwrap();
        let mut text = String::new();
        input.text().unwrap().read_to_string(&mut text).unwrap();
        assert!(text.as_bytes().starts_with(&input.head));
        let mut again = String::new();
        input.text().unwrap().read_to_string(&mut again).unwrap();
        assert_eq!(again, text);
        (text, input.compression)
    }

    #[test]
    fn compression_is_detected_by_content() {
        let text = "\u{feff}ä\n".repeat(3);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        // Two members one after another, as `cat a.gz b.gz` makes them.
        let double = [&gzip[..], &gzip].concat();
        let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
        let expected = &text["\u{feff}".len()..];
        assert_eq!(read(text.clone().into()), (expected.into(), Compression::None));
        assert_eq!(read(gzip), (expected.into(), Compression::Gzip));
        assert_eq!(read(double), (expected.to_owned() + &text, Compression::Gzip));
        assert_eq!(read(zstd), (expected.into(), Compression::Zstd));
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"text").unwrap();
        let mut gzip = gzip.finish().unwrap();
        gzip.truncate(gzip.len() - 6);
        let error = Input::memory(Path::new("a.gz"), gzip).unwrap_err();
        assert!(error.to_string().starts_with("a.gz: cannot read"), "{error}");
    }
}
