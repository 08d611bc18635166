//! Records of data files of every shape: JSON, tables, Parquet, text, compressed, in folders, from the Hugging
//! Face Hub, mixed.
//!
//! ```text
//! Source ─► files ─► Input (gzip, zstd) ─► a Reader, found by content ─► Records: JSON objects, one at a time
//! ```
//!
//! The crate knows formats, and nothing of what records are for: a [`Schema`] tells it what it must know to
//! tell formats apart. No file is in memory whole; the memory is that of the longest record.
//!
//! # Untrusted files
//!
//! Any file gives records or an error that names the file and the place. A record that cannot be parsed is an
//! [`Error::Record`], after which the records go on, so that a caller may skip it; a [`RejectFile`] keeps those.
//!
//! ```
//! use data::{OpenOptions, open_file};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("rows.csv");
//! std::fs::write(&path, "question,answer\n1 + 1?,2\n")?;
//! let columns = "instruction=question,output=answer".parse()?;
//! let opened = open_file(&path, &OpenOptions { columns: Some(&columns), ..Default::default() })?;
//! assert_eq!(opened.description, "a table, separated by commas");
//! for record in opened.records {
//!     let record = record?;
//!     assert_eq!(record.location.to_string(), "line 2");
//!     assert_eq!(record.value["output"], "2");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod columns;
mod content_hash;
mod error;
mod file_kind;
mod folder;
mod format;
// Entry points for `fuzz/` and the property tests.
#[doc(hidden)]
pub mod fuzz;
#[cfg(feature = "hub")]
pub mod hub;
mod input;
mod json;
mod mixture;
pub mod names;
mod parquet_file;
mod record;
mod rejects;
mod source;
pub mod statistics;
mod table;
mod text;
mod value_scanner;

use std::path::Path;

pub use columns::Columns;
pub use content_hash::ContentHash;
pub use error::{Error, Result};
pub use folder::data_files;
pub use format::{AnyFields, FileFormat, OpenOptions, Opened, Schema};
pub use mixture::{Mixture, weights};
pub use record::{Location, Record, Records};
pub use rejects::RejectFile;
pub use source::{HubSource, Source, WeightedSource};

use input::Input;

/// Opens a file of any supported format.
///
/// # Errors
/// [`Error::Read`], [`Error::UnsupportedFile`], [`Error::UnknownFormat`], [`Error::NoColumn`],
/// [`Error::Damaged`].
pub fn open_file(path: &Path, options: &OpenOptions) -> Result<Opened> {
    format::open(&Input::open(path)?, options)
}

/// Opens the content of a file as [`open_file`] does; `path` is for messages, and its extension tells tables
/// apart.
///
/// # Errors
/// As [`open_file`].
pub fn open_bytes(path: &Path, bytes: &[u8], options: &OpenOptions) -> Result<Opened> {
    format::open(&Input::memory(path, bytes)?, options)
}

/// Reads a UTF-8 text file, compressed or not, without a byte order mark.
///
/// # Errors
/// [`Error::Read`]; [`Error::UnsupportedFile`] for a file of another format; [`Error::Record`] with the line of
/// the first byte that is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    let input = Input::open(path)?;
    if let Some((what, hint)) = file_kind::unsupported_kind(&input.head) {
        return Err(Error::UnsupportedFile { path: path.into(), what, hint });
    }
    let mut bytes = Vec::new();
    let read = std::io::Read::read_to_end(&mut input.text()?, &mut bytes);
    read.map_err(|source| input.read_error(source))?;
    Ok(record::utf8(path, 1, &bytes)?.to_owned())
}
