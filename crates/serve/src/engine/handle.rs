//! The way to an engine for everyone who has requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use text::{PromptFormat, Tokenizer};
use tokio::sync::{mpsc::unbounded_channel, oneshot};

use super::adapters::{AdapterInfo, AdapterLocation, AdapterSource, Registry};
use super::commands::{Command, Places, Submitted, Wake};
use super::request::{AdapterChoice, Generation, GenerationRequest};
use super::stats::{EngineState, EngineStats, Stats, add};
use crate::error::{LoadError, SubmitError};

/// Adapters of one mix.
const MAX_MIX: usize = 8;

/// Submits requests to an [`Engine`](super::Engine). Clones are cheap, and any thread may have one.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Sender<Command>,
}

/// What an engine's thread and its handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) model: ModelInfo,
    pub(crate) stats: Stats,
    pub(crate) registry: Registry,
    /// Choices that were accepted and have not ended.
    pub(crate) places: Arc<AtomicUsize>,
    /// How many of them there may be.
    pub(crate) max_places: usize,
    /// Requests that end in 1000 seconds, a moving average.
    pub(crate) finished_per_kilosecond: AtomicU64,
}

/// The model of an engine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Its tokenizer, with the chat template.
    pub tokenizer: Arc<Tokenizer>,
    /// Maximum tokens of a prompt and its answer together.
    pub context: usize,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Tokens that the cache has room for.
    pub cache_tokens: usize,
    /// Maximum answers of one request.
    pub max_choices: usize,
    /// Whether there are image encoders for adapters that see images.
    pub has_image_encoders: bool,
    /// Identifies the weights, whatever file and precision they come from.
    pub fingerprint: String,
}

impl EngineHandle {
    /// Submits a request; never waits. The answer arrives as events of the [`Generation`]; dropping it
    /// cancels the request.
    ///
    /// # Errors
    /// [`SubmitError`]
    pub fn submit(&self, request: GenerationRequest) -> Result<Generation, SubmitError> {
        let Shared { stats, places, max_places, .. } = &*self.shared;
        match stats.state.get() {
            EngineState::Running => {}
            EngineState::Draining => return Err(SubmitError::Draining),
            EngineState::Dead => return Err(SubmitError::Stopped),
        }
        let request = self.checked(request)?;
        let choices = request.choices;
        let Some(places) = Places::take(places, choices, *max_places) else {
            add(&stats.refused, 1);
            return Err(SubmitError::QueueFull { retry_after: self.retry_after() });
        };
        let (events, receiver) = unbounded_channel();
        let submitted = Submitted { request, events, arrived: Instant::now(), places };
        let command = Command::Submit(Box::new(submitted));
        self.commands.send(command).map_err(|_| SubmitError::Stopped)?;
        Ok(Generation::new(receiver, choices, Wake(self.commands.clone())))
    }

    /// Counters and gauges.
    pub fn stats(&self) -> EngineStats {
        self.shared.stats.read()
    }

    /// The adapters by name, in memory or not.
    pub fn adapters(&self) -> Vec<AdapterInfo> {
        self.shared.registry.list()
    }

