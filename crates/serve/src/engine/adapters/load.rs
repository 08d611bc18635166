//! Loading beside the engine's thread, so that running answers do not wait for files and image encoders.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::instance::Instance;
use super::source::{AdapterInfo, AdapterSource};
use super::store::{AdapterKey, AdapterStore};
use crate::engine::commands::Wake;
use crate::engine::panic_message;
use crate::engine::request::ImageInput;
use crate::error::{LoadError, RequestError};

/// Reads and prepares adapters.
pub(crate) trait AdapterLoader: Send + 'static {
    /// An adapter that can be mixed and be given an image. Clones are cheap.
    type Weights: Clone + Send + 'static;
    /// An adapter as the model takes it.
    type Prepared: Send + Sync + 'static;

    /// Reads an adapter.
    ///
    /// # Errors
    /// If it cannot be read, or does not fit the model.
    fn load(&mut self, source: &AdapterSource) -> Result<Loaded<Self::Weights>, LoadError>;

    /// Prepares the weighted sum of adapters, with an image for those that see; and its bytes.
    ///
    /// # Errors
    /// If the image's encoder is missing or fails.
    fn prepare(
        &mut self,
        parts: &[(Self::Weights, f64)],
        image: Option<&ImageInput>,
    ) -> Result<(Self::Prepared, usize), LoadError>;
}

/// An adapter as it was read.
pub(crate) struct Loaded<W> {
    pub(crate) weights: W,
    pub(crate) bytes: usize,
    pub(crate) sees_images: bool,
}

/// Something to load.
pub(crate) enum Job {
    /// For requests that wait for it.
    Prepare(AdapterKey, Option<Arc<ImageInput>>),
    /// A new adapter.
    Add(AdapterSource, oneshot::Sender<Result<AdapterInfo, LoadError>>),
}

/// What became of a [`Job::Prepare`].
pub(crate) type Outcome<P> = (AdapterKey, Result<Arc<Instance<P>>, RequestError>);

/// The loader, on a thread of its own, or on the engine's where a device does not like several.
pub(crate) enum Loading<L: AdapterLoader> {
    Thread { jobs: mpsc::Sender<Job>, results: mpsc::Receiver<Outcome<L::Prepared>> },
    Here { loader: L, store: Arc<AdapterStore<L>>, results: Vec<Outcome<L::Prepared>> },
}

impl<L: AdapterLoader> Loading<L> {
    /// Starts a thread. It ends with the sender of its jobs.
    ///
    /// # Errors
    /// If the system has no thread.
    pub(crate) fn thread(
        mut loader: L,
        store: Arc<AdapterStore<L>>,
        wake: Wake,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, receiver) = mpsc::channel();
        let (sender, results) = mpsc::channel();
        let run = move || {
            for job in receiver {
                if let Some(outcome) = run(job, &store, &mut loader) {
                    // The engine has ended: nobody waits.
                    let _ = sender.send(outcome);
                    wake.now();
                }
            }
        };
        let thread = std::thread::Builder::new().name("adapter-loader".into()).spawn(run)?;
        Ok((Self::Thread { jobs, results }, thread))
    }

    /// On the thread that calls.
    pub(crate) fn here(loader: L, store: Arc<AdapterStore<L>>) -> Self {
        Self::Here { loader, store, results: Vec::new() }
    }

    pub(crate) fn ask(&mut self, job: Job) {
        match self {
            // The thread ends only with this sender.
            Self::Thread { jobs, .. } => drop(jobs.send(job)),
            Self::Here { loader, store, results } => results.extend(run(job, store, loader)),
        }
    }

    /// What is ready.
    pub(crate) fn results(&mut self) -> Vec<Outcome<L::Prepared>> {
        match self {
            Self::Thread { results, .. } => results.try_iter().collect(),
            Self::Here { results, .. } => std::mem::take(results),
        }
    }
}

fn run<L: AdapterLoader>(
    job: Job,
    store: &AdapterStore<L>,
    loader: &mut L,
) -> Option<Outcome<L::Prepared>> {
    // A defect must not take the thread away from all later requests.
    match job {
        Job::Prepare(key, image) => {
            let result =
                catch_unwind(AssertUnwindSafe(|| store.prepare(&key, image.as_deref(), loader)));
            let failed = |reason| RequestError::Adapter {
                name: key.name(),
                source: Arc::new(LoadError::Failed { reason }),
            };
            let result = result.unwrap_or_else(|panic| Err(failed(panic_message(&*panic))));
            Some((key, result))
        }
        Job::Add(source, reply) => {
            let result = catch_unwind(AssertUnwindSafe(|| store.add(&source, loader)));
            let failed = |reason| LoadError::Failed { reason };
            let result = result.unwrap_or_else(|panic| Err(failed(panic_message(&*panic))));
            // Nobody may wait for it any more.
            let _ = reply.send(result);
            None
        }
    }
}
