//! Data sets of the Hugging Face Hub ─► their data files in the cache.
//!
//! ```text
//! hub:owner/name          the Parquet files that the Hub makes: refs/convert/parquet, subset/split/0000.parquet
//! hub:owner/name@v1.0     the data files of that revision
//! ```
//!
//! The cache is that of Python's `huggingface_hub`. A split that is complete in the cache needs no network
//! access: the list of its files is kept next to them.

use std::path::{Path, PathBuf};

use hub::{Client, Failure, Repo, RepoType, Repository};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::folder::{is_data_file, select_split, split_name};
use crate::source::HubSource;

pub use hub::FetchProgress;

/// The branch with the Parquet files that the Hub makes of every data set.
///
/// Source: <https://huggingface.co/docs/dataset-viewer/parquet>.
const PARQUET_BRANCH: &str = "refs/convert/parquet";

/// A client of the Hub with its cache.
#[derive(Debug, Clone)]
pub struct Hub(Client);

/// The files of a split, kept in the cache once all of them are there.
#[derive(Serialize, Deserialize)]
struct CompleteSplit {
    /// Paths below the folder of the data set in the cache.
    files: Vec<PathBuf>,
}

impl Hub {
    /// A client for `endpoint`, such as `https://huggingface.co`, with the cache folder `cache`.
    /// `token` gives access to private and gated data sets.
    ///
    /// # Errors
    /// [`Error::Hub`] if the client cannot be created.
    pub fn new(
        endpoint: impl Into<String>,
        cache: impl Into<PathBuf>,
        token: Option<String>,
    ) -> Result<Self> {
        Client::new(endpoint, cache, token).map(Self).map_err(no_client)
    }

    /// A client with the endpoint, cache and token of Hugging Face's tools: `HF_ENDPOINT`, `HF_HOME`,
    /// `HF_TOKEN`, and the token that `hf auth login` stored.
    ///
    /// Nothing else in this crate depends on environment variables.
    ///
    /// # Errors
    /// [`Error::Hub`] if the client cannot be created.
    pub fn from_env() -> Result<Self> {
        Client::from_env().map(Self).map_err(no_client)
    }

    /// Downloads the files of a split, unless they are cached, and returns their paths in order. `split` is
    /// used if the source names none.
    ///
    /// `progress` is called for every received chunk.
    ///
    /// # Errors
    /// [`Error::Hub`] with the file that could not be downloaded; [`Error::UnknownSplit`].
    pub fn fetch(
        &self,
        source: &HubSource,
        split: &str,
        progress: &mut dyn FnMut(&FetchProgress),
    ) -> Result<Vec<PathBuf>> {
        let split = split_name(source.split.as_deref().unwrap_or(split));
        let folder = self.repository(source, "main").folder().to_owned();
        let list = folder.join("splits").join(list_name(source, split));
        if let Some(files) = complete_split(&folder, &list) {
            return Ok(files);
        }
        let (revision, names) = self.list(source)?;
        let names = if revision == PARQUET_BRANCH {
            converted_files(names, source, split)?
        } else {
            own_files(names, source, split)?
        };
        let repository = self.repository(source, &revision);
        let fetch = |name: String| {
            repository.fetch(&name, progress).map_err(|failure| failed(source, &name, failure))
        };
        let files = names.into_iter().map(fetch).collect::<Result<Vec<_>>>()?;
        keep_list(&folder, &list, &files);
        Ok(files)
    }

    fn repository(&self, source: &HubSource, revision: &str) -> Repository {
        let (name, revision) = (source.repo.clone(), revision.to_owned());
        self.0.repository(Repo::with_revision(name, RepoType::Dataset, revision))
    }

    /// The revision that has data files, and the names of all its files.
    fn list(&self, source: &HubSource) -> Result<(String, Vec<String>)> {
        let list = |revision: &str| {
            let mut names = self.repository(source, revision).names()?;
            names.retain(|name| is_data_file(name));
            names.sort_unstable();
            Ok::<_, Failure>((revision.to_owned(), names))
        };
        if let Some(revision) = &source.revision {
            return list(revision).map_err(|error| failed(source, "the list of files", error));
        }
        match list(PARQUET_BRANCH) {
            Ok(found) => Ok(found),
            // A data set that the Hub does not convert, such as a private one.
            Err(_) => list("main").map_err(|error| failed(source, "the list of files", error)),
        }
    }
}

