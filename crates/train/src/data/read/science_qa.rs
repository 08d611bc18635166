//! A ScienceQA folder ─► the rows of a split.
//!
//! ```text
//! problems.json     each problem by its number
//! pid_splits.json   the problem numbers of train, val, test, trainval, minival, minitest
//! images/{train,val,test}/{number}/image.png
//! ```
//!
//! Source: <https://github.com/lupantech/ScienceQA>.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::record_origin::RecordOrigin;
use super::require_rows;
use super::row_report::RowReport;
use super::science_qa_problem::ScienceQaProblem;
use crate::data::Instruction;
use crate::error::{Error, Result};

/// The format of a folder, for hints.
const FORMAT_HINT: &str = "a ScienceQA folder contains problems.json, pid_splits.json and \
    images/{train,val,test}, as its authors publish them";

const PROBLEMS_FILE: &str = "problems.json";
const SPLITS_FILE: &str = "pid_splits.json";

/// Splits with an image folder; all other splits are made of these.
const IMAGE_SPLITS: [&str; 3] = ["train", "val", "test"];

/// An opened ScienceQA folder.
pub struct ScienceQa {
    folder: PathBuf,
    /// Problems by number, each parsed when it is used.
    problems: Map<String, Value>,
    /// Problem numbers by split.
    splits: Map<String, Value>,
    /// The folder that contains `train`, `val` and `test`.
    image_folder: PathBuf,
}

impl ScienceQa {
    /// Opens a folder with `problems.json` and `pid_splits.json`. Images are expected in
    /// `images/{train,val,test}`, or in `{train,val,test}` next to the two files.
    ///
    /// # Errors
    /// [`data::Error::Read`](::data::Error::Read) for a missing file,
    /// [`data::Error::Record`](::data::Error::Record) for a file in another format.
    pub fn open(folder: &Path) -> Result<Self> {
        let has_images = |root: &Path| IMAGE_SPLITS.iter().any(|split| root.join(split).is_dir());
        let mut image_folder = folder.join("images");
        if !has_images(&image_folder) && has_images(folder) {
            image_folder = folder.into();
        }
        Ok(Self {
            problems: read_json(&folder.join(PROBLEMS_FILE))?,
            splits: read_json(&folder.join(SPLITS_FILE))?,
            image_folder,
            folder: folder.into(),
        })
    }

    /// Whether a folder looks like a ScienceQA folder.
    pub fn is_science_qa_folder(folder: &Path) -> bool {
        folder.join(PROBLEMS_FILE).is_file()
    }

    /// Reads images from `{folder}/{train,val,test}/{pid}` instead.
    pub fn with_image_folder(self, folder: &Path) -> Self {
        Self { image_folder: folder.into(), ..self }
    }

    /// The rows of a split: `train`, `val`, `test`, `trainval`, `minival`, `minitest`, or any other
    /// that `pid_splits.json` lists. Images are not opened.
    ///
    /// # Errors
    /// [`Error::Data`] for an unknown split, and with the number of a problem that is missing or
    /// invalid; [`Error::NoRows`].
    pub fn rows(&self, split: &str) -> Result<Vec<Instruction>> {
        let list = self.folder.join(SPLITS_FILE);
        let Some(pids) = self.splits.get(split) else {
            let available = self.splits.keys().cloned().collect();
            return Err(unknown_split(list, split, available));
        };
        let split_origin = RecordOrigin {
            path: &list,
            location: format!("split {split}"),
            format_hint: FORMAT_HINT,
            image_folder: None,
        };
        let Value::Array(pids) = pids else {
            return Err(split_origin.error("it is not a list"));
        };
        let path = self.folder.join(PROBLEMS_FILE);
        let row = |pid: &Value| {
            let pid =
                pid.as_str().ok_or_else(|| split_origin.error(format!("{pid} is not a text")))?;
            let problem = self.problems.get(pid).ok_or_else(|| {
                split_origin.error(format!("problem {pid} is not in {PROBLEMS_FILE}"))
            })?;
            let origin = RecordOrigin {
                path: &path,
                location: format!("problem {pid}"),
                format_hint: FORMAT_HINT,
                image_folder: Some(&self.image_folder),
            };
            let problem = ScienceQaProblem::deserialize(problem)
                .map_err(|error| origin.error(error.to_string()))?;
            problem.into_row(pid, &origin)
        };
        let rows = pids.iter().map(row).collect::<Result<Vec<_>>>()?;
        require_rows(rows.len(), &list, &RowReport::default())?;
        Ok(rows)
    }
}

