//! `owner/name` ─► the Hugging Face Hub's cache ─► a folder that [`ModelSource`] opens
//!
//! The cache is the one that Python's `huggingface_hub` uses. A model that lies in it completely
//! is opened without a word to the network.
//!
//! [`ModelSource`]: crate::ModelSource

use std::path::{Path, PathBuf};

use checkpoint::folder::{WEIGHT_FILES, is_index, shard_names};
use checkpoint::gguf::part_names;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo};
use text::{OPTIONAL_FILES, TOKENIZER_FILES};

use crate::error::{Error, Result};

/// How far the download of a file has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchProgress {
    /// Name in the repository.
    pub file: String,
    /// Bytes on disk, those of an earlier attempt included.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// A way to the Hub, and the cache beside it.
#[derive(Debug, Clone)]
pub struct Hub {
    api: Api,
    cache: Cache,
}

impl Hub {
    /// A hub at `endpoint`, such as `https://huggingface.co`, with the cache folder `cache`.
    /// `token` opens private and gated repositories.
    ///
    /// # Errors
    /// [`Error::Hub`] if the client can't be built.
    pub fn new(
        endpoint: impl Into<String>,
        cache: impl Into<PathBuf>,
        token: Option<String>,
    ) -> Result<Self> {
        let cache = Cache::new(cache.into());
        let builder = ApiBuilder::from_cache(cache.clone()).with_endpoint(endpoint.into());
        Self::build(builder, cache, token)
    }

    /// The hub, the cache and the token that Hugging Face's own tools would use: `HF_ENDPOINT`,
    /// `HF_HOME`, `HF_TOKEN`, and the token that `hf auth login` left.
    ///
    /// This is the one place of the crate that reads the environment, and only when called.
    ///
    /// # Errors
    /// [`Error::Hub`] if the client can't be built.
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

    /// Whether a text has the form that [`fetch`](Self::fetch) takes: `owner/name`, or
    /// `owner/name/file.gguf`.
    pub fn is_id(text: &str) -> bool {
        parse(text).is_some()
    }

    /// Brings a model into the cache, unless it's there, and gives its path: the folder of
    /// `owner/name`, or the file of `owner/name/file.gguf`.
    ///
    /// `progress` hears about every piece of every download.
    ///
    /// # Errors
    /// [`Error::Hub`] with the file that could not be had; [`checkpoint::Error::Format`] for a broken index of
    /// shards.
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

/// The repository and the file in it of an id.
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
    /// All files of a model. The weights come last: where they are, everything else was asked for.
    fn folder(&mut self) -> Result<PathBuf> {
        if let Some(folder) = self.complete_folder() {
            return Ok(folder);
        }
        let config = self.file("config.json")?;
        let folder = config.parent().expect("files lie in a folder").to_owned();
        let mut files = self.tokenizer()?;
        for name in OPTIONAL_FILES {
            files.extend(self.optional(name)?);
        }
        files.extend(self.weights()?);
        // Each file is asked for on its own; a push to the repository in between divides them.
        if files.iter().any(|file| file.parent() != Some(&folder)) {
            return Err(self.failed("all files", "the repository changed meanwhile: try again"));
        }
        Ok(folder)
    }

    /// The weights that [`open_weights`](checkpoint::folder::open_weights) would open, in one file or in shards.
    fn weights(&mut self) -> Result<Vec<PathBuf>> {
        for name in WEIGHT_FILES {
            let Some(file) = self.optional(name)? else { continue };
            if !is_index(name) {
                return Ok(vec![file]);
            }
            let shards = shard_names(&file)?;
            return shards.iter().map(|shard| self.file(shard)).collect();
        }
        // Nothing of all that is there: the error is about the usual one.
        self.file(WEIGHT_FILES[0]).map(|file| vec![file])
    }

    /// The files of the tokenizer, in the first form that the repository has.
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
        Err(self.failed("tokenizer.json", "not found (HTTP 404), nor a tokenizer of another form"))
    }

    /// A GGUF file with the other parts, where it is one of several.
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

    /// The cached folder, if nothing is missing in it.
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

    /// A file that must be there.
    fn file(&mut self, name: &str) -> Result<PathBuf> {
        self.get(name).map_err(|error| {
            let reason = match status(error) {
                Ok(404) => "not found (HTTP 404): no such repository or file".into(),
                Ok(401) => "HTTP 401: no such repository, or it needs a token".into(),
                Ok(403) => {
                    "HTTP 403: the token may not read it, or its licence was not accepted".into()
                }
                Ok(status) => format!("HTTP {status}"),
                Err(reason) => reason,
            };
            self.failed(name, reason)
        })
    }

    /// A file that not every model has.
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
        self.remote.download_with_progress(name, Listener { tell: self.progress, state })
    }

    fn failed(&self, file: &str, reason: impl Into<String>) -> Error {
        Error::Hub { repo: self.id.into(), file: file.into(), reason: reason.into() }
    }
}

/// The HTTP status behind an error, or what went wrong before there was one.
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
    tell: &'a mut dyn FnMut(&FetchProgress),
    state: FetchProgress,
}

impl hf_hub::api::Progress for Listener<'_> {
    fn init(&mut self, size: usize, _file: &str) {
        self.state.total = size as u64;
        self.state.done = 0;
    }

    fn update(&mut self, size: usize) {
        self.state.done += size as u64;
        (self.tell)(&self.state);
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
