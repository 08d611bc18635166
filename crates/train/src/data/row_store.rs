//! Rows of data: in memory if they are few, in a temporary file if they are many.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::data::ContentHash;

use super::instruction::Instruction;
use super::split::split_indices;
use super::spool::{Spool, SpoolWriter};
use crate::error::{Error, Result};

/// Rows by index. A clone shares them.
#[derive(Debug, Clone, Default)]
pub struct RowStore {
    storage: Storage,
    /// The rows of the storage in this store; `None`: all of them.
    selection: Option<Arc<[u32]>>,
    /// The source of each row of the storage; empty: one source.
    sources: Arc<[u16]>,
    /// The weight of each source in a mixture; empty: no mixture.
    weights: Arc<[f64]>,
}

#[derive(Debug, Clone)]
enum Storage {
    Memory(Arc<[Instruction]>),
    File(Arc<Spool>),
}

impl Default for Storage {
    fn default() -> Self {
        Self::Memory(Arc::default())
    }
}

impl RowStore {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match (&self.selection, &self.storage) {
            (Some(selection), _) => selection.len(),
            (None, Storage::Memory(rows)) => rows.len(),
            (None, Storage::File(rows)) => rows.len(),
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the rows are in memory.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.storage, Storage::Memory(_))
    }

    /// A row.
    ///
    /// # Errors
    /// [`Error::Read`] if the temporary file cannot be read.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn get(&self, index: usize) -> Result<Cow<'_, Instruction>> {
        match &self.storage {
            Storage::Memory(rows) => Ok(Cow::Borrowed(&rows[self.stored(index)])),
            Storage::File(spool) => {
                let bytes = spool.read(self.stored(index))?;
                let row = serde_json::from_slice(&bytes).map_err(|error| Error::Read {
                    path: spool.path().to_owned(),
                    source: error.into(),
                })?;
                Ok(Cow::Owned(row))
            }
        }
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<Cow<'_, Instruction>>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// The first rows, at most `max`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn first(&self, max: usize) -> Result<Vec<Instruction>> {
        self.iter().take(max).map(|row| row.map(Cow::into_owned)).collect()
    }

    /// All rows, in memory.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn to_vec(&self) -> Result<Vec<Instruction>> {
        self.first(usize::MAX)
    }

    /// The source of a row.
    pub fn source(&self, index: usize) -> u16 {
        self.sources.get(self.stored(index)).copied().unwrap_or(0)
    }

    /// The weight of each source in a mixture; empty if the rows are no mixture.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// These rows as a mixture with a weight for each source.
    pub fn with_weights(self, weights: &[f64]) -> Self {
        Self { weights: weights.into(), ..self }
    }

    /// Splits the rows as [`split_rows`](super::split_rows) does.
    ///
    /// # Errors
    /// As [`split_rows`](super::split_rows), and as [`get`](Self::get).
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Self, Self)> {
        let images = self.iter().map(|row| Ok(row?.image.as_deref().map(hash_name)));
        let images = images.collect::<Result<Vec<_>>>()?;
        let is_held_out = split_indices(images.into_iter(), fraction, seed)?;
        let part = |held_out: bool| self.select(|index| is_held_out[index] == held_out);
        Ok((part(false), part(true)))
    }

    /// The rows that `keep` accepts.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn filter(&self, mut keep: impl FnMut(&Instruction) -> bool) -> Result<Self> {
        let kept = self.iter().map(|row| Ok(keep(&*row?))).collect::<Result<Vec<_>>>()?;
        Ok(self.select(|index| kept[index]))
    }

    /// Adds the content of all rows to a hash.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn hash(&self, hash: &mut ContentHash) -> Result<()> {
        for index in 0..self.len() {
            match &self.storage {
                Storage::Memory(rows) => hash.update(&to_json(&rows[self.stored(index)])),
                Storage::File(spool) => hash.update(&spool.read(self.stored(index))?),
            }
        }
        Ok(())
    }

    fn select(&self, keep: impl Fn(usize) -> bool) -> Self {
        let kept = (0..self.len()).filter(|&index| keep(index));
        let selection = kept.map(|index| self.stored(index) as u32).collect();
        Self { selection: Some(selection), ..self.clone() }
    }

    /// The index of a row in the storage.
    fn stored(&self, index: usize) -> usize {
        self.selection.as_ref().map_or(index, |selection| selection[index] as usize)
    }
}

/// Tells images apart without their names, which may contain whole images.
fn hash_name(name: &str) -> u64 {
    use std::hash::Hasher;
    let mut hasher = fnv::FnvHasher::default();
    hasher.write(name.as_bytes());
    hasher.finish()
}

impl From<Vec<Instruction>> for RowStore {
    fn from(rows: Vec<Instruction>) -> Self {
        Self { storage: Storage::Memory(rows.into()), ..Self::default() }
    }
}

