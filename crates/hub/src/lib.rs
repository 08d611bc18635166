//! A client of the Hugging Face Hub: names in repositories ─► files in the cache.
//!
//! The cache is that of Python's `huggingface_hub`. A file in the cache needs no network access.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo};

pub use hf_hub::{Repo, RepoType};

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

/// Why something could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The Hub answered with this HTTP status.
    #[error("HTTP {0}")]
    Status(u16),
    /// There was no answer, or the client failed.
    #[error("{0}")]
    Other(String),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::RequestError(error) => {
                let reason = error.to_string();
                let status = error.into_response().map(|response| response.status());
                status.map_or(Self::Other(reason), Self::Status)
            }
            other => Self::Other(other.to_string()),
        }
    }
}

/// A client of the Hub with its cache.
#[derive(Debug, Clone)]
pub struct Client {
    api: Api,
    cache: Cache,
}

impl Client {
    /// A client for `endpoint`, such as `https://huggingface.co`, with the cache folder `cache`.
    /// `token` gives access to private and gated repositories.
    ///
    /// # Errors
    /// [`Failure`] if the client cannot be created.
    pub fn new(
        endpoint: impl Into<String>,
        cache: impl Into<PathBuf>,
        token: Option<String>,
    ) -> Result<Self, Failure> {
        let cache = Cache::new(cache.into());
        let builder = ApiBuilder::from_cache(cache.clone()).with_endpoint(endpoint.into());
        Self::build(builder, cache, token)
    }

    /// A client with the endpoint, cache and token of Hugging Face's tools: `HF_ENDPOINT`, `HF_HOME`,
    /// `HF_TOKEN`, and the token that `hf auth login` stored.
    ///
    /// # Errors
    /// [`Failure`] if the client cannot be created.
    pub fn from_env() -> Result<Self, Failure> {
        let cache = Cache::from_env();
        let token = std::env::var("HF_TOKEN").ok().filter(|token| !token.is_empty());
        let token = token.or_else(|| cache.token());
        Self::build(ApiBuilder::from_env(), cache, token)
    }

    fn build(builder: ApiBuilder, cache: Cache, token: Option<String>) -> Result<Self, Failure> {
        let api = builder.with_progress(false).with_token(token).build()?;
        Ok(Self { api, cache })
    }

    /// A repository.
    pub fn repository(&self, repo: Repo) -> Repository {
        let folder = self.cache.path().join(repo.folder_name());
        let (remote, cached) = (self.api.repo(repo.clone()), self.cache.repo(repo));
        Repository { remote, cached, folder }
    }
}

/// A repository at one revision.
pub struct Repository {
    remote: ApiRepo,
    cached: CacheRepo,
    folder: PathBuf,
}

impl Repository {
    /// Its folder in the cache.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file in the cache, if it is there.
    pub fn cached(&self, name: &str) -> Option<PathBuf> {
        self.cached.get(name)
    }

    /// A file in the cache, downloaded if it is not there. `progress` is called for every received chunk.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn fetch(
        &self,
        name: &str,
        progress: &mut dyn FnMut(&FetchProgress),
    ) -> Result<PathBuf, Failure> {
        if let Some(path) = self.cached(name) {
            return Ok(path);
        }
        let state = FetchProgress { file: name.into(), done: 0, total: 0 };
        let listener = Listener { callback: progress, state };
        Ok(self.remote.download_with_progress(name, listener)?)
    }

    /// The names of its files, from the Hub.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn names(&self) -> Result<Vec<String>, Failure> {
        let files = self.remote.info()?.siblings.into_iter();
        Ok(files.map(|file| file.rfilename).collect())
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
