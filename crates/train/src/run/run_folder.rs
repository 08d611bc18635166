//! The folder of a run: who owns it, its settings, its log.
//!
//! ```text
//! adapter_config.json  adapter_model.safetensors   the adapter, as PEFT writes it
//! run.json                                          settings, for repeating and resuming
//! metrics.jsonl                                     one line a step and an evaluation
//! checkpoint.safetensors                            to resume from
//! run.lock                                          locked while a run works here; empty
//! ```

use std::fs::{DirEntry, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use adaption_prompt::files::SETTINGS_FILE;
use serde::Serialize;
use serde_json::Value;

use crate::checkpoint::CHECKPOINT_FILE;
use crate::error::{Error, Result};

/// File of the resolved settings.
pub const RUN_FILE: &str = "run.json";
/// File of the log.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// File that the run which works in the folder has locked. It stays when the run ends, as somebody else
/// may be about to lock it.
const LOCK_FILE: &str = "run.lock";

/// Setting that may differ when a run is resumed.
const METADATA_KEY: &str = "about";

/// A run's folder.
#[derive(Debug)]
pub(crate) struct RunFolder {
    folder: PathBuf,
    /// Unlocked when it is closed, at the latest by the system when the process ends.
    _lock: Option<File>,
}

impl RunFolder {
    /// Makes a folder for a new run and writes its settings. A folder that holds anything is left
    /// as it is.
    pub fn create(folder: &Path, settings: &impl Serialize) -> Result<Self> {
        if folder.exists() && !folder.is_dir() {
            return Err(Error::OutputIsFile { path: folder.into() });
        }
        let write = |source| checkpoint::Error::Write { path: folder.into(), source };
        std::fs::create_dir_all(folder).map_err(write)?;
        let is_lock = |entry: &DirEntry| entry.file_name() == LOCK_FILE;
        let must_be_free = || {
            let mut entries = std::fs::read_dir(folder).map_err(write)?;
            if entries.all(|entry| entry.is_ok_and(|entry| is_lock(&entry))) {
                return Ok(());
            }
            let run = folder.join(RUN_FILE).exists();
            let holds = if run { "holds another run" } else { "holds files" };
            Err(Error::OutputNotEmpty { path: folder.into(), contents: holds })
        };
        // A folder of somebody else's does not even get the lock; another run may begin at the same moment.
        must_be_free()?;
        let output = Self { folder: folder.into(), _lock: lock(folder)? };
        must_be_free()?;
        let text = serde_json::to_string_pretty(settings).expect("plain JSON");
        checkpoint::files::write(&output.path(RUN_FILE), format!("{text}\n").as_bytes())?;
        Ok(output)
    }

    /// Opens the folder of a run that stopped, and checks that it had the same settings.
    pub fn open_for_resume(folder: &Path, settings: &impl Serialize) -> Result<Self> {
        for needed in [RUN_FILE, CHECKPOINT_FILE] {
            if !folder.join(needed).exists() {
                let reason = format!("it has no {needed}");
                return Err(Error::NothingToResume { path: folder.into(), reason });
            }
        }
        let output = Self { folder: folder.into(), _lock: lock(folder)? };
        let path = output.path(RUN_FILE);
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
        diff_settings("", &then, &now, &mut differences);
        if !differences.is_empty() {
            let length = differences.iter().any(|difference| difference.starts_with("length"));
            let learned = folder.join(SETTINGS_FILE).exists();
            return Err(Error::SettingsMismatch {
                path,
                differences,
                length_differs: length,
                has_adapter: learned,
            });
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
            .map_err(|source| checkpoint::Error::Write { path, source })?;
        Ok(())
    }

    /// Gives the folder up: a run that could not save its first state cannot be resumed.
    pub fn discard(&self) {
        // The run has failed already; that a file could not be removed adds nothing.
        let _ = std::fs::remove_file(self.path(RUN_FILE));
    }

    /// Takes back everything that was logged.
    pub fn clear_log(&self) -> Result<()> {
        checkpoint::files::write(&self.path(METRICS_FILE), b"")?;
        Ok(())
    }

    /// Takes back what was logged behind a checkpoint: those steps will be done again.
    pub fn truncate_log_after(&self, step: usize) -> Result<()> {
        let path = self.path(METRICS_FILE);
        let Ok(text) = std::fs::read_to_string(&path) else {
            return Ok(());
        };
        let kept = text.lines().filter(|line| {
            serde_json::from_str::<Value>(line)
                .is_ok_and(|entry| entry["step"].as_u64().is_some_and(|at| at <= step as u64))
        });
        let kept = kept.map(|line| format!("{line}\n")).collect::<String>();
        checkpoint::files::write(&path, kept.as_bytes())?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The locked lock file of a folder; `None` on a disk that has no locks, which is no reason not to train.
fn lock(folder: &Path) -> Result<Option<File>> {
    let path = folder.join(LOCK_FILE);
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
    let file = file.map_err(|source| checkpoint::Error::Write { path, source })?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Error::OutputLocked { path: folder.into() }),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Lists the leaves in which two settings differ.
fn diff_settings(place: &str, then: &Value, now: &Value, differences: &mut Vec<String>) {
    match (then, now) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys.filter(|key| *key != METADATA_KEY) {
                let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                diff_settings(&place, &then[key], &now[key], differences);
            }
        }
        _ if then == now => {}
        _ => differences.push(format!("{place}: then {then}, now {now}")),
    }
}

#[cfg(test)]
mod tests {
    use diagnostic::{Advice, Diagnostic};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_nonempty_folder_is_left_untouched() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        let error = RunFolder::create(folder.path(), &json!({})).unwrap_err();
        assert!(matches!(error, Error::OutputNotEmpty { .. }));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_at_the_folder_path_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        std::fs::write(&path, "mine").unwrap();
        let error = RunFolder::create(&path, &json!({})).unwrap_err();
        assert!(error.to_string().ends_with("run: this is a file, and a run needs a folder"));
        assert_eq!(error.advice(), Some(Advice::OtherOutput));
        let error = RunFolder::create(&path.join("run"), &json!({})).unwrap_err();
        let advice = error.advice().unwrap().to_string();
        assert!(advice.starts_with("the path contains a file where a folder"), "{advice}");
    }

    #[test]
    fn a_folder_is_locked_by_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let first = RunFolder::create(path, &json!({})).unwrap();
        std::fs::write(path.join(CHECKPOINT_FILE), "").unwrap();
        let error = RunFolder::open_for_resume(path, &json!({})).unwrap_err();
        assert!(matches!(error, Error::OutputLocked { .. }), "{error}");
        drop(first);
        let second = RunFolder::open_for_resume(path, &json!({})).unwrap();
        assert!(matches!(
            RunFolder::open_for_resume(path, &json!({})),
            Err(Error::OutputLocked { .. })
        ));
        drop(second);
        RunFolder::open_for_resume(path, &json!({})).unwrap();
    }

    #[test]
    fn a_locked_empty_folder_is_busy_until_released() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap().expect("this disk has locks");
        let error = RunFolder::create(folder.path(), &json!({})).unwrap_err();
        assert!(matches!(error, Error::OutputLocked { .. }), "{error}");
        drop(held);
        RunFolder::create(folder.path(), &json!({})).unwrap();
    }

    #[test]
    fn different_settings_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        RunFolder::create(folder.path(), &json!({"a": {"b": 1}, "c": 2})).unwrap();
        std::fs::write(folder.path().join(CHECKPOINT_FILE), "").unwrap();
        let error =
            RunFolder::open_for_resume(folder.path(), &json!({"a": {"b": 3}, "c": 2})).unwrap_err();
        assert!(error.to_string().ends_with("\n  a.b: then 1, now 3"), "{error}");
        assert_eq!(error.advice(), Some(Advice::ResumeWithSameSettings { adapter_folder: None }));
        RunFolder::open_for_resume(folder.path(), &json!({"a": {"b": 1}, "c": 2})).unwrap();
    }

    #[test]
    fn a_changed_length_is_refused_with_a_hint_to_start_from_the_adapter() {
        let folder = tempfile::tempdir().unwrap();
        RunFolder::create(folder.path(), &json!({"length": {"steps": 3}})).unwrap();
        std::fs::write(folder.path().join(CHECKPOINT_FILE), "").unwrap();
        std::fs::write(folder.path().join(SETTINGS_FILE), "").unwrap();
        let longer = json!({"length": {"steps": 9}});
        let error = RunFolder::open_for_resume(folder.path(), &longer).unwrap_err();
        let told = "length.steps: then 3, now 9\n  (the length decides the learning rate of every \
                    step, of those that are done too)";
        assert!(error.to_string().ends_with(told), "{error}");
        let learned = Some(folder.path().to_owned());
        assert_eq!(
            error.advice(),
            Some(Advice::ResumeWithSameSettings { adapter_folder: learned })
        );
    }

    #[test]
    fn f32_settings_compare_equal_after_a_round_trip() {
        #[derive(Serialize)]
        struct Settings {
            beta: f32,
        }
        let folder = tempfile::tempdir().unwrap();
        RunFolder::create(folder.path(), &Settings { beta: 0.9 }).unwrap();
        std::fs::write(folder.path().join(CHECKPOINT_FILE), "").unwrap();
        RunFolder::open_for_resume(folder.path(), &Settings { beta: 0.9 }).unwrap();
    }

    #[test]
    fn resume_needs_a_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        RunFolder::create(folder.path(), &json!({})).unwrap();
        let error = RunFolder::open_for_resume(folder.path(), &json!({})).unwrap_err();
        assert!(error.to_string().ends_with("it has no checkpoint.safetensors"), "{error}");
    }

    #[test]
    fn the_log_is_truncated_to_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let output = RunFolder::create(folder.path(), &json!({})).unwrap();
        for step in 1..=3 {
            output.log(&json!({"step": step})).unwrap();
        }
        output.truncate_log_after(2).unwrap();
        let text = std::fs::read_to_string(folder.path().join(METRICS_FILE)).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2}\n");
    }
}