    /// The prompt format that an adapter was trained with, if its files say so.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn prompt_format(&self, adapter: &str) -> Result<Option<PromptFormat>, LoadError> {
        match self.shared.registry.get(adapter).map(|entry| entry.source.location) {
            Some(AdapterLocation::Path(path)) => {
                Ok(adaption_prompt::files::read_prompt_format(&path)?)
            }
            Some(AdapterLocation::Data(data)) => Ok(data.prompt_format.clone()),
            None => Ok(None),
        }
    }

    /// Loads an adapter and adds it to those that can be asked for. The result arrives when it is loaded;
    /// requests go on meanwhile.
    pub fn load_adapter(
        &self,
        source: AdapterSource,
    ) -> oneshot::Receiver<Result<AdapterInfo, LoadError>> {
        let (reply, receiver) = oneshot::channel();
        if let Err(unsent) = self.commands.send(Command::Load(source, reply))
            && let Command::Load(_, reply) = unsent.0
        {
            let _ = reply.send(Err(LoadError::Stopped));
        }
        receiver
    }

    /// Removes an adapter. Requests that have it already keep it to their end.
    ///
    /// # Errors
    /// [`LoadError::Unknown`]
    pub fn unload_adapter(&self, name: &str) -> Result<(), LoadError> {
        if !self.shared.registry.remove(name) {
            return Err(LoadError::Unknown(name.into()));
        }
        // An engine that has ended has dropped it already.
        let _ = self.commands.send(Command::Unloaded);
        Ok(())
    }

    /// The model.
    pub fn model(&self) -> &ModelInfo {
        &self.shared.model
    }

    /// The request with its length limited to what there is room for.
    fn checked(&self, mut request: GenerationRequest) -> Result<GenerationRequest, SubmitError> {
        let ModelInfo { context, vocab_size, cache_tokens, max_choices, .. } = self.shared.model;
        let invalid = |field, found: String, expected: String| {
            Err(SubmitError::Request { field, found, expected })
        };
        let asked = request.prompt.len();
        if asked == 0 {
            return Err(llama::Error::EmptyPrompt { row: 0 }.into());
        }
        let next = usize::from(request.max_new_tokens > 0);
        if asked + next > context {
            return Err(SubmitError::TooLong { asked, context });
        }
        if asked + next > cache_tokens {
            return Err(SubmitError::LargerThanCache { asked, capacity: cache_tokens });
        }
        if let Some(id) = request.prompt.iter().find(|id| **id as usize >= vocab_size) {
            let id = i64::from(*id);
            return Err(llama::Error::TokenId { id, vocab_size }.into());
        }
        let limit = max_choices.min(self.shared.max_places);
        if !(1..=limit).contains(&request.choices) {
            let expected = format!("1 to {limit}");
            return invalid("choices", request.choices.to_string(), expected);
        }
        if let Some(top) = request.logprobs.filter(|top| *top > vocab_size) {
            return invalid("logprobs", top.to_string(), format!("at most {vocab_size}"));
        }
        if request.prompt_logprobs && request.logprobs.is_none() {
            request.logprobs = Some(0);
        }
        request.sampling.validate()?;
        self.check_adapter(&request)?;
        let room = context.min(cache_tokens) - asked;
        request.max_new_tokens = request.max_new_tokens.min(room);
        Ok(request)
    }

    fn check_adapter(&self, request: &GenerationRequest) -> Result<(), SubmitError> {
        let invalid = |found: String, expected: String| {
            Err(SubmitError::Request { field: "adapters", found, expected })
        };
        let names: Vec<&str> = match &request.adapter {
            AdapterChoice::Base => Vec::new(),
            AdapterChoice::Named(name) => vec![name],
            AdapterChoice::Mix(parts) => {
                if !(1..=MAX_MIX).contains(&parts.len()) {
                    return invalid(format!("{} parts", parts.len()), format!("1 to {MAX_MIX}"));
                }
                if let Some((_, weight)) = parts.iter().find(|(_, weight)| !weight.is_finite()) {
                    return invalid(weight.to_string(), "finite weights".into());
                }
                parts.iter().map(|(name, _)| name.as_str()).collect()
            }
        };
        let mut may_see = false;
        for name in &names {
            let Some(entry) = self.shared.registry.get(name) else {
                return Err(SubmitError::UnknownAdapter((*name).into()));
            };
            may_see |= entry.facts.sees_images != Some(false);
        }
        if request.image.is_some() && !(may_see && self.shared.model.has_image_encoders) {
            let what = match names.len() {
                0 => self.shared.model.name.clone(),
                _ => names.join("+"),
            };
            return Err(SubmitError::NotMultimodal(what));
        }
        Ok(())
    }

    /// Time until about as many requests have ended as wait now.
    fn retry_after(&self) -> Duration {
        let queued = self.stats().queued.max(1) as f64;
        let rate = self.shared.finished_per_kilosecond.load(Ordering::Relaxed) as f64 / 1000.0;
        Duration::from_secs_f64((queued / rate.max(1e-3)).clamp(1.0, 60.0).round())
    }
}
