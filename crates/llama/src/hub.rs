//! Downloads from the Hugging Face Hub: `owner/name` ─► cache ─► a folder that [`ModelSource`] opens.
//!
//! The cache is that of Python's `huggingface_hub`. A model that is complete in the cache needs no network
//! access.
//!
//! [`ModelSource`]: crate::ModelSource

use std::path::{Path, PathBuf};

use checkpoint::folder::{WEIGHT_FILES, is_index, shard_names};
use checkpoint::gguf::part_names;
use hub::{Client, Failure, Repo, Repository};
use text::{OPTIONAL_FILES, TOKENIZER_FILES};

use crate::error::{Error, Result};

pub use hub::FetchProgress;

/// A client of the Hub with its cache.
#[derive(Debug, Clone)]
pub struct Hub(Client);

impl Hub {
    /// A client for `endpoint`, such as `https://huggingface.co`, with the cache folder `cache`.
    /// `token` gives access to private and gated repositories.
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

    /// Whether `text` is an id for [`fetch`](Self::fetch): `owner/name` or `owner/name/file.gguf`.
    pub fn is_id(text: &str) -> bool {
        parse(text).is_some()
    }

    /// Downloads a model, unless it is cached, and returns its path: the folder of `owner/name`, or
    /// the file of `owner/name/file.gguf`.
    ///
    /// `progress` is called for every received chunk.
    ///
    /// # Errors
    /// [`Error::Hub`] with the file that could not be downloaded; [`checkpoint::Error::Format`] for an
    /// invalid index of shards.
    pub fn fetch(&self, id: &str, progress: &mut dyn FnMut(&FetchProgress)) -> Result<PathBuf> {
        let Some((repo, file)) = parse(id) else {
            return Err(Error::Hub {
                repo: id.into(),
                file: "the model".into(),
                reason: "expected owner/name or owner/name/file.gguf".into(),
            });
        };
        let repository = self.0.repository(Repo::model(repo.into()));
        let mut fetch = Fetch { id: repo, repository, progress };
        match file {
            Some(file) => fetch.gguf(file),
            None => fetch.folder(),
        }
    }
}

/// Repository and file of an id.
fn parse(id: &str) -> Option<(&str, Option<&str>)> {
    let is_name = |name: &str| {
        !name.starts_with('.')
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    if !id.split('/').all(is_name) {
        return None;
    }
    let (owner, rest) = id.split_once('/')?;
    let Some((name, file)) = rest.split_once('/') else {
        return Some((id, None));
    };
    let is_gguf = Path::new(file).extension().is_some_and(|extension| extension == "gguf");
    is_gguf.then_some((&id[..owner.len() + 1 + name.len()], Some(file)))
}

/// One call of [`Hub::fetch`].
struct Fetch<'a> {
    id: &'a str,
    repository: Repository,
    progress: &'a mut dyn FnMut(&FetchProgress),
}

impl Fetch<'_> {
    /// All files of a model. Weights come last: a cache that has them has everything else.
    fn folder(&mut self) -> Result<PathBuf> {
        if let Some(folder) = self.complete_folder() {
            return Ok(folder);
        }
        let config = self.file("config.json")?;
        let folder = config.parent().expect("files are in a folder").to_owned();
        let mut files = self.tokenizer()?;
        for name in OPTIONAL_FILES {
            files.extend(self.optional(name)?);
        }
        files.extend(self.weights()?);
        // Files are requested one by one; a push in between gives files of different commits.
        if files.iter().any(|file| file.parent() != Some(&folder)) {
            return Err(self
                .failed("all files", "the repository has changed during the download: try again"));
        }
        Ok(folder)
    }

    /// The weights that [`open_weights`](checkpoint::folder::open_weights) opens: one file, or shards.
    fn weights(&mut self) -> Result<Vec<PathBuf>> {
        for name in WEIGHT_FILES {
            let Some(file) = self.optional(name)? else { continue };
            if !is_index(name) {
                return Ok(vec![file]);
            }
            let shards = shard_names(&file)?;
            return shards.iter().map(|shard| self.file(shard)).collect();
        }
        // None of the files exists: the error names the most common one.
        self.file(WEIGHT_FILES[0]).map(|file| vec![file])
    }

    /// The tokenizer's files, in the first format that the repository has.
    fn tokenizer(&mut self) -> Result<Vec<PathBuf>> {
        for names in TOKENIZER_FILES {
            let mut files = Vec::new();
            for name in names {
                files.extend(self.optional(name)?);
            }
            if files.len() == names.len() {
                return Ok(files);
            }
        }
        Err(self
            .failed("tokenizer.json", "not found (HTTP 404), and no tokenizer in another format"))
    }

    /// A GGUF file, with its other parts if it is split.
    fn gguf(&mut self, name: &str) -> Result<PathBuf> {
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        let Some(parts) = part_names(file) else { return self.file(name) };
        let mut paths = Vec::new();
        for part in parts {
            let name = if folder.is_empty() { part } else { format!("{folder}/{part}") };
            paths.push(self.file(&name)?);
        }
        Ok(paths.swap_remove(0))
    }

    /// The cached folder, if it is complete.
    fn complete_folder(&self) -> Option<PathBuf> {
        let config = self.repository.cached("config.json")?;
        let is_cached =
            |names: &&[&str]| names.iter().all(|name| self.repository.cached(name).is_some());
        TOKENIZER_FILES.iter().find(|names| is_cached(names))?;
        let (name, file) =
            WEIGHT_FILES.iter().find_map(|name| Some((name, self.repository.cached(name)?)))?;
        let is_whole = !is_index(name)
            || shard_names(&file).is_ok_and(|shards| {
                shards.iter().all(|shard| self.repository.cached(shard).is_some())
            });
        is_whole.then(|| config.parent().map(Path::to_owned))?
    }

    /// A required file.
    fn file(&mut self, name: &str) -> Result<PathBuf> {
        self.get(name).map_err(|failure| {
            let reason = match failure {
                Failure::Status(404) => "not found (HTTP 404): no such repository or file".into(),
                Failure::Status(401) => "HTTP 401: no such repository, or it needs a token".into(),
                Failure::Status(403) => {
                    "HTTP 403: the token has no access, or the license was not accepted".into()
                }
                other => other.to_string(),
            };
            self.failed(name, reason)
        })
    }

    /// An optional file.
    fn optional(&mut self, name: &str) -> Result<Option<PathBuf>> {
        match self.get(name) {
            Ok(path) => Ok(Some(path)),
            Err(Failure::Status(404)) => Ok(None),
            Err(failure) => Err(self.failed(name, failure.to_string())),
        }
    }

    fn get(&mut self, name: &str) -> Result<PathBuf, Failure> {
        self.repository.fetch(name, self.progress)
    }

    fn failed(&self, file: &str, reason: impl Into<String>) -> Error {
        Error::Hub { repo: self.id.into(), file: file.into(), reason: reason.into() }
    }
}

fn no_client(failure: Failure) -> Error {
    Error::Hub { repo: "client".into(), file: "anything".into(), reason: failure.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_a_repository_or_a_file_in_one() {
        assert_eq!(parse("owner/na.me"), Some(("owner/na.me", None)));
        assert_eq!(parse("o/n/f.gguf"), Some(("o/n", Some("f.gguf"))));
        assert_eq!(parse("o/n/sub/f.gguf"), Some(("o/n", Some("sub/f.gguf"))));
        for no in ["name", "o/n/f.bin", "../n", "o/..", "/n", "o/", "o//f.gguf", "C:\\n/x", ""] {
            assert_eq!(parse(no), None, "{no}");
        }
    }
}
