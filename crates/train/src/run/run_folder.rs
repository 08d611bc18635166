//! The folder of a run: its files, its lock, its log.
//!
//! ```text
//! adapter_config.json  adapter_model.safetensors   the adapter in PEFT's format
//! run.json                                          settings, to repeat and to resume the run
//! metrics.jsonl                                     one line per step and evaluation
//! checkpoint.safetensors                            state to resume from
//! checkpoints/step-50/                              earlier adapters and states, if they are kept
//! learning_rates.json  learning_rates.csv           a learning-rate range test
//! prefix_cache.bin                                  hidden states below the adapted layers, until the run ends
//! run.lock                                          locked while a run uses the folder; empty
//! ```
//!
//! A folder whose run has no first checkpoint yet counts as empty: nothing is lost if it is used again.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use adaption_prompt::files::SETTINGS_FILE;
use checkpoint::files::{self, FileLock};
use serde::Serialize;
use serde_json::Value;

use super::kept_checkpoints::KeptCheckpoints;
use super::learning_rate_curve::{CURVE_CSV_FILE, CURVE_FILE};
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
    /// `None`: another rank writes.
    lock: Option<FileLock>,
}

impl RunFolder {
    /// Creates the folder of a new run and writes its settings. A non-empty folder is left untouched.
    pub fn create(folder: &Path, record: &impl Serialize) -> Result<Self> {
        let run = Self::lock_empty(folder)?;
        run_record::write(folder, record)?;
        Ok(run)
    }

    /// The folder of a run that another rank writes: this one writes nothing.
    pub fn of_other_rank(folder: &Path) -> Self {
        Self { folder: folder.into(), lock: None }
    }

    /// Whether this rank writes into the folder.
    pub fn is_writer(&self) -> bool {
        self.lock.is_some()
    }

    /// Creates and locks a folder without a run in it.
    pub fn lock_empty(folder: &Path) -> Result<Self> {
        // Before locking, to leave a foreign folder untouched, and again after it, because another
        // run may have started in between.
        check_empty(folder)?;
        std::fs::create_dir_all(folder).map_err(write_error(folder))?;
        let run = Self { folder: folder.into(), lock: Some(lock(folder)?) };
        check_empty(folder)?;
        files::remove_temporary(folder);
        Ok(run)
    }

    /// Opens the folder of an interrupted run and checks that its settings are equal.
    pub fn open_for_resume(folder: &Path, record: &impl Serialize) -> Result<Self> {
        check_resumable(folder)?;
        let run = Self { folder: folder.into(), lock: Some(lock(folder)?) };
        run_record::check(folder, record, folder.join(SETTINGS_FILE).exists())?;
        files::remove_temporary(folder);
        KeptCheckpoints::of(folder).remove_temporary();
        Ok(run)
    }

    /// Path of the checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.folder.join(CHECKPOINT_FILE)
    }

    /// Whether the run was killed before its first checkpoint.
    pub fn has_checkpoint(&self) -> bool {
        self.checkpoint().exists()
    }

    /// The earlier checkpoints.
    pub fn kept_checkpoints(&self) -> KeptCheckpoints {
        KeptCheckpoints::of(&self.folder)
    }

    fn metrics(&self) -> PathBuf {
        self.folder.join(METRICS_FILE)
    }

    /// Whether nothing has been logged.
    pub fn is_log_empty(&self) -> bool {
        std::fs::metadata(self.metrics()).map_or(true, |file| file.len() == 0)
    }

    /// Appends a line to the log.
    pub fn log<T: Serialize>(&self, entry: &T) -> Result<()> {
        self.log_all(std::slice::from_ref(entry))
    }

    /// Appends lines to the log: all of them, also if the run is killed.
    pub fn log_all<T: Serialize>(&self, entries: &[T]) -> Result<()> {
        if !self.is_writer() {
            return Ok(());
        }
        let path = self.metrics();
        let line = |entry| serde_json::to_string(entry).expect("plain JSON") + "\n";
        let lines = entries.iter().map(line).collect::<String>();
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(lines.as_bytes())).map_err(|source| {
            // Why a file of a removed folder cannot be written says little.
            let removed = self.check_present().err();
            removed.unwrap_or_else(|| checkpoint::Error::Write { path, source }.into())
        })
    }

    /// Checks that the folder is still that of this run, before something is written into it.
    pub fn check_present(&self) -> Result<()> {
        if !self.is_writer() {
            return Ok(());
        }
        if self.folder.join(LOCK_FILE).exists() && self.folder.join(RUN_FILE).exists() {
            return Ok(());
        }
        Err(Error::OutputRemoved { path: self.folder.clone() })
    }

    /// Removes the settings: a run without a first checkpoint cannot be resumed.
    pub fn discard(&self) {
        // The run has failed already; a second error would add nothing.
        let _ = std::fs::remove_file(self.folder.join(RUN_FILE));
    }

    /// Removes the log entries after a checkpoint, because the resumed run repeats what they are about:
    /// later steps, and the evaluations that `is_repeated` says, by event and step.
    pub fn truncate_log_after(
        &self,
        step: usize,
        is_repeated: impl Fn(&str, usize) -> bool,
    ) -> Result<()> {
        if !self.is_writer() {
            return Ok(());
        }
        let path = self.metrics();
        let Ok(text) = std::fs::read_to_string(&path) else {
            return Ok(());
        };
        let is_kept = |entry: Value| {
            let event = entry["event"].as_str().unwrap_or_default();
            let at = entry["step"].as_u64().map(|at| at as usize);
            at.is_some_and(|at| at <= step && !is_repeated(event, at))
        };
        // A killed run may leave the start of a line.
        let kept = text.lines().filter(|line| serde_json::from_str(line).is_ok_and(&is_kept));
        let kept = kept.map(|line| format!("{line}\n")).collect::<String>();
        files::write(&path, kept.as_bytes())?;
        Ok(())
    }
}

