//! `checkpoints/step-50/`: the adapter and the state of earlier steps.
//!
//! Each folder has the files of an adapter, or of a whole model, so that other commands can use it, and the
//! checkpoint of that step. A folder is written under a temporary name and renamed.

use std::path::{Path, PathBuf};

use crate::checkpoint::CHECKPOINT_FILE;
use crate::error::Result;

/// Folder of the earlier checkpoints in the folder of a run.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";

/// The earlier checkpoints of a run.
#[derive(Debug)]
pub(crate) struct KeptCheckpoints {
    /// `checkpoints`, which need not exist.
    folder: PathBuf,
    /// The checkpoint that was saved last.
    latest: PathBuf,
}

impl KeptCheckpoints {
    /// Those of the run in a folder.
    pub fn of(run: &Path) -> Self {
        Self { folder: run.join(CHECKPOINTS_FOLDER), latest: run.join(CHECKPOINT_FILE) }
    }

    /// The folder of a step.
    pub fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step}"))
    }

    /// Keeps the checkpoint that was just saved, with the weights that `save` writes into a folder.
    pub fn keep(&self, step: usize, save: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let (path, temporary) = (self.path(step), self.folder.join(".writing-step.tmp"));
        let write_error = |source| checkpoint::Error::Write { path: path.clone(), source };
        self.remove_temporary();
        std::fs::create_dir_all(&temporary).map_err(write_error)?;
        let kept = save(&temporary).and_then(|()| {
            let copy = temporary.join(CHECKPOINT_FILE);
            // The next checkpoint replaces the file and does not write into it: a link is a copy.
            std::fs::hard_link(&self.latest, &copy)
                .or_else(|_| std::fs::copy(&self.latest, &copy).map(|_bytes| ()))
                .map_err(write_error)?;
            if path.exists() {
                // A resumed run saves the same again.
                std::fs::remove_dir_all(&path).map_err(write_error)?;
            }
            Ok(std::fs::rename(&temporary, &path).map_err(write_error)?)
        });
        kept.inspect_err(|_| self.remove_temporary())
    }

    /// Removes all but the checkpoints of the last `count` steps up to `step` and of the step `best`.
    pub fn prune(&self, step: usize, count: usize, best: Option<usize>) {
        let mut steps = self.steps();
        // After a resumption there may be later ones, which will be saved again.
        steps.retain(|&kept| kept <= step);
        let last = steps.split_off(steps.len().saturating_sub(count));
        for kept in self.steps() {
            if !last.contains(&kept) && Some(kept) != best {
                // A folder that cannot be removed only takes space.
                let _ = std::fs::remove_dir_all(self.path(kept));
            }
        }
    }

    /// The steps that have a folder, in ascending order.
    pub fn steps(&self) -> Vec<usize> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut steps = names
            .filter_map(|name| name.strip_prefix("step-")?.parse().ok())
            .collect::<Vec<usize>>();
        steps.sort_unstable();
        steps
    }

    /// Removes what a killed run left.
    pub fn remove_temporary(&self) {
        checkpoint::files::remove_temporary(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(kept: &KeptCheckpoints, step: usize) {
        // Renamed into place, as checkpoints are: the kept one is a link to the old file.
        checkpoint::files::write(&kept.latest, format!("state {step}").as_bytes()).unwrap();
        let save = |folder: &Path| {
            std::fs::write(folder.join("adapter"), format!("adapter {step}")).unwrap();
            Ok(())
        };
        kept.keep(step, save).unwrap();
    }

    #[test]
    fn the_last_checkpoints_and_the_best_are_kept() {
        let run = tempfile::tempdir().unwrap();
        let kept = KeptCheckpoints::of(run.path());
        assert!(kept.steps().is_empty());
        for step in [5, 10, 15, 100] {
            keep(&kept, step);
            kept.prune(step, 2, Some(5));
        }
        assert_eq!(kept.steps(), [5, 15, 100]);
        let text = |name: &str| std::fs::read_to_string(kept.path(15).join(name)).unwrap();
        assert_eq!(
            (text("adapter"), text(CHECKPOINT_FILE)),
            ("adapter 15".into(), "state 15".into())
        );
    }

    #[test]
    fn a_step_that_is_repeated_replaces_its_checkpoint_and_later_ones_do_not_count() {
        let run = tempfile::tempdir().unwrap();
        let kept = KeptCheckpoints::of(run.path());
        for step in [5, 10, 15] {
            keep(&kept, step);
        }
        keep(&kept, 10);
        kept.prune(10, 2, None);
        assert_eq!(kept.steps(), [5, 10]);
    }

    #[test]
    fn a_checkpoint_that_cannot_be_saved_leaves_the_others() {
        let run = tempfile::tempdir().unwrap();
        let kept = KeptCheckpoints::of(run.path());
        keep(&kept, 5);
        let error = crate::Error::OutputIsFile { path: run.path().into() };
        kept.keep(10, |_| Err(error)).unwrap_err();
        assert_eq!(kept.steps(), [5]);
        assert_eq!(std::fs::read_dir(run.path().join(CHECKPOINTS_FOLDER)).unwrap().count(), 1);
    }
}