fn unknown_split(path: PathBuf, requested: &str, available: Vec<String>) -> Error {
    ::data::Error::UnknownSplit { path, requested: requested.into(), available }.into()
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = ::data::read_text(path)?;
    serde_json::from_str(&text).map_err(|error| {
        let location = format!("line {}", error.line());
        let origin = RecordOrigin { path, location, format_hint: FORMAT_HINT, image_folder: None };
        origin.error(format!("not ScienceQA's format: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use diagnostic::Diagnostic;
    use serde_json::json;
    use tempfile::TempDir;

    use super::super::read_options::ReadOptions;
    use super::*;

    fn folder(problems: &Value, splits: &Value) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(PROBLEMS_FILE), problems.to_string()).unwrap();
        std::fs::write(folder.path().join(SPLITS_FILE), splits.to_string()).unwrap();
        folder
    }

    fn problem() -> Value {
        json!({
            "question": "Which is larger?", "choices": ["a flea", "a cow"], "answer": 1,
            "hint": "", "image": "image.png", "grade": "grade7", "subject": "natural science",
            "split": "val"
        })
    }

    #[test]
    fn images_are_found_in_either_folder() {
        let image = |created: &[&str]| {
            let folder = folder(&json!({"7": problem()}), &json!({"val": ["7"]}));
            for name in created {
                std::fs::create_dir_all(folder.path().join(name)).unwrap();
            }
            let image =
                ScienceQa::open(folder.path()).unwrap().rows("val").unwrap()[0].image.clone();
            Path::new(&image.unwrap()).strip_prefix(folder.path()).unwrap().to_path_buf()
        };
        assert_eq!(image(&["images/val"]), Path::new("images/val/7/image.png"));
        assert_eq!(image(&["val"]), Path::new("val/7/image.png"));
        assert_eq!(image(&["val", "images/val"]), Path::new("images/val/7/image.png"));
        assert_eq!(image(&[]), Path::new("images/val/7/image.png"));
    }

    #[test]
    fn an_error_in_the_splits_is_reported() {
        let splits = json!({"train": ["8"], "val": [7], "test": "7", "minival": []});
        let folder = folder(&json!({"7": problem()}), &splits);
        let data = ScienceQa::open(folder.path()).unwrap();
        let message = |split: &str| {
            let message = data.rows(split).unwrap_err().to_string();
            message.split_once("pid_splits.json").unwrap().1.to_string()
        };
        assert_eq!(message("dev"), ": no split `dev`, only train, val, test, minival");
        assert_eq!(message("train"), ", split train: problem 8 is not in problems.json");
        assert_eq!(message("val"), ", split val: 7 is not a text");
        assert_eq!(message("test"), ", split test: it is not a list");
        assert!(message("minival").starts_with(": no rows to train on"));
    }

    #[test]
    fn a_malformed_problem_is_reported() {
        let problems = json!({"7": {"question": "Which?"}, "8": {"choices": "a"}});
        let folder = folder(&problems, &json!({"train": ["7"], "val": ["8"]}));
        let data = ScienceQa::open(folder.path()).unwrap();
        for (split, expected) in
            [("train", "problem 7: missing field"), ("val", "problem 8: inval")]
        {
            let message = data.rows(split).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn a_folder_reads_its_train_split_by_default() {
        let splits = json!({"train": ["7"], "test": ["8"]});
        let folder = folder(&json!({"7": problem(), "8": {}}), &splits);
        let options = ReadOptions { image_folder: Some(Path::new("/p")), ..Default::default() };
        let rows = crate::read_rows(folder.path(), &options).unwrap().rows;
        assert_eq!(rows.len(), 1);
        // An image is in the folder of its problem's split, not of the requested one.
        assert_eq!(Path::new(rows[0].image.as_ref().unwrap()), Path::new("/p/val/7/image.png"));
    }

    #[test]
    fn a_folder_with_a_broken_or_missing_file_is_refused() {
        let folder = folder(&json!({}), &json!({}));
        std::fs::write(folder.path().join(PROBLEMS_FILE), "[").unwrap();
        let error = crate::read_rows(folder.path(), &ReadOptions::default()).unwrap_err();
        assert!(error.to_string().contains("line 1: not ScienceQA's format"), "{error}");
        assert_eq!(error.advice(), Some(FORMAT_HINT.into()));
        std::fs::write(folder.path().join(PROBLEMS_FILE), "{}").unwrap();
        std::fs::remove_file(folder.path().join(SPLITS_FILE)).unwrap();
        assert!(matches!(
            ScienceQa::open(folder.path()),
            Err(Error::Data(::data::Error::Read { .. }))
        ));
    }
}
