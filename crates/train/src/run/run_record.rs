//! `run.json`: the settings of a run, which must be equal when it is resumed.

use std::fmt;
use std::hash::Hasher;
use std::path::Path;

use fnv::FnvHasher;
use serde::Serialize;
use serde_json::Value;

use crate::config::TrainConfig;
use crate::data::{RowContext, RowStore, Turn};
use crate::error::{Error, Result};

/// File of the settings in the folder of a run.
pub const RUN_FILE: &str = "run.json";

/// The keys whose values may change when a run is resumed, because its result does not depend on them.
const FREE_KEYS: [&str; 5] =
    ["about", "checkpoint_every", "checkpoint_minutes", "keep", "max_skipped_steps"];

/// A setting of a run that differs from the one that the run was started with.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingDifference {
    /// The key in `run.json`, such as `optimizer.clip`.
    pub name: String,
    /// The value that the run was started with; null if it had none.
    pub saved: Value,
    /// The value now; null if there is none.
    pub current: Value,
}

impl fmt::Display for SettingDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Value| match value {
            Value::Null => "none".to_owned(),
            value => value.to_string(),
        };
        let Self { name, saved, current } = self;
        write!(f, "{name}: then {}, now {}", text(saved), text(current))
    }
}

/// The content of `run.json`.
#[derive(Serialize)]
pub(crate) struct RunRecord<'a> {
    pub about: &'a Value,
    /// Name of the base model.
    pub model: &'a str,
    /// Precision of the base's matrices.
    pub precision: String,
    pub train_rows: usize,
    pub eval_rows: usize,
    /// Detects different data of the same size.
    pub data_hash: String,
    /// The weights of the sources, if the rows are a mixture.
    #[serde(rename = "data_weights", skip_serializing_if = "<[f64]>::is_empty")]
    pub weights: &'a [f64],
    #[serde(flatten)]
    pub config: &'a TrainConfig,
}

/// FNV-1a over all texts of the rows, as a hexadecimal number. Not cryptographic.
///
/// # Errors
/// As [`RowStore::get`].
pub fn hash_rows(groups: &[&RowStore]) -> Result<String> {
    let mut hash = FnvHasher::default();
    for row in groups.iter().flat_map(|rows| rows.iter()) {
        let row = row?;
        for text in [&row.instruction, &row.input, &row.output] {
            hash.write(text.as_bytes());
            // Separates the fields: no UTF-8 text contains this byte.
            hash.write_u8(0xff);
        }
        if let Some(image) = &row.image {
            hash.write(image.as_bytes());
            hash.write_u8(0xfe);
        }
        match &row.context {
            RowContext::Instruction => {}
            RowContext::Nothing => hash.write_u8(0xfd),
            RowContext::Turns(turns) => {
                for Turn { message, train } in turns {
                    for text in [&message.role, &message.content] {
                        hash.write(text.as_bytes());
                        hash.write_u8(0xff);
                    }
                    hash.write_u8(if *train { 0xfc } else { 0xfb });
                }
            }
        }
    }
    Ok(format!("{:016x}", hash.finish()))
}

/// Writes the settings of a run.
pub(super) fn write(folder: &Path, record: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(record).expect("plain JSON");
    checkpoint::files::write(&folder.join(RUN_FILE), format!("{text}\n").as_bytes())?;
    Ok(())
}

/// Checks that a run was started with these settings. `has_adapter` says whether it has saved an
/// adapter.
pub(super) fn check(folder: &Path, record: &impl Serialize, has_adapter: bool) -> Result<()> {
    let path = folder.join(RUN_FILE);
    let text = std::fs::read_to_string(&path)
        .map_err(|source| Error::Read { path: path.clone(), source })?;
    let saved: Value = serde_json::from_str(&text).map_err(|error| Error::NothingToResume {
        path: path.clone(),
        reason: format!("not valid JSON: {error}"),
    })?;
    // Through text like the saved settings: f32 numbers have fewer digits there than as values.
    let current = serde_json::to_string(record).expect("plain JSON");
    let current = serde_json::from_str(&current).expect("JSON that was just written");
    let differences = different_leaves(&saved, &current);
    if differences.is_empty() {
        return Ok(());
    }
    let length_differs = differences.iter().any(|setting| setting.name.starts_with("length"));
    Err(Error::SettingsMismatch { path, differences, length_differs, has_adapter })
}

/// The leaves in which two values differ; those of the second are the current ones.
pub(super) fn different_leaves(saved: &Value, current: &Value) -> Vec<SettingDifference> {
    let mut differences = Vec::new();
    diff_settings("", saved, current, &mut differences);
    differences
}

/// Lists the leaves in which two settings differ.
fn diff_settings(
    key_path: &str,
    saved: &Value,
    current: &Value,
    differences: &mut Vec<SettingDifference>,
) {
    match (saved, current) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let key_path = match key_path {
                    "" if FREE_KEYS.contains(&key.as_str()) => continue,
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                diff_settings(&key_path, &saved[key], &current[key], differences);
            }
        }
        _ if saved == current => {}
        _ => differences.push(SettingDifference {
            name: key_path.to_owned(),
            saved: saved.clone(),
            current: current.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Instruction;

    fn hash(row: &Instruction) -> String {
        hash_rows(&[&RowStore::from(vec![row.clone()])]).unwrap()
    }

    #[test]
    fn the_hash_of_old_rows_is_unchanged_and_every_turn_counts() {
        let row = Instruction::new("a", "b", "c");
        // Computed before rows had turns.
        assert_eq!(hash(&row), "3ab336ed30c133fc");
        let turns = |train| vec![Turn { train, ..Turn::new("user", "a") }];
        let rows = [
            row,
            Instruction::text("a"),
            Instruction::new("", "", "a"),
            Instruction::conversation(turns(true), "c"),
            Instruction::conversation(turns(false), "c"),
            Instruction::conversation(vec![Turn::new("tool", "a")], "c"),
        ];
        let hashes = rows.map(|row| hash(&row));
        for (index, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..index].contains(hash), "{index}");
        }
    }
}
