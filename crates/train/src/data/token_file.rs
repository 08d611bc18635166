//! Examples in a file: a run of many rows tokenizes them once, and the next run reads them.
//!
//! ```text
//! example, example, ...   labels, image, tokens and a checksum each
//! index                   the end, the number of tokens and the row of each example
//! counts                  how many rows were truncated or dropped, as JSON
//! footer                  sizes and a checksum of index and counts
//! ```
//!
//! A file is renamed into place when it is complete. Its name contains the hash of everything that its content
//! depends on, so it is never out of date.

use std::fs::File;
use std::hash::Hasher;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use fnv::FnvHasher;

use super::example::{Example, TruncationCounts};
use super::spool::{Spool, SpoolWriter};
use crate::error::{Error, Result};

/// The end of each file: its format and version.
const MAGIC: [u8; 8] = *b"LLTOKEN1";
/// Sizes of index and counts, checksum, magic.
const FOOTER: usize = 32;
/// Bytes of an example in the index.
const INDEX_ENTRY: usize = 16;

/// Writes examples to a file.
#[derive(Debug)]
pub(crate) struct TokenFileWriter {
    spool: SpoolWriter,
    index: Index,
}

/// Examples in a file.
#[derive(Debug)]
pub(crate) struct TokenFile {
    spool: Spool,
    index: Index,
}

/// Facts about each example that are in memory.
#[derive(Debug, Default)]
struct Index {
    n_tokens: Vec<u32>,
    /// The row that each example is made of.
    rows: Vec<u32>,
}

impl TokenFileWriter {
    /// A temporary file in a folder, or in the system's folder for temporary files.
    pub fn new(folder: Option<&Path>) -> Result<Self> {
        Ok(Self { spool: SpoolWriter::new(folder)?, index: Index::default() })
    }

    /// Appends the example of a row.
    pub fn push(&mut self, example: &Example, row: usize) -> Result<()> {
        self.index.n_tokens.push(example.tokens.len() as u32);
        self.index.rows.push(row as u32);
        self.spool.push(&to_bytes(example))
    }

    /// Ends writing. The file is removed with the result.
    pub fn finish(self) -> Result<TokenFile> {
        Ok(TokenFile { spool: self.spool.finish()?, index: self.index })
    }

    /// Ends writing and keeps the file, with the counts of its rows.
    pub fn keep(self, counts: &TruncationCounts, path: &Path) -> Result<TokenFile> {
        let Self { spool, index } = self;
        let trailer = |ends: &[u64]| {
            let mut bytes = Vec::with_capacity(ends.len() * INDEX_ENTRY + 2 * FOOTER);
            for ((end, n_tokens), row) in ends.iter().zip(&index.n_tokens).zip(&index.rows) {
                bytes.extend(end.to_le_bytes());
                bytes.extend(n_tokens.to_le_bytes());
                bytes.extend(row.to_le_bytes());
            }
            let index_len = bytes.len() as u64;
            bytes.extend(serde_json::to_vec(counts).expect("plain JSON"));
            let counts_len = bytes.len() as u64 - index_len;
            let checksum = checksum(&bytes);
            for number in [index_len, counts_len, checksum] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(MAGIC);
            bytes
        };
        let spool = spool.keep(trailer, path)?;
        Ok(TokenFile { spool, index })
    }
}

impl TokenFile {
    /// Opens a file that was kept; `None` if it does not exist or is not valid, so that it is made again.
    pub fn open(path: &Path) -> Option<(Self, TruncationCounts)> {
        let mut file = File::open(path).ok()?;
        let file_len = file.metadata().ok()?.len();
        let mut footer = [0; FOOTER];
        file.seek(SeekFrom::Start(file_len.checked_sub(FOOTER as u64)?)).ok()?;
        file.read_exact(&mut footer).ok()?;
        let number =
            |at: usize| u64::from_le_bytes(footer[at..at + 8].try_into().expect("eight bytes"));
        if footer[24..] != MAGIC {
            return None;
        }
        let (index_len, counts_len) = (number(0), number(8));
        let trailer_len = index_len.checked_add(counts_len)?;
        // The trailer is no longer than the file.
        let start = file_len.checked_sub(FOOTER as u64)?.checked_sub(trailer_len)?;
        let mut trailer = vec![0; usize::try_from(trailer_len).ok()?];
        file.seek(SeekFrom::Start(start)).ok()?;
        file.read_exact(&mut trailer).ok()?;
        if checksum(&trailer) != number(16) {
            return None;
        }
        let (entries, counts) = trailer.split_at(usize::try_from(index_len).ok()?);
        let counts = serde_json::from_slice(counts).ok()?;
        let (mut ends, mut index) = (Vec::new(), Index::default());
        for entry in entries.chunks_exact(INDEX_ENTRY) {
            let (end, rest) = entry.split_at(8);
            let (n_tokens, row) = rest.split_at(4);
            ends.push(u64::from_le_bytes(end.try_into().ok()?));
            index.n_tokens.push(u32::from_le_bytes(n_tokens.try_into().ok()?));
            index.rows.push(u32::from_le_bytes(row.try_into().ok()?));
        }
        if !ends.is_sorted() || ends.last().copied().unwrap_or(0) != start {
            return None;
        }
        Some((Self { spool: Spool::open(path, file, ends), index }, counts))
    }

