//! The engine: one batch of many requests over one base model.
//!
//! ```text
//!  any thread            the engine's thread                              its own thread
//! ┌────────────┐ submit ┌──────────────────────────────────────────┐ ask ┌──────────────┐
//! │EngineHandle│ ─────► │ queue ─► rows ─► one pass ─► one token   │ ──► │ loads, mixes │
//! └────────────┘        │           │      for each row            │ ◄── │ and prepares │
//!    Generation  ◄───── │           └─► blocks of the cache        │     │ adapters     │
//!               events  └──────────────────────────────────────────┘     └──────────────┘
//! ```
//!
//! Requests join and leave the batch at every step. Long prompts are read in pieces between the tokens of
//! the others. The key-value cache is in blocks, which requests with the same adapter and the same beginning
//! share. When the cache is full, the newest request gives its blocks back and is computed again later.
//! None of this changes an answer.

pub(crate) mod adapters;
mod answer_text;
mod blocks;
mod budget;
mod commands;
mod config;
#[doc(hidden)]
pub mod fake;
mod handle;
mod observer;
mod prefix;
mod request;
mod row;
mod scheduler;
mod start;
mod stats;
mod step_model;
#[cfg(test)]
mod tests;
mod worker;

use std::any::Any;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use llama::Llama;
use text::Tokenizer;

use commands::Command;

pub use adapters::{AdapterInfo, AdapterLocation, AdapterSource, ImageEncoders};
pub use config::{CacheSize, EngineConfig, PrefillChunk};
pub use handle::{EngineHandle, ModelInfo};
pub use observer::{Observer, Outcome, RequestReport, StepReport};
pub use request::{
    AdapterChoice, Answer, ChoiceAnswer, Event, Generation, GenerationRequest, ImageInput, Token,
};
pub use stats::{EngineState, EngineStats};

/// Tokens of a block of the cache.
pub const BLOCK_TOKENS: usize = 32;

/// The model that an engine runs.
pub struct EngineModel {
    /// The base model, on a device without autodiff.
    pub llama: Llama,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Its name.
    pub name: String,
    /// Image encoders for adapters that see images.
    pub images: Option<Arc<dyn ImageEncoders>>,
}

/// A running engine. Dropping it stops its threads and fails what runs.
#[derive(Debug)]
pub struct Engine {
    handle: EngineHandle,
    /// The engine's, then the loader's.
    threads: Vec<JoinHandle<()>>,
}

/// How a [drain](Engine::drain) ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DrainReport {
    /// Requests that were cut off.
    pub aborted: usize,
}

impl Engine {
    /// The way to it for requests.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Accepts no more requests, waits for those that it has, and fails those that are not complete
    /// after `within`. The engine has ended then.
    pub fn drain(&self, within: Duration) -> DrainReport {
        self.handle.shared.stats.state.advance_to(EngineState::Draining);
        let (reply, report) = mpsc::channel();
        // An engine that has ended has nothing to drain.
        let _ = self.handle.commands.send(Command::Drain(within, reply));
        report.recv().unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.handle.commands.send(Command::Stop);
        for thread in self.threads.drain(..) {
            // What a panic did to requests was told to them.
            let _ = thread.join();
        }
    }
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked".into())
}
