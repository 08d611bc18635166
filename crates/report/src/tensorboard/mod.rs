//! TensorBoard's event files: `TFRecord`s of protocol buffers, written by hand because only a few fields are needed.
//!
//! ```text
//! record   length u64 │ masked crc32c of the length u32 │ data │ masked crc32c of the data u32, little-endian
//! data     Event { wall_time, step, file_version | summary | session_log }
//! ```
//!
//! Source: tensorflow/core/lib/io/record_writer.cc, core/util/event.proto, core/framework/summary.proto.

mod protobuf;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use protobuf::Message;

/// An event file that grows while a run trains. TensorBoard reads it meanwhile.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
    /// Of the latest event.
    time: f64,
}

impl EventFile {
    /// Creates a file in a folder, which is created too. The name begins with the time in seconds, so that
    /// TensorBoard reads the files of a resumed run in their order. `first_step` is the step after which the run
    /// continues: what older files say about later steps is void.
    ///
    /// # Errors
    /// [`Error::Write`]
    pub fn create(folder: &Path, first_step: usize) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
        let mut seconds = now() as u64;
        let (path, file) = loop {
            let path = folder.join(format!("events.out.tfevents.{seconds:010}.llama-adapter"));
            match OpenOptions::new().create_new(true).append(true).open(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => seconds += 1,
                Err(error) => return Err(Error::write(&path)(error)),
            }
        };
        let mut own = Self { path, file, time: 0.0 };
        own.add(0, Content::Version)?;
        own.add(first_step, Content::SessionStart)?;
        Ok(own)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds values of one step. A tag is a path, such as `train/loss`.
    ///
    /// # Errors
    /// [`Error::Write`]
    pub fn scalars<'a>(
        &mut self,
        step: usize,
        values: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        self.add(step, Content::Scalars(&values.into_iter().collect::<Vec<_>>()))
    }

    /// Adds the distribution of some values at a step.
    ///
    /// # Errors
    /// [`Error::Write`]
    pub fn histogram(&mut self, step: usize, tag: &str, values: &[f64]) -> Result<()> {
        self.add(step, Content::Histogram(tag, values))
    }

    /// Writes a record in one call, so that a reader sees whole ones.
    fn add(&mut self, step: usize, content: Content) -> Result<()> {
        // TensorBoard takes a time that runs backwards for a restart.
        self.time = self.time.max(now());
        let record = record(&event(self.time, step, content));
        self.file.write_all(&record).map_err(Error::write(&self.path))
    }
}

/// What an event says.
#[derive(Debug, Clone, Copy)]
enum Content<'a> {
    /// The version of the file.
    Version,
    /// A program begins or continues: what older files say about later steps is void.
    SessionStart,
    /// Values by tag.
    Scalars(&'a [(&'a str, f64)]),
    /// The distribution of values.
    Histogram(&'a str, &'a [f64]),
}

/// The message of an event, its fields in the order of their numbers.
fn event(time: f64, step: usize, content: Content) -> Vec<u8> {
    let mut event = Message::default();
    event.double(field::WALL_TIME, time);
    event.varint(field::STEP, step as u64);
    match content {
        Content::Version => event.bytes(field::FILE_VERSION, b"brain.Event:2"),
        Content::SessionStart => {
            let mut session = Message::default();
            session.varint(field::SESSION_STATUS, field::SESSION_START);
            event.bytes(field::SESSION_LOG, &session.finish());
        }
        Content::Scalars(values) => {
            let mut summary = Message::default();
            for (tag, value) in values {
                let mut entry = Message::default();
                entry.bytes(field::VALUE_TAG, tag.as_bytes());
                entry.float(field::VALUE_SIMPLE, *value as f32);
                summary.bytes(field::SUMMARY_VALUE, &entry.finish());
            }
            event.bytes(field::SUMMARY, &summary.finish());
        }
        Content::Histogram(tag, values) => {
            let mut entry = Message::default();
            entry.bytes(field::VALUE_TAG, tag.as_bytes());
            entry.bytes(field::VALUE_HISTOGRAM, &protobuf::histogram(values));
            let mut summary = Message::default();
            summary.bytes(field::SUMMARY_VALUE, &entry.finish());
            event.bytes(field::SUMMARY, &summary.finish());
        }
    }
    event.finish()
}

/// Field numbers of event.proto and summary.proto.
mod field {
    pub const WALL_TIME: u32 = 1;
    pub const STEP: u32 = 2;
    pub const FILE_VERSION: u32 = 3;
    pub const SUMMARY: u32 = 5;
    pub const SESSION_LOG: u32 = 7;
    pub const SESSION_STATUS: u32 = 1;
    pub const SESSION_START: u64 = 1;
    pub const SUMMARY_VALUE: u32 = 1;
    pub const VALUE_TAG: u32 = 1;
    pub const VALUE_SIMPLE: u32 = 2;
    pub const VALUE_HISTOGRAM: u32 = 5;
}

/// The bytes of a record.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// The checksum of records, which is changed because a checksum of data that contains its own is not reliable.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests;