fn write_error(path: &Path) -> impl Fn(std::io::Error) -> checkpoint::Error {
    move |source| checkpoint::Error::Write { path: path.into(), source }
}

/// Checks that a new run may use a folder: it does not exist, or has no files of value.
pub(super) fn check_empty(folder: &Path) -> Result<()> {
    if folder.exists() && !folder.is_dir() {
        return Err(Error::OutputIsFile { path: folder.into() });
    }
    if !folder.exists() {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).map_err(write_error(folder))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    let names = names.collect::<std::io::Result<Vec<_>>>().map_err(write_error(folder))?;
    let is_run = names.iter().any(|name| name == RUN_FILE);
    let is_worthless = |name: &OsStr| {
        let files = [LOCK_FILE, RUN_FILE, CURVE_FILE, CURVE_CSV_FILE];
        files.iter().any(|file| name == *file) || files::is_temporary(name)
    };
    if names.iter().all(|name| is_worthless(name)) {
        return Ok(());
    }
    let contents = if is_run { "holds another run" } else { "holds files" };
    Err(Error::OutputNotEmpty { path: folder.into(), contents })
}

/// Checks that a folder has a run, which may have been killed before its first checkpoint.
fn check_resumable(folder: &Path) -> Result<()> {
    if folder.join(RUN_FILE).exists() {
        return Ok(());
    }
    let reason = format!("it has no {RUN_FILE}");
    Err(Error::NothingToResume { path: folder.into(), reason })
}

/// Checks that a run with these settings could be resumed, without a change of its folder.
pub(super) fn check_resume(folder: &Path, record: &impl Serialize) -> Result<()> {
    check_resumable(folder)?;
    run_record::check(folder, record, folder.join(SETTINGS_FILE).exists())
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
    fn a_run_killed_before_its_first_checkpoint_can_be_resumed_and_restarted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        drop(RunFolder::create(path, &json!({"seed": 1})).unwrap());
        std::fs::write(path.join(".writing-abc.tmp"), "half").unwrap();
        let resumed = RunFolder::open_for_resume(path, &json!({"seed": 1})).unwrap();
        assert!(!resumed.has_checkpoint());
        assert!(!path.join(".writing-abc.tmp").exists());
        drop(resumed);
        drop(RunFolder::create(path, &json!({"seed": 2})).unwrap());
        RunFolder::open_for_resume(path, &json!({"seed": 2})).unwrap();
    }

    #[test]
    fn a_run_killed_while_it_wrote_its_settings_can_be_restarted() {
        let folder = tempfile::tempdir().unwrap();
        for name in [LOCK_FILE, ".writing-abc.tmp"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        RunFolder::create(folder.path(), &json!({})).unwrap();
    }

    #[test]
    fn a_run_with_a_checkpoint_is_not_restarted() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunFolder::create(folder.path(), &json!({})).unwrap());
        std::fs::write(folder.path().join(CHECKPOINT_FILE), "").unwrap();
        let error = RunFolder::create(folder.path(), &json!({})).unwrap_err();
        assert!(error.to_string().ends_with("holds another run already"), "{error}");
    }

    #[test]
    fn settings_that_cannot_change_the_result_may_change() {
        let folder = tempfile::tempdir().unwrap();
        let settings = |steps: usize| json!({"checkpoint_every": steps, "keep": steps, "seed": 1});
        drop(RunFolder::create(folder.path(), &settings(3)).unwrap());
        RunFolder::open_for_resume(folder.path(), &settings(7)).unwrap();
    }

    #[test]
    fn a_removed_folder_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let run = RunFolder::create(&path, &json!({})).unwrap();
        run.check_present().unwrap();
        std::fs::remove_dir_all(&path).unwrap();
        let error = run.check_present().unwrap_err();
        assert!(matches!(error, Error::OutputRemoved { .. }), "{error}");
    }

    #[test]
    fn the_log_is_truncated_to_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let output = RunFolder::create(folder.path(), &json!({})).unwrap();
        for step in 1..=3 {
            output.log(&json!({"step": step})).unwrap();
        }
        output.truncate_log_after(2, |_event, _step| false).unwrap();
        let text = std::fs::read_to_string(folder.path().join(METRICS_FILE)).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"step\":2}\n");
    }

    #[test]
    fn a_repeated_evaluation_is_logged_once() {
        let folder = tempfile::tempdir().unwrap();
        let output = RunFolder::create(folder.path(), &json!({})).unwrap();
        for event in ["step", "eval"] {
            output.log(&json!({"event": event, "step": 2})).unwrap();
        }
        let log = || std::fs::read_to_string(folder.path().join(METRICS_FILE)).unwrap();
        output.truncate_log_after(2, |_event, _step| false).unwrap();
        assert_eq!(log().lines().count(), 2);
        output.truncate_log_after(2, |event, at| event == "eval" && at == 2).unwrap();
        assert_eq!(log(), "{\"event\":\"step\",\"step\":2}\n");
    }
}