    pub fn len(&self) -> usize {
        self.spool.len()
    }

    pub fn n_tokens(&self, index: usize) -> usize {
        self.index.n_tokens[index] as usize
    }

    /// The row that an example is made of.
    pub fn row(&self, index: usize) -> usize {
        self.index.rows[index] as usize
    }

    /// An example.
    ///
    /// # Errors
    /// [`Error::Read`] if the file cannot be read or is damaged.
    pub fn get(&self, index: usize) -> Result<Example> {
        let bytes = self.spool.read(index)?;
        from_bytes(&bytes, self.n_tokens(index)).ok_or_else(|| Error::Read {
            path: self.spool.path().to_owned(),
            source: std::io::Error::other("the tokens in it are damaged: delete this file"),
        })
    }
}

/// `labels (count, then start and end each), length of the image's name, name, tokens, checksum`
fn to_bytes(example: &Example) -> Vec<u8> {
    let image = example.image.as_deref().unwrap_or("");
    let mut bytes = Vec::with_capacity(24 + image.len() + 4 * example.tokens.len());
    let mut number = |number: usize| bytes.extend((number as u32).to_le_bytes());
    number(example.label_spans.len());
    for span in &example.label_spans {
        number(span.start);
        number(span.end);
    }
    number(image.len());
    bytes.extend(image.as_bytes());
    for token in &example.tokens {
        bytes.extend(token.to_le_bytes());
    }
    let checksum = checksum(&bytes);
    bytes.extend(checksum.to_le_bytes());
    bytes
}

fn from_bytes(bytes: &[u8], n_tokens: usize) -> Option<Example> {
    let (content, stored) = bytes.split_last_chunk::<8>()?;
    if checksum(content) != u64::from_le_bytes(*stored) {
        return None;
    }
    let mut rest = content;
    let number = |rest: &mut &[u8]| {
        let (number, tail) = rest.split_first_chunk::<4>()?;
        *rest = tail;
        Some(u32::from_le_bytes(*number) as usize)
    };
    let mut label_spans = Vec::new();
    for _ in 0..number(&mut rest)? {
        label_spans.push(number(&mut rest)?..number(&mut rest)?);
    }
    let image_len = number(&mut rest)?;
    let image = str::from_utf8(rest.get(..image_len)?).ok()?;
    let tokens = rest.get(image_len..)?.chunks_exact(4);
    let tokens = tokens.map(|token| u32::from_le_bytes(token.try_into().expect("four bytes")));
    let tokens = tokens.collect::<Vec<_>>();
    let image = (image_len > 0).then(|| Arc::from(image));
    (tokens.len() == n_tokens).then_some(Example { tokens, label_spans, image })
}

/// Detects damage; not cryptographic.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<Example> {
        let tokens = |n: u32| (0..n).map(|i| i * 100_000).collect::<Vec<_>>();
        vec![
            Example { tokens: tokens(5), label_spans: vec![1..2, 3..5], image: None },
            Example { tokens: tokens(3), label_spans: vec![1..3], image: Some("ä.png".into()) },
        ]
    }

    fn write(path: &Path) -> TruncationCounts {
        let counts = TruncationCounts { complete: 2, truncated: 0, dropped: 7 };
        let mut writer = TokenFileWriter::new(path.parent()).unwrap();
        for (index, example) in examples().iter().enumerate() {
            writer.push(example, index * 4).unwrap();
        }
        writer.keep(&counts, path).unwrap();
        counts
    }

    #[test]
    fn examples_are_read_back_with_their_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let counts = write(&path);
        let (file, found) = TokenFile::open(&path).unwrap();
        assert_eq!(found, counts);
        for (index, example) in examples().iter().enumerate().rev() {
            assert_eq!(file.get(index).unwrap(), *example);
            assert_eq!(file.n_tokens(index), example.tokens.len());
            assert_eq!(file.row(index), index * 4);
        }
    }

    #[test]
    fn a_damaged_file_is_never_read_as_other_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        write(&path);
        let intact = std::fs::read(&path).unwrap();
        for at in 0..intact.len() {
            let mut bytes = intact.clone();
            bytes[at] ^= 0x55;
            std::fs::write(&path, &bytes).unwrap();
            let is_detected = TokenFile::open(&path)
                .is_none_or(|(file, _)| (0..2).any(|index| file.get(index).is_err()));
            assert!(is_detected, "byte {at}");
            std::fs::write(&path, &intact[..at]).unwrap();
            assert!(TokenFile::open(&path).is_none(), "{at} bytes");
        }
    }
}
