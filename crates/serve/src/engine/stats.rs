//! Counters and gauges of an engine, read by anyone at any time.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// What an engine does now, and what it did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Whether it accepts requests.
    pub state: EngineState,
    /// Choices that wait for a row or for their adapter, including preempted ones.
    pub queued: usize,
    /// Choices in the batch that read their prompt.
    pub prefilling: usize,
    /// Choices in the batch that generate.
    pub decoding: usize,
    /// Blocks of the cache that running requests use.
    pub used_blocks: usize,
    /// Blocks that hold beginnings for later requests.
    pub cached_blocks: usize,
    /// Blocks that hold nothing.
    pub free_blocks: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// Prepared adapters in memory, including mixes and adapters with images.
    pub adapters: usize,
    /// Their bytes.
    pub adapter_bytes: usize,
    /// Prompt tokens of all requests so far.
    pub prompt_tokens: u64,
    /// Those of them that were in the cache already.
    pub cached_prompt_tokens: u64,
    /// New tokens so far.
    pub generated_tokens: u64,
    /// Rows that lost their cache so far.
    pub preemptions: u64,
    /// Requests that ended so far.
    pub finished: u64,
    /// Requests refused because the queue was full.
    pub refused: u64,
    /// Steps that failed so far.
    pub errors: u64,
}

/// Whether an engine accepts requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineState {
    /// It does.
    Running,
    /// It finishes those that it has.
    Draining,
    /// It has ended, because it was stopped or failed repeatedly.
    Dead,
}

/// The values behind [`EngineStats`].
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) state: State,
    pub(crate) queued: AtomicUsize,
    pub(crate) prefilling: AtomicUsize,
    pub(crate) decoding: AtomicUsize,
    pub(crate) used_blocks: AtomicUsize,
    pub(crate) cached_blocks: AtomicUsize,
    pub(crate) free_blocks: AtomicUsize,
    pub(crate) block_bytes: AtomicUsize,
    pub(crate) adapters: AtomicUsize,
    pub(crate) adapter_bytes: AtomicUsize,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) cached_prompt_tokens: AtomicU64,
    pub(crate) generated_tokens: AtomicU64,
    pub(crate) preemptions: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) errors: AtomicU64,
}

/// An [`EngineState`] that threads share.
#[derive(Debug, Default)]
pub(crate) struct State(AtomicU8);

impl State {
    pub(crate) fn get(&self) -> EngineState {
        match self.0.load(Ordering::SeqCst) {
            0 => EngineState::Running,
            1 => EngineState::Draining,
            _ => EngineState::Dead,
        }
    }

    /// States only go forward.
    pub(crate) fn advance_to(&self, state: EngineState) {
        let value = match state {
            EngineState::Running => 0,
            EngineState::Draining => 1,
            EngineState::Dead => 2,
        };
        self.0.fetch_max(value, Ordering::SeqCst);
    }
}

/// Sets a gauge.
pub(crate) fn set(gauge: &AtomicUsize, value: usize) {
    gauge.store(value, Ordering::Relaxed);
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

impl Stats {
    pub(crate) fn read(&self) -> EngineStats {
        let gauge = |value: &AtomicUsize| value.load(Ordering::Relaxed);
        let counter = |value: &AtomicU64| value.load(Ordering::Relaxed);
        EngineStats {
            state: self.state.get(),
            queued: gauge(&self.queued),
            prefilling: gauge(&self.prefilling),
            decoding: gauge(&self.decoding),
            used_blocks: gauge(&self.used_blocks),
            cached_blocks: gauge(&self.cached_blocks),
            free_blocks: gauge(&self.free_blocks),
            block_bytes: gauge(&self.block_bytes),
            adapters: gauge(&self.adapters),
            adapter_bytes: gauge(&self.adapter_bytes),
            prompt_tokens: counter(&self.prompt_tokens),
            cached_prompt_tokens: counter(&self.cached_prompt_tokens),
            generated_tokens: counter(&self.generated_tokens),
            preemptions: counter(&self.preemptions),
            finished: counter(&self.finished),
            refused: counter(&self.refused),
            errors: counter(&self.errors),
        }
    }
}
