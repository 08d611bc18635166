//! Downloads from the Hugging Face Hub: `owner/name` ─► cache ─► a folder that [`ModelSource`] opens.
//!
//! The cache is that of Python's `huggingface_hub`. A model that is complete in the cache needs no network
//! access.
//!
//! [`ModelSource`]: crate::ModelSource

use std::path::{Path, PathBuf};

use checkpoint::folder::{WEIGHT_FILES, is_index, shard_names};
use checkpoint::gguf::part_names;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo};
use text::{OPTIONAL_FILES, TOKENIZER_FILES};

use crate::error::{Error, Result};

/// Progress of the download of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchProgress {
    /// Name in the repository.
    pub file: String,
    /// Bytes on disk, including those of earlier attempts.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// A client of the Hub with its cache.
#[derive(Debug, Clone)]
pub struct Hub {
    api: Api,
    cache: Cache,
}

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
        let cache = Cache::new(cache.into());
        let builder = ApiBuilder::from_cache(cache.clone()).with_endpoint(endpoint.into());
        Self::build(builder, cache, token)
    }

    /// A client with the endpoint, cache and token of Hugging Face's tools: `HF_ENDPOINT`, `HF_HOME`,
    /// `HF_TOKEN`, and the token that `hf auth login` stored.
    ///
    /// Nothing else in this crate reads environment variables.
    ///
    /// # Errors
    /// [`Error::Hub`] if the client cannot be created.
    pub fn from_env() -> Result<Self> {
        let cache = Cache::from_env();
        let token = std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty());
        let token = token.or_else(|| cache.token());
        Self::build(ApiBuilder::from_env(), cache, token)
    }

    fn build(builder: ApiBuilder, cache: Cache, token: Option<String>) -> Result<Self> {
        let api = builder.with_progress(false).with_token(token).build().map_err(|error| {
            Error::Hub { repo: "client".into(), file: "anything".into(), reason: error.to_string() }
        })?;
        Ok(Self { api, cache })
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
        let mut fetch = Fetch {
            id: repo,
            cached: self.cache.model(repo.into()),
            remote: self.api.model(repo.into()),
            progress,
        };
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
    cached: CacheRepo,
    remote: ApiRepo,
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
        let config = self.cached.get("config.json")?;
        let is_cached = |names: &&[&str]| names.iter().all(|name| self.cached.get(name).is_some());
        TOKENIZER_FILES.iter().find(|names| is_cached(names))?;
        let (name, file) =
            WEIGHT_FILES.iter().find_map(|name| Some((name, self.cached.get(name)?)))?;
        let is_whole = !is_index(name)
            || shard_names(&file)
                .is_ok_and(|shards| shards.iter().all(|shard| self.cached.get(shard).is_some()));
        is_whole.then(|| config.parent().map(Path::to_owned))?
    }

    /// A required file.
    fn file(&mut self, name: &str) -> Result<PathBuf> {
        self.get(name).map_err(|error| {
            let reason = match status(error) {
                Ok(404) => "not found (HTTP 404): no such repository or file".into(),
                Ok(401) => "HTTP 401: no such repository, or it needs a token".into(),
                Ok(403) => {
                    "HTTP 403: the token has no access, or the license was not accepted".into()
                }
                Ok(status) => format!("HTTP {status}"),
                Err(reason) => reason,
            };
            self.failed(name, reason)
        })
    }

    /// An optional file.
    fn optional(&mut self, name: &str) -> Result<Option<PathBuf>> {
        match self.get(name) {
            Ok(path) => Ok(Some(path)),
            Err(error) => match status(error) {
                Ok(404) => Ok(None),
                Ok(status) => Err(self.failed(name, format!("HTTP {status}"))),
                Err(reason) => Err(self.failed(name, reason)),
            },
        }
    }

    fn get(&mut self, name: &str) -> Result<PathBuf, ApiError> {
        if let Some(path) = self.cached.get(name) {
            return Ok(path);
        }
        let state = FetchProgress { file: name.into(), done: 0, total: 0 };
        self.remote.download_with_progress(name, Listener { callback: self.progress, state })
    }

    fn failed(&self, file: &str, reason: impl Into<String>) -> Error {
        Error::Hub { repo: self.id.into(), file: file.into(), reason: reason.into() }
    }
}

/// The HTTP status of an error, or the reason why there is none.
fn status(error: ApiError) -> Result<u16, String> {
    match error {
        ApiError::RequestError(error) => {
            let reason = error.to_string();
            error.into_response().map(|response| response.status()).ok_or(reason)
        }
        other => Err(other.to_string()),
    }
}

struct Listener<'a> {
    callback: &'a mut dyn FnMut(&FetchProgress),
    state: FetchProgress,
}

impl hf_hub::api::Progress for Listener<'_> {
    fn init(&mut self, size: usize, _file: &str) {
        self.state.total = size as u64;
        self.state.done = 0;
    }

    fn update(&mut self, size: usize) {
        self.state.done += size as u64;
        (self.callback)(&self.state);
    }

    fn finish(&mut self) {}
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
