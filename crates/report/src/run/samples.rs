//! `samples.json`: rows with the responses of the base model and of the trained one.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::read_json;
use crate::error::{Error, Result};
use crate::files;

/// File of the responses in the folder of a run.
pub const SAMPLES_FILE: &str = "samples.json";

/// A row with its responses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The instruction.
    pub instruction: String,
    /// Its input; may be empty.
    #[serde(default)]
    pub input: String,
    /// Name of the row's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The row's own output.
    #[serde(default)]
    pub expected: String,
    /// Response of the base model.
    pub before: String,
    /// Response after training.
    pub after: String,
}

/// Writes the responses into a run folder.
///
/// # Errors
/// [`Error::Write`]; an older file is unchanged.
pub fn write_samples(folder: &Path, samples: &[Sample]) -> Result<()> {
    let text = serde_json::to_string_pretty(samples).expect("plain JSON");
    files::write(&folder.join(SAMPLES_FILE), &format!("{text}\n"))
}

/// The responses in a run folder; none if there is no file.
pub(super) fn read(folder: &Path) -> Result<Vec<Sample>> {
    let path = folder.join(SAMPLES_FILE);
    let Some(value) = read_json(&path)? else { return Ok(Vec::new()) };
    serde_json::from_value(value).map_err(|error| Error::Format {
        path,
        reason: format!("expected a list of responses: {error}"),
    })
}
