//! What runs in each step. Generic over the model, so that all of it is tested with a fake one.
//!
//! ```text
//!   queue ──admit──► rows ─────────► one pass ──► a token for each row that has read its text
//!     ▲               │  ▲               │              │
//!     └──preempt──────┘  └───────────────┴──────────────┴──► full blocks are published; complete
//!      the newest, when an older                             answers give theirs back
//!      one needs a block
//! ```
//!
//! The oldest row always goes on: it may take the blocks of all others, and no request is accepted that needs
//! more than the whole cache. So every request ends.

mod admit;
mod requests;
mod step;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use text::Tokenizer;

use super::adapters::Instance;
use super::blocks::BlockAllocator;
use super::budget::Budget;
use super::commands::Submitted;
use super::config::EngineConfig;
use super::handle::Shared;
use super::observer::Observer;
use super::request::GenerationRequest;
use super::row::Row;
use super::stats::set;
use super::step_model::{CacheSpec, StepModel};
use crate::error::RequestError;
use requests::Requests;

/// The requests, the rows, the cache and the model.
pub(crate) struct Scheduler<'t, M: StepModel> {
    model: M,
    spec: CacheSpec,
    config: EngineConfig,
    tokenizer: &'t Tokenizer,
    shared: Arc<Shared>,
    observer: Arc<dyn Observer>,
    requests: Requests,
    /// Rows without blocks, in the order in which they are served. Preempted ones are in front.
    queue: VecDeque<Row<'t, M::Adapter>>,
    /// Rows with blocks, the one that was admitted first in front.
    running: Vec<Row<'t, M::Adapter>>,
    blocks: BlockAllocator,
    budget: Budget,
}

impl<'t, M: StepModel> Scheduler<'t, M> {
    pub(crate) fn new(
        model: M,
        config: EngineConfig,
        tokenizer: &'t Tokenizer,
        shared: Arc<Shared>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let spec = model.spec();
        let requests =
            Requests::new(Arc::clone(&shared), Arc::clone(&observer), config.request_time);
        let budget = Budget::new(config.prefill_chunk);
        let scheduler = Self {
            model,
            spec,
            config,
            tokenizer,
            shared,
            observer,
            requests,
            queue: VecDeque::new(),
            running: Vec::new(),
            blocks: BlockAllocator::new(spec.blocks),
            budget,
        };
        scheduler.update_gauges(0);
        scheduler
    }

    /// Takes a request over. [`start`](Self::start) or [`fail`](Self::fail) follows, once its adapter is
    /// ready or known not to be.
    pub(crate) fn accept(&mut self, submitted: Submitted) -> (u64, GenerationRequest) {
        self.requests.add(submitted)
    }

    /// Puts the answers of an accepted request into the queue.
    pub(crate) fn start(
        &mut self,
        id: u64,
        request: &GenerationRequest,
        adapter: Option<Arc<Instance<M::Adapter>>>,
    ) {
        if !self.requests.contains(id) {
            return;
        }
        let stop_tokens: Arc<[u32]> = request.stop_tokens.as_slice().into();
        for choice in 0..request.choices {
            let stop_tokens = Arc::clone(&stop_tokens);
            let row = Row::new((id, request), choice, adapter.clone(), stop_tokens, self.tokenizer);
            match row {
                Ok(row) => self.queue.push_back(row),
                Err(error) => return self.fail(id, RequestError::Model(Arc::new(error))),
            }
        }
    }

    /// Ends a request with an error.
    pub(crate) fn fail(&mut self, id: u64, error: RequestError) {
        self.requests.fail(id, error);
        self.drop_ended();
    }

    /// Fails all requests; how many.
    pub(crate) fn fail_all(&mut self, error: &RequestError) -> usize {
        let count = self.requests.fail_all(error);
        self.drop_ended();
        count
    }

    /// Ends requests that nobody waits for, and those that took too long.
    pub(crate) fn sweep(&mut self) {
        let before = self.requests.len();
        self.requests.sweep(Instant::now());
        if self.requests.len() < before {
            self.drop_ended();
        }
    }

    /// Whether a request is neither complete nor ended otherwise.
    pub(crate) fn is_open(&self, id: u64) -> bool {
        self.requests.contains(id)
    }

    /// Whether no request is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether there is something to compute.
    pub(crate) fn has_rows(&self) -> bool {
        !self.running.is_empty() || !self.queue.is_empty()
    }

    /// Sets the gauges; `preparing` is the number of answers that wait for their adapter.
    pub(crate) fn update_gauges(&self, preparing: usize) {
        let stats = &self.shared.stats;
        let counts = self.blocks.counts();
        let decoding = self.running.iter().filter(|row| row.is_decoding()).count();
        set(&stats.queued, self.queue.len() + preparing);
        set(&stats.prefilling, self.running.len() - decoding);
        set(&stats.decoding, decoding);
        set(&stats.used_blocks, counts.used);
        set(&stats.cached_blocks, counts.cached);
        set(&stats.free_blocks, counts.free);
    }

    /// Drops rows of requests that have ended.
    fn drop_ended(&mut self) {
        let requests = &self.requests;
        self.queue.retain(|row| requests.contains(row.request));
        for mut row in self.running.extract_if(.., |row| !requests.contains(row.request)) {
            row.release(&mut self.blocks);
        }
    }
}
