//! The folder of a run: who owns it, its settings, its log.
//!
//! ```text
//! adapter_config.json  adapter_model.safetensors   the adapter, as PEFT writes it
//! run.json                                          settings, for repeating and resuming
//! metrics.jsonl                                     one line a step and an evaluation
//! checkpoint.safetensors                            for --resume
//! ```

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::checkpoint::CHECKPOINT_FILE;
use crate::error::{Error, Result};

/// File of the resolved settings.
pub const RUN_FILE: &str = "run.json";
/// File of the log.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// Setting that may differ when a run is resumed.
const ABOUT: &str = "about";

/// A run's folder.
#[derive(Debug)]
pub(crate) struct Output {
    folder: PathBuf,
}

impl Output {
    /// Makes a folder for a new run and writes its settings. A folder that holds anything is left
    /// as it is.
    pub fn create(folder: &Path, settings: &impl Serialize) -> Result<Self> {
        let write = |source| llama::Error::Write { path: folder.into(), source };
        std::fs::create_dir_all(folder).map_err(write)?;
        let taken = std::fs::read_dir(folder).map_err(write)?.next().is_some();
        if taken {
            let run = folder.join(RUN_FILE).exists();
            let holds = if run { "holds another run" } else { "holds files" };
            return Err(Error::OutputTaken { path: folder.into(), holds });
        }
        let output = Self { folder: folder.into() };
        let text = serde_json::to_string_pretty(settings).expect("plain JSON");
        llama::files::write(&output.path(RUN_FILE), format!("{text}\n").as_bytes())?;
        Ok(output)
    }

    /// Opens the folder of a run that stopped, and checks that it had the same settings.
    pub fn reopen(folder: &Path, settings: &impl Serialize) -> Result<Self> {
        let output = Self { folder: folder.into() };
        let path = output.path(RUN_FILE);
        for needed in [&path, &output.checkpoint()] {
            if !needed.exists() {
                let reason = format!("it has no {}", name(needed));
                return Err(Error::NothingToResume { path: folder.into(), reason });
            }
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|source| Error::Read { path: path.clone(), source })?;
        let then: Value = serde_json::from_str(&text).map_err(|error| Error::NothingToResume {
            path: path.clone(),
            reason: format!("not valid JSON: {error}"),
        })?;
        // Through text like the other: numbers in f32 have fewer digits there than as values.
        let now = serde_json::to_string(settings).expect("plain JSON");
        let now = serde_json::from_str(&now).expect("JSON that was just written");
        let mut differences = Vec::new();
        compare("", &then, &now, &mut differences);
        if !differences.is_empty() {
            return Err(Error::OtherSettings { path, differences });
        }
        Ok(output)
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.path(CHECKPOINT_FILE)
    }

    /// Adds a line to the log.
    pub fn log(&self, entry: &impl Serialize) -> Result<()> {
        let path = self.path(METRICS_FILE);
        let line = serde_json::to_string(entry).expect("plain JSON");
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
            .map_err(|source| llama::Error::Write { path, source })?;
        Ok(())
    }

    /// Gives the folder up: a run that could not save its first state cannot be resumed.
    pub fn abandon(&self) {
        // The run has failed already; that a file could not be removed adds nothing.
        let _ = std::fs::remove_file(self.path(RUN_FILE));
    }

    /// Takes back everything that was logged.
    pub fn clear_log(&self) -> Result<()> {
        llama::files::write(&self.path(METRICS_FILE), b"")?;
        Ok(())
    }

    /// Takes back what was logged behind a checkpoint: those steps will be done again.
    pub fn rewind_log(&self, step: usize) -> Result<()> {
        let path = self.path(METRICS_FILE);
        let Ok(text) = std::fs::read_to_string(&path) else {
            return Ok(());
        };
        let kept = text.lines().filter(|line| {
            serde_json::from_str::<Value>(line)
                .is_ok_and(|entry| entry["step"].as_u64().is_some_and(|at| at <= step as u64))
        });
        let kept = kept.map(|line| format!("{line}\n")).collect::<String>();
        llama::files::write(&path, kept.as_bytes())?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Lists the leaves in which two settings differ.
fn compare(place: &str, then: &Value, now: &Value, differences: &mut Vec<String>) {
    match (then, now) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys.filter(|key| *key != ABOUT) {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                compare(&place, &then[key], &now[key], differences);
            }
        }
        _ if then == now => {}
        _ => differences.push(format!("{place}: then {then}, now {now}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        let error = Output::create(folder.path(), &json!({})).unwrap_err();
        assert!(matches!(error, Error::OutputTaken { .. }));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn other_settings_are_named() {
        let folder = tempfile::tempdir().unwrap();
        Output::create(folder.path(), &json!({"a": {"b": 1}, "c": 2})).unwrap();
        std::fs::write(folder.path().join(CHECKPOINT_FILE), "").unwrap();
        let error = Output::reopen(folder.path(), &json!({"a": {"b": 3}, "c": 2})).unwrap_err();
        assert!(error.to_string().ends_with("\n  a.b: then 1, now 3"), "{error}");
        Output::reopen(folder.path(), &json!({"a": {"b": 1}, "c": 2})).unwrap();
    }

    #[test]
    fn a_number_in_single_precision_equals_itself() {
        #[derive(Serialize)]
        struct Settings {
            beta: f32,
        }
        let folder = tempfile::tempdir().unwrap();
        Output::create(folder.path(), &Settings { beta: 0.9 }).unwrap();
        std::fs::write(folder.path().join(CHECKPOINT_FILE), "").unwrap();
        Output::reopen(folder.path(), &Settings { beta: 0.9 }).unwrap();
    }

    #[test]
    fn without_a_checkpoint_there_is_nothing_to_resume() {
        let folder = tempfile::tempdir().unwrap();
        Output::create(folder.path(), &json!({})).unwrap();
        let error = Output::reopen(folder.path(), &json!({})).unwrap_err();
        assert!(error.to_string().ends_with("it has no checkpoint.safetensors"), "{error}");
    }

    #[test]
    fn the_log_is_rewound_to_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::create(folder.path(), &json!({})).unwrap();
        for step in 1..=3 {
            output.log(&json!({"step": step})).unwrap();
        }
        output.rewind_log(2).unwrap();
        let text = std::fs::read_to_string(folder.path().join(METRICS_FILE)).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2}\n");
    }
}