/// The files of a split among those that the Hub made, `subset/split/0000.parquet`.
fn converted_files(names: Vec<String>, source: &HubSource, split: &str) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for name in names {
        let parts = name.split('/').collect::<Vec<_>>();
        if let [subset, split, _file] = parts[..] {
            // The Hub converts only the start of a very large split.
            let split = split.strip_prefix("partial-").unwrap_or(split);
            files.push((subset.to_owned(), split.to_owned(), name));
        }
    }
    let distinct = |mut names: Vec<String>| {
        names.sort_unstable();
        names.dedup();
        names
    };
    let subsets = distinct(files.iter().map(|(subset, ..)| subset.clone()).collect());
    let subset = match (&source.subset, &subsets[..]) {
        (Some(subset), _) => subset.clone(),
        (None, [only]) => only.clone(),
        (None, _) => "default".into(),
    };
    if !subsets.contains(&subset) {
        let expected = format!(
            "choose a subset with {}:SUBSET/{split}: {}",
            HubSource { split: None, subset: None, ..source.clone() },
            subsets.join(", ")
        );
        return Err(Error::Hub {
            repo: source.to_string(),
            file: format!("the subset {subset}"),
            reason: if subsets.is_empty() { "it has no Parquet files".into() } else { expected },
        });
    }
    files.retain(|(other, ..)| *other == subset);
    let available = distinct(files.iter().map(|(_, split, _)| split.clone()).collect());
    if !available.iter().any(|other| other == split) {
        return Err(unknown_split(source, split, available));
    }
    Ok(files.into_iter().filter(|(_, other, _)| other == split).map(|(.., name)| name).collect())
}

/// The files of a split among those of the repository itself.
fn own_files(mut names: Vec<String>, source: &HubSource, split: &str) -> Result<Vec<String>> {
    if let Some(subset) = &source.subset {
        names.retain(|name| name.split('/').any(|part| part == subset));
    }
    if names.is_empty() {
        return Err(Error::Hub {
            repo: source.to_string(),
            file: "data files".into(),
            reason: "it has none".into(),
        });
    }
    select_split(names, String::clone, split)
        .map_err(|available| unknown_split(source, split, available))
}

fn unknown_split(source: &HubSource, split: &str, available: Vec<String>) -> Error {
    let path = source.to_string().into();
    Error::UnknownSplit { path, requested: split.into(), available }
}

fn no_client(failure: Failure) -> Error {
    Error::Hub { repo: "client".into(), file: "anything".into(), reason: failure.to_string() }
}

fn failed(source: &HubSource, file: &str, failure: Failure) -> Error {
    let reason = match failure {
        Failure::Status(404) => "not found (HTTP 404): no such data set, revision or file".into(),
        Failure::Status(401) => "HTTP 401: no such data set, or it needs a token".into(),
        Failure::Status(403) => {
            "HTTP 403: the token has no access, or the terms were not accepted".into()
        }
        other => other.to_string(),
    };
    Error::Hub { repo: source.to_string(), file: file.into(), reason }
}

/// The name of a split's list of files.
fn list_name(source: &HubSource, split: &str) -> String {
    let parts = [source.revision.as_deref(), source.subset.as_deref(), Some(split)];
    let parts = parts.map(|part| part.unwrap_or("").replace('/', "-"));
    format!("{}.json", parts.join("--"))
}

/// The files of a split, if all of them are in the cache.
fn complete_split(folder: &Path, list: &Path) -> Option<Vec<PathBuf>> {
    let text = std::fs::read_to_string(list).ok()?;
    let CompleteSplit { files } = serde_json::from_str(&text).ok()?;
    let files = files.iter().map(|file| folder.join(file)).collect::<Vec<_>>();
    files.iter().all(|file| file.is_file()).then_some(files)
}

/// Keeps the list of a split's files. Without it, they are listed again the next time.
fn keep_list(folder: &Path, list: &Path, files: &[PathBuf]) {
    let files = files.iter().map(|file| file.strip_prefix(folder).map(Path::to_owned));
    let Ok(files) = files.collect::<Result<Vec<_>, _>>() else { return };
    let write = || {
        let parent = list.parent().expect("a list is in a folder");
        std::fs::create_dir_all(parent)?;
        let mut file = tempfile::NamedTempFile::new_in(parent)?;
        serde_json::to_writer(&mut file, &CompleteSplit { files })?;
        file.persist(list)?;
        Ok::<_, std::io::Error>(())
    };
    if let Err(error) = write() {
        tracing::debug!("{}: cannot write: {error}", list.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(source: &str, split: &str) -> Result<Vec<String>> {
        let names = [
            "default/partial-train/0000.parquet",
            "default/test/0000.parquet",
            "default/train_sft/0000.parquet",
            "en/train/0000.parquet",
            "en/train/0001.parquet",
        ];
        let names = names.map(str::to_owned).to_vec();
        let crate::Source::Hub(source) = crate::Source::parse(source.as_ref()).unwrap() else {
            panic!("a data set")
        };
        let split = source.split.clone().unwrap_or(split.into());
        converted_files(names, &source, split_name(&split))
    }

    #[test]
    fn the_default_subset_is_used_if_there_are_several() {
        assert_eq!(converted("hub:o/n", "train").unwrap(), ["default/partial-train/0000.parquet"]);
        let english = ["en/train/0000.parquet", "en/train/0001.parquet"];
        assert_eq!(converted("hub:o/n:en/train", "test").unwrap(), english);
    }

    #[test]
    fn a_split_is_a_whole_name() {
        assert_eq!(converted("hub:o/n:train_sft", "").unwrap(), ["default/train_sft/0000.parquet"]);
        let error = converted("hub:o/n", "val").unwrap_err().to_string();
        assert_eq!(error, "hub:o/n: no split `validation`, only test, train, train_sft");
        let error = converted("hub:o/n:fr/train", "").unwrap_err().to_string();
        assert!(error.contains("the subset fr") && error.contains("default, en"), "{error}");
    }
}
