//! What reaches the engine's thread from others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc::UnboundedSender, oneshot};

use super::DrainReport;
use super::adapters::{AdapterInfo, AdapterSource};
use super::request::{Event, GenerationRequest};
use crate::error::LoadError;

/// A message to the engine's thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// A new request.
    Submit(Box<Submitted>),
    /// Something changed: a receiver is gone, or an adapter is ready.
    Wake,
    /// Read and add an adapter.
    Load(AdapterSource, oneshot::Sender<Result<AdapterInfo, LoadError>>),
    /// An adapter was removed.
    Unloaded,
    /// End when all requests are complete, and fail those that are not after this time.
    Drain(Duration, mpsc::Sender<DrainReport>),
    /// Fail all requests and end.
    Stop,
}

/// An accepted request.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) request: GenerationRequest,
    pub(crate) events: UnboundedSender<Event>,
    pub(crate) arrived: Instant,
    /// Its places in the queue, freed when the request is dropped.
    pub(crate) places: Places,
}

/// Places of one request among those that the engine has room for.
#[derive(Debug)]
pub(crate) struct Places {
    taken: Arc<AtomicUsize>,
    count: usize,
}

impl Places {
    /// Takes places; `None` if fewer than `count` of `limit` are left.
    pub(crate) fn take(taken: &Arc<AtomicUsize>, count: usize, limit: usize) -> Option<Self> {
        let more = |now: usize| now.checked_add(count).filter(|sum| *sum <= limit);
        taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(Self { taken: Arc::clone(taken), count })
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.count, Ordering::SeqCst);
    }
}

/// Wakes the engine's thread.
#[derive(Debug, Clone)]
pub(crate) struct Wake(pub(crate) mpsc::Sender<Command>);

impl Wake {
    pub(crate) fn now(&self) {
        // An engine that has ended needs no waking.
        let _ = self.0.send(Command::Wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let taken = Arc::new(AtomicUsize::new(0));
        let first = Places::take(&taken, 3, 4).unwrap();
        assert!(Places::take(&taken, 2, 4).is_none());
        assert!(Places::take(&taken, usize::MAX, 4).is_none());
        let second = Places::take(&taken, 1, 4).unwrap();
        drop(first);
        assert_eq!(taken.load(Ordering::SeqCst), 1);
        drop(second);
        assert_eq!(taken.load(Ordering::SeqCst), 0);
    }
}
