//! A folder of data files ─► the files of a split, in order.
//!
//! ```text
//! data/train-00000-of-00002.parquet  ─┐
//! data/train-00001-of-00002.parquet  ─┴─► the split `train`
//! data/validation-00000-of-00001.parquet
//! README.md, images/...                   no data
//! ```

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::names::join_first;

/// Names of data files end so, before the ending of a compression.
const EXTENSIONS: [&str; 6] = ["json", "jsonl", "ndjson", "csv", "tsv", "parquet"];
const COMPRESSIONS: [&str; 3] = ["gz", "zst", "zstd"];
/// Files about a data set, which Hugging Face's tools write.
const NO_DATA: [&str; 5] =
    ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"];

/// Names of each split in file names.
///
/// Source: the file name patterns of <https://huggingface.co/docs/hub/datasets-file-names-and-splits>.
const SPLITS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "val", "dev"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// The data files in a folder and the folders in it, sorted by name. If names of files tell splits apart,
/// only those of `split`.
///
/// # Errors
/// [`Error::Read`], [`Error::UnknownFormat`] without a data file, [`Error::UnknownSplit`].
pub fn data_files(folder: &Path, split: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut others = Vec::new();
    collect(folder, 0, &mut files, &mut others)?;
    files.sort_unstable();
    if files.is_empty() {
        others.sort_unstable();
        let found = match &others[..] {
            [] => "with nothing in it".into(),
            _ => format!("with {}", join_first(others, 4)),
        };
        return Err(Error::UnknownFormat {
            path: folder.into(),
            reason: format!("a folder without data files and without problems.json, {found}"),
            advice: Some("name the files in it that contain the rows".into()),
        });
    }
    let name =
        |path: &PathBuf| path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
    select_split(files, name, split).map_err(|available| Error::UnknownSplit {
        path: folder.into(),
        requested: split.into(),
        available,
    })
}

/// Adds the data files of a folder, and the names of its other entries.
fn collect(
    folder: &Path,
    depth: usize,
    files: &mut Vec<PathBuf>,
    others: &mut Vec<String>,
) -> Result<()> {
    /// As deep as Hugging Face's layouts: `subset/split/file`.
    const MAX_DEPTH: usize = 3;
    /// A folder of images may have millions of entries.
    const MAX_OTHERS: usize = 1000;
    let read_error = |source| Error::Read { path: folder.into(), source };
    for entry in std::fs::read_dir(folder).map_err(read_error)? {
        let path = entry.map_err(read_error)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() && depth < MAX_DEPTH {
            collect(&path, depth + 1, files, others)?;
        } else if is_data_file(&name) {
            files.push(path);
        } else if others.len() < MAX_OTHERS {
            others.push(name);
        }
    }
    Ok(())
}

/// Whether a file of this name contains data.
pub(crate) fn is_data_file(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let plain = COMPRESSIONS.iter().find_map(|ending| name.strip_suffix(&format!(".{ending}")));
    let plain = plain.unwrap_or(&name);
    let extension = plain.rsplit_once('.').map(|(_, extension)| extension);
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
        && !NO_DATA.contains(&plain.rsplit('/').next().unwrap_or(plain))
}

/// The files of a split by their names; all of them if no name has a split. The error has the splits that
/// there are.
pub(crate) fn select_split<T>(
    files: Vec<T>,
    name: impl Fn(&T) -> String,
    split: &str,
) -> Result<Vec<T>, Vec<String>> {
    let requested = split_name(split);
    let files = files.into_iter().map(|file| (split_of(&name(&file)), file)).collect::<Vec<_>>();
    if files.iter().all(|(split, _)| split.is_none()) {
        return Ok(files.into_iter().map(|(_, file)| file).collect());
    }
    let mut available = files.iter().filter_map(|(split, _)| *split).collect::<Vec<_>>();
    available.sort_unstable();
    available.dedup();
    let selected = files.into_iter().filter(|(split, _)| *split == Some(requested));
    let selected = selected.map(|(_, file)| file).collect::<Vec<_>>();
    if selected.is_empty() {
        return Err(available.into_iter().map(str::to_owned).collect());
    }
    Ok(selected)
}

/// The name of a split that Hugging Face's tools use.
pub(crate) fn split_name(split: &str) -> &str {
    let found = SPLITS.iter().find(|(_, names)| names.contains(&split));
    found.map_or(split, |(name, _)| name)
}

/// The split that a path names: a whole word of the file's name, or of the nearest folder with one.
fn split_of(path: &str) -> Option<&'static str> {
    path.rsplit(['/', '\\'])
        .find_map(|part| {
            let part = part.to_ascii_lowercase();
            let mut words = part.split(|c: char| !c.is_ascii_alphanumeric());
            words.find_map(|word| SPLITS.iter().find(|(_, names)| names.contains(&word)))
        })
        .map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn files(names: &[&str], split: &str) -> Result<Vec<String>> {
        let folder = folder(names);
        let found = data_files(folder.path(), split)?.into_iter();
        let name = |path: PathBuf| {
            path.strip_prefix(folder.path()).unwrap().to_string_lossy().replace('\\', "/")
        };
        Ok(found.map(name).collect())
    }

    #[test]
    fn shards_are_read_in_the_order_of_their_names() {
        let names =
            ["b.jsonl.gz", "a.jsonl", "c.csv.zst", "README.md", "images/1.png", ".hidden.json"];
        assert_eq!(files(&names, "train").unwrap(), ["a.jsonl", "b.jsonl.gz", "c.csv.zst"]);
    }

    #[test]
    fn a_split_is_a_word_of_the_file_name_or_of_its_folder() {
        let names = [
            "data/train-00001-of-00002.parquet",
            "data/train-00000-of-00002.parquet",
            "data/validation-00000-of-00001.parquet",
            "dataset_info.json",
            "en/test/0000.parquet",
        ];
        let train = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"];
        assert_eq!(files(&names, "train").unwrap(), train);
        assert_eq!(files(&names, "val").unwrap(), [names[2]]);
        assert_eq!(files(&names, "test").unwrap(), [names[4]]);
        let error = files(&names, "extra").unwrap_err().to_string();
        assert!(error.ends_with("no split `extra`, only test, train, validation"), "{error}");
        // `latest` and `trained` are no splits.
        assert_eq!(files(&["latest.json", "trained.json"], "test").unwrap().len(), 2);
    }

    #[test]
    fn a_folder_without_data_says_what_is_in_it() {
        let error = files(&["a.txt", "b.png"], "train").unwrap_err().to_string();
        assert!(
            error.contains(
                "a folder without data files and without problems.json, with a.txt, b.png"
            ),
            "{error}"
        );
        let empty = files(&[], "train").unwrap_err().to_string();
        assert!(empty.contains("with nothing in it"), "{empty}");
    }
}
