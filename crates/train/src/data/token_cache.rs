//! Rows ─► examples: in memory if the rows are, otherwise in a file of tokens that the next run finds.
//!
//! The files are in a cache folder and not in the folder of the run: runs with other settings of the training
//! share them, and a run's folder stays small enough to copy.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use ::data::{ContentHash, Mixture};

use super::example::{Example, TruncationCounts};
use super::example_store::ExampleStore;
use super::instruction::Instruction;
use super::row_store::RowStore;
use super::token_file::{TokenFile, TokenFileWriter};
use crate::error::{Error, Result};

/// Bytes of a cache folder; the files that were not used for the longest time are removed.
const MAX_CACHE_BYTES: u64 = 16 << 30;

/// Turns rows into examples of at most `max_len` tokens.
pub(crate) struct ExampleEncoder<'a> {
    /// Tokenizes a row.
    pub encode: &'a dyn Fn(&Instruction) -> Result<Example>,
    /// Everything that the tokens of a row depend on: the tokenizer, the prompt template and the label mask.
    pub key: &'a dyn Fn() -> Result<String>,
    /// A longer row loses its end; a row that has no label within this length is dropped.
    pub max_len: usize,
    /// The folder of token files; `None`: they are temporary.
    pub cache: Option<&'a Path>,
}

/// Tokenized rows.
#[derive(Debug)]
pub(crate) struct EncodedRows {
    pub examples: ExampleStore,
    pub counts: TruncationCounts,
    /// The shares of the sources, if the rows are a mixture.
    pub mixture: Option<Mixture>,
}

impl ExampleEncoder<'_> {
    /// Tokenizes rows: in memory if the rows are in memory, otherwise into a token file.
    ///
    /// # Errors
    /// Those of `encode` and `key`; [`Error::NoRows`] if all rows are dropped; [`Error::Read`] and
    /// [`Error::File`] for files of rows and tokens.
    pub fn encode_all(&self, rows: &RowStore) -> Result<EncodedRows> {
        let encoded = if rows.is_in_memory() { self.in_memory(rows)? } else { self.in_file(rows)? };
        if encoded.examples.is_empty() && !rows.is_empty() {
            return Err(Error::NoRows {
                name: "data".into(),
                purpose: "use",
                reason: format!("no prompt leaves room for an answer in {} tokens", self.max_len),
            });
        }
        Ok(encoded)
    }

    fn in_memory(&self, rows: &RowStore) -> Result<EncodedRows> {
        let (mut examples, mut indices) = (Vec::new(), Vec::new());
        let mut counts = TruncationCounts::default();
        for (index, row) in rows.iter().enumerate() {
            if let Some(example) = counts.count((self.encode)(&*row?)?, self.max_len) {
                examples.push(example);
                indices.push(index);
            }
        }
        let mixture = mixture(rows, indices.into_iter());
        Ok(EncodedRows { examples: examples.into(), counts, mixture })
    }

    fn in_file(&self, rows: &RowStore) -> Result<EncodedRows> {
        let (file, counts) = if let Some(folder) = self.cache {
            self.cached_file(rows, folder)?
        } else {
            let (writer, counts) = self.write(rows)?;
            (writer.finish()?, counts)
        };
        let mixture = mixture(rows, (0..file.len()).map(|index| file.row(index)));
        Ok(EncodedRows { examples: file.into(), counts, mixture })
    }

    /// The token file of the rows in a cache folder; writes it if there is none.
    fn cached_file(&self, rows: &RowStore, folder: &Path) -> Result<(TokenFile, TruncationCounts)> {
        let path = folder.join(format!("{}.tokens", self.file_key(rows)?));
        let found = if let Some(found) = TokenFile::open(&path) {
            found
        } else {
            let (writer, counts) = self.write(rows)?;
            (writer.keep(&counts, &path)?, counts)
        };
        mark_used(&path);
        remove_oldest(&path, MAX_CACHE_BYTES);
        Ok(found)
    }

    fn write(&self, rows: &RowStore) -> Result<(TokenFileWriter, TruncationCounts)> {
        let mut writer = TokenFileWriter::new(self.cache)?;
        let mut counts = TruncationCounts::default();
        for (index, row) in rows.iter().enumerate() {
            if let Some(example) = counts.count((self.encode)(&*row?)?, self.max_len) {
                writer.push(&example, index)?;
            }
        }
        Ok((writer, counts))
    }

    /// The hash of everything that the tokens depend on.
    fn file_key(&self, rows: &RowStore) -> Result<String> {
        let mut hash = ContentHash::default();
        hash.update((self.key)()?.as_bytes());
        hash.update(&self.max_len.to_le_bytes());
        rows.hash(&mut hash)?;
        Ok(hash.finish())
    }
}

/// The mixture of the rows that examples are made of, if the rows are a mixture.
fn mixture(rows: &RowStore, example_rows: impl Iterator<Item = usize>) -> Option<Mixture> {
    (!rows.weights().is_empty()).then(|| {
        let sources = example_rows.map(|row| rows.source(row)).collect::<Vec<_>>();
        Mixture::new(&sources, rows.weights())
    })
}

