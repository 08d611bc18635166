//! The folder of a run: its files, its lock, its log.
//!
//! ```text
//! adapter_config.json  adapter_model.safetensors   the adapter in PEFT's format
//! run.json                                          settings, to repeat and to resume the run
//! metrics.jsonl                                     one line per step and evaluation
//! checkpoint.safetensors                            state to resume from
//! prefix_cache.bin                                  hidden states below the adapted layers, until the run ends
//! run.lock                                          locked while a run uses the folder; empty
//! ```

use std::fs::{DirEntry, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use adaption_prompt::files::SETTINGS_FILE;
use checkpoint::files::{self, FileLock};
use serde::Serialize;
use serde_json::Value;

use super::run_record::{self, RUN_FILE};
use crate::checkpoint::CHECKPOINT_FILE;
use crate::error::{Error, Result};

/// File of the log in the folder of a run.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// File of a frozen-prefix cache on disk.
pub(crate) const PREFIX_CACHE_FILE: &str = "prefix_cache.bin";
/// The locked file.
const LOCK_FILE: &str = "run.lock";

/// The folder of a run.
#[derive(Debug)]
pub(crate) struct RunFolder {
    folder: PathBuf,
    _lock: FileLock,
}

impl RunFolder {
    /// Creates the folder of a new run and writes its settings. A non-empty folder is left untouched.
    pub fn create(folder: &Path, record: &impl Serialize) -> Result<Self> {
        if folder.exists() && !folder.is_dir() {
            return Err(Error::OutputIsFile { path: folder.into() });
        }
        let write_error = |source| checkpoint::Error::Write { path: folder.into(), source };
        std::fs::create_dir_all(folder).map_err(write_error)?;
        let is_lock = |entry: &DirEntry| entry.file_name() == LOCK_FILE;
        let check_empty = || {
            let mut entries = std::fs::read_dir(folder).map_err(write_error)?;
            if entries.all(|entry| entry.is_ok_and(|entry| is_lock(&entry))) {
                return Ok(());
            }
            let is_run = folder.join(RUN_FILE).exists();
            let contents = if is_run { "holds another run" } else { "holds files" };
            Err(Error::OutputNotEmpty { path: folder.into(), contents })
        };
        // Before locking, to leave a foreign folder untouched, and again after it, because another
        // run may have started in between.
        check_empty()?;
        let run = Self { folder: folder.into(), _lock: lock(folder)? };
        check_empty()?;
        run_record::write(folder, record)?;
        Ok(run)
    }

    /// Opens the folder of an interrupted run and checks that its settings are equal.
    pub fn open_for_resume(folder: &Path, record: &impl Serialize) -> Result<Self> {
        for needed in [RUN_FILE, CHECKPOINT_FILE] {
            if !folder.join(needed).exists() {
                let reason = format!("it has no {needed}");
                return Err(Error::NothingToResume { path: folder.into(), reason });
            }
        }
        let run = Self { folder: folder.into(), _lock: lock(folder)? };
        run_record::check(folder, record, folder.join(SETTINGS_FILE).exists())?;
        Ok(run)
    }

    /// Path of the checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.folder.join(CHECKPOINT_FILE)
    }

    fn metrics(&self) -> PathBuf {
        self.folder.join(METRICS_FILE)
    }

    /// Appends a line to the log.
    pub fn log(&self, entry: &impl Serialize) -> Result<()> {
        let path = self.metrics();
        let line = serde_json::to_string(entry).expect("plain JSON");
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
            .map_err(|source| checkpoint::Error::Write { path, source })?;
        Ok(())
    }

    /// Removes the settings: a run without a first checkpoint cannot be resumed.
    pub fn discard(&self) {
        // The run has failed already; a second error would add nothing.
        let _ = std::fs::remove_file(self.folder.join(RUN_FILE));
    }

    /// Empties the log.
    pub fn clear_log(&self) -> Result<()> {
        files::write(&self.metrics(), b"")?;
        Ok(())
    }

    /// Removes the log entries after a step, because the resumed run repeats those steps.
    pub fn truncate_log_after(&self, step: usize) -> Result<()> {
        let path = self.metrics();
        let Ok(text) = std::fs::read_to_string(&path) else {
            return Ok(());
        };
        let kept = text.lines().filter(|line| {
            serde_json::from_str::<Value>(line)
                .is_ok_and(|entry| entry["step"].as_u64().is_some_and(|at| at <= step as u64))
        });
        let kept = kept.map(|line| format!("{line}\n")).collect::<String>();
        files::write(&path, kept.as_bytes())?;
        Ok(())
    }
}

/// Locks the lock file of a folder.
fn lock(folder: &Path) -> Result<FileLock> {
    let lock = files::try_lock(&folder.join(LOCK_FILE))?;
    lock.ok_or_else(|| Error::OutputLocked { path: folder.into() })
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
        let lock = lock(folder.path()).unwrap();
        let error = RunFolder::create(folder.path(), &json!({})).unwrap_err();
        assert!(matches!(error, Error::OutputLocked { .. }), "{error}");
        drop(lock);
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
        let expected = "length.steps: then 3, now 9\n  (the length determines the learning rate of every \
                        step, including completed ones)";
        assert!(error.to_string().ends_with(expected), "{error}");
        let adapter_folder = Some(folder.path().to_owned());
        assert_eq!(error.advice(), Some(Advice::ResumeWithSameSettings { adapter_folder }));
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