impl From<&[Instruction]> for RowStore {
    fn from(rows: &[Instruction]) -> Self {
        rows.to_vec().into()
    }
}

/// Collects rows: in memory up to a limit, then in a temporary file.
#[derive(Debug)]
pub struct RowStoreBuilder {
    rows: Vec<Instruction>,
    /// Memory of the rows.
    bytes: usize,
    limit: usize,
    folder: Option<PathBuf>,
    spool: Option<SpoolWriter>,
    sources: Vec<u16>,
    source: u16,
}

impl RowStoreBuilder {
    /// Memory that rows may take, in bytes.
    pub const DEFAULT_LIMIT: usize = 64 << 20;

    /// A builder that keeps at most `limit` bytes of rows in memory. More rows go to a temporary file in
    /// `folder`, or in the system's folder for temporary files.
    pub fn new(limit: usize, folder: Option<&Path>) -> Self {
        Self {
            rows: Vec::new(),
            bytes: 0,
            limit,
            folder: folder.map(Path::to_owned),
            spool: None,
            sources: Vec::new(),
            source: 0,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows that follow are from the source of this number.
    pub fn set_source(&mut self, source: u16) {
        self.source = source;
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`Error::File`] if the temporary file cannot be written.
    pub fn push(&mut self, row: Instruction) -> Result<()> {
        /// Of the vectors and strings of a row, about.
        const OVERHEAD: usize = 256;
        self.sources.push(self.source);
        let text = to_json(&row);
        if let Some(spool) = &mut self.spool {
            return spool.push(&text);
        }
        self.bytes += text.len() + OVERHEAD;
        self.rows.push(row);
        if self.bytes > self.limit {
            let mut spool = SpoolWriter::new(self.folder.as_deref())?;
            for row in std::mem::take(&mut self.rows) {
                spool.push(&to_json(&row))?;
            }
            self.spool = Some(spool);
        }
        Ok(())
    }

    /// All rows.
    ///
    /// # Errors
    /// [`Error::File`] if the temporary file cannot be written.
    pub fn build(self) -> Result<RowStore> {
        let storage = match self.spool {
            None => Storage::Memory(self.rows.into()),
            Some(spool) => Storage::File(Arc::new(spool.finish()?)),
        };
        let sources = if self.source == 0 { Vec::new() } else { self.sources };
        Ok(RowStore { storage, sources: sources.into(), ..RowStore::default() })
    }
}

fn to_json(row: &Instruction) -> Vec<u8> {
    serde_json::to_vec(row).expect("plain JSON")
}

#[cfg(test)]
mod tests {
    use super::super::split::split_rows;
    use super::*;

    fn rows(n: usize) -> Vec<Instruction> {
        let image = |i: usize| i.is_multiple_of(3).then(|| format!("{}.png", i % 2));
        let row = |i: usize| Instruction {
            image: image(i),
            ..Instruction::new(i.to_string(), "ä", "b")
        };
        (0..n).map(row).collect()
    }

    fn store(rows: &[Instruction], limit: usize) -> RowStore {
        let mut builder = RowStoreBuilder::new(limit, None);
        rows.iter().try_for_each(|row| builder.push(row.clone())).unwrap();
        builder.build().unwrap()
    }

    #[test]
    fn rows_in_a_file_are_the_same_as_rows_in_memory() {
        let rows = rows(30);
        for limit in [0, 2000, usize::MAX] {
            let store = store(&rows, limit);
            assert_eq!(store.is_in_memory(), limit == usize::MAX);
            assert_eq!(store.to_vec().unwrap(), rows);
            assert_eq!(*store.get(7).unwrap(), rows[7]);
        }
    }

    #[test]
    fn a_store_is_split_as_rows_are() {
        let rows = rows(30);
        let expected = split_rows(rows.clone(), 0.3, 5).unwrap();
        for limit in [0, usize::MAX] {
            let (train, eval) = store(&rows, limit).split(0.3, 5).unwrap();
            assert_eq!((train.to_vec().unwrap(), eval.to_vec().unwrap()), expected);
            let (_, eval) = train.split(0.5, 1).unwrap();
            assert!(eval.to_vec().unwrap().iter().all(|row| expected.0.contains(row)));
        }
    }

    #[test]
    fn rows_keep_their_source_when_others_are_removed() {
        let mut builder = RowStoreBuilder::new(usize::MAX, None);
        for (source, row) in rows(6).into_iter().enumerate() {
            builder.set_source(source as u16 / 2);
            builder.push(row).unwrap();
        }
        let store = builder.build().unwrap().with_weights(&[0.5, 0.25, 0.25]);
        let odd = store.filter(|row| row.instruction.parse::<usize>().unwrap() % 2 == 1).unwrap();
        let found = (0..odd.len()).map(|index| odd.source(index)).collect::<Vec<_>>();
        assert_eq!((found, odd.weights()), (vec![0, 1, 2], &[0.5, 0.25, 0.25][..]));
    }
}