/// Sets the time of a file, so that it is not among the oldest.
fn mark_used(path: &Path) {
    // A cache on a read-only disk works too.
    if let Ok(file) = File::options().append(true).open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// Removes the oldest token files beside `path` until they take at most `max_bytes`; `path` itself stays.
fn remove_oldest(path: &Path, max_bytes: u64) {
    let Some(Ok(entries)) = path.parent().map(std::fs::read_dir) else { return };
    let files = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let metadata = path.metadata().ok()?;
        let is_token_file = path.extension().is_some_and(|extension| extension == "tokens");
        (is_token_file && metadata.is_file())
            .then(|| Some((metadata.modified().ok()?, metadata.len(), path)))?
    });
    let mut files = files.collect::<Vec<_>>();
    files.sort_unstable();
    let mut bytes = files.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
    for (_, size, file) in files {
        if bytes <= max_bytes || file == path {
            continue;
        }
        // Another run may use the file: where open files cannot be removed, it stays.
        if std::fs::remove_file(&file).is_ok() {
            bytes -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::row_store::RowStoreBuilder;
    use super::*;

    fn rows(limit: usize) -> RowStore {
        let mut builder = RowStoreBuilder::new(limit, None);
        for n in 0..9_u32 {
            builder.set_source(u16::from(n >= 6));
            builder.push(Instruction::new(n.to_string(), "", "x")).unwrap();
        }
        builder.build().unwrap()
    }

    /// As many tokens as the number in the row; those after the third are labels.
    fn encode(row: &Instruction) -> Example {
        let n = row.instruction.parse().unwrap();
        Example::with_labels_from((0..n).collect(), 3)
    }

    fn encode_all(
        rows: &RowStore,
        key: &str,
        max_len: usize,
        cache: Option<&Path>,
    ) -> (EncodedRows, usize) {
        let calls = Cell::new(0);
        let encode = |row: &Instruction| {
            calls.set(calls.get() + 1);
            Ok(encode(row))
        };
        let key = || Ok(key.to_owned());
        let encoder = ExampleEncoder { encode: &encode, key: &key, max_len, cache };
        (encoder.encode_all(rows).unwrap(), calls.get())
    }

    fn examples(encoded: &EncodedRows) -> Vec<Example> {
        encoded.examples.iter().map(|example| example.unwrap().into_owned()).collect()
    }

    #[test]
    fn examples_in_a_file_are_the_same_as_in_memory() {
        let (expected, _) = encode_all(&rows(usize::MAX), "", 7, None);
        assert_eq!(expected.counts, TruncationCounts { complete: 4, truncated: 1, dropped: 4 });
        let folder = tempfile::tempdir().unwrap();
        for cache in [None, Some(folder.path())] {
            let (found, _) = encode_all(&rows(0), "", 7, cache);
            assert_eq!(examples(&found), examples(&expected));
            assert_eq!(found.counts, expected.counts);
            let lengths = (0..5).map(|index| found.examples.n_tokens(index));
            assert_eq!(lengths.collect::<Vec<_>>(), [4, 5, 6, 7, 7]);
        }
    }

    #[test]
    fn a_second_run_reads_the_tokens_unless_something_differs() {
        let folder = tempfile::tempdir().unwrap();
        let calls = |rows: &RowStore, key: &str, max_len: usize| {
            encode_all(rows, key, max_len, Some(folder.path())).1
        };
        assert_eq!(calls(&rows(0), "a", 7), 9);
        assert_eq!(calls(&rows(0), "a", 7), 0);
        assert_eq!(calls(&rows(0), "b", 7), 9);
        assert_eq!(calls(&rows(0), "a", 8), 9);
        assert_eq!(calls(&rows(0).filter(|row| row.instruction != "0").unwrap(), "a", 7), 8);
        // A damaged file is made again.
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            std::fs::write(entry.unwrap().path(), "damaged").unwrap();
        }
        assert_eq!(calls(&rows(0), "a", 7), 9);
        assert_eq!(calls(&rows(0), "a", 7), 0);
    }

    #[test]
    fn a_mixture_knows_the_sources_of_the_rows_that_are_left() {
        for limit in [0, usize::MAX] {
            let rows = rows(limit).with_weights(&[1.0, 4.0]);
            let (encoded, _) = encode_all(&rows, "", 9, None);
            let order = encoded.mixture.unwrap().epoch_order(1, 0, false);
            // The rows 4 and 5 of the first source, and 6 to 8 of the second.
            assert_eq!(order, [0, 2, 3, 4, 2]);
        }
    }

    #[test]
    fn the_oldest_files_are_removed_from_a_large_cache() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let now = SystemTime::now();
        for (name, age) in [("new.tokens", 1), ("old.tokens", 3), ("used.tokens", 9), ("other", 9)]
        {
            std::fs::write(file(name), [0; 10]).unwrap();
            let opened = File::options().append(true).open(file(name)).unwrap();
            opened.set_modified(now - std::time::Duration::from_secs(age * 3600)).unwrap();
        }
        remove_oldest(&file("used.tokens"), 20);
        let exists =
            ["new.tokens", "old.tokens", "used.tokens", "other"].map(|name| file(name).exists());
        assert_eq!(exists, [true, false, true, true]);
    }
}
