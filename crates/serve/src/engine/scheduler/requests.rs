//! Accepted requests: what their answers have in common, and the report at the end of each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use llama::FinishReason;
use tokio::sync::mpsc::UnboundedSender;

use crate::engine::commands::{Places, Submitted};
use crate::engine::handle::Shared;
use crate::engine::observer::{Observer, Outcome, RequestReport};
use crate::engine::request::{AdapterChoice, Event, GenerationRequest};
use crate::engine::stats::add;
use crate::error::RequestError;

/// A request from its acceptance to its last event.
pub(super) struct Request {
    events: UnboundedSender<Event>,
    arrived: Instant,
    _places: Places,
    adapter: Option<String>,
    prompt_tokens: usize,
    cached_tokens: usize,
    generated_tokens: usize,
    queued: Option<Duration>,
    preemptions: usize,
    /// Answers that are not complete.
    open: usize,
    /// Whether an answer ended by its length.
    is_cut: bool,
}

/// All requests that have not ended.
pub(super) struct Requests {
    open: HashMap<u64, Request>,
    next: u64,
    time_limit: Option<Duration>,
    shared: Arc<Shared>,
    observer: Arc<dyn Observer>,
    last_end: Option<Instant>,
    /// Seconds between the ends of requests, a moving average.
    interval: Option<f64>,
}

impl Requests {
    pub(super) fn new(
        shared: Arc<Shared>,
        observer: Arc<dyn Observer>,
        time_limit: Option<Duration>,
    ) -> Self {
        let open = HashMap::new();
        Self { open, next: 0, time_limit, shared, observer, last_end: None, interval: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        self.open.contains_key(&id)
    }

    /// Takes a request over; its number.
    pub(super) fn add(&mut self, submitted: Submitted) -> (u64, GenerationRequest) {
        let Submitted { request, events, arrived, places } = submitted;
        let id = self.next;
        self.next += 1;
        let own = Request {
            events,
            arrived,
            _places: places,
            adapter: label(&request.adapter),
            prompt_tokens: request.prompt.len(),
            cached_tokens: 0,
            generated_tokens: 0,
            queued: None,
            preemptions: 0,
            open: request.choices,
            is_cut: false,
        };
        self.open.insert(id, own);
        (id, request)
    }

    /// An answer joined the batch, for the first time or again.
    pub(super) fn started(&mut self, id: u64, cached_tokens: usize) {
        let Some(request) = self.open.get_mut(&id) else { return };
        if request.queued.is_none() {
            request.queued = Some(request.arrived.elapsed());
            request.cached_tokens = cached_tokens;
            add(&self.shared.stats.prompt_tokens, request.prompt_tokens);
            add(&self.shared.stats.cached_prompt_tokens, cached_tokens);
            request.send(Event::Started { cached_tokens });
        }
    }

    /// An answer lost its blocks.
    pub(super) fn preempted(&mut self, id: u64) {
        add(&self.shared.stats.preemptions, 1);
        if let Some(request) = self.open.get_mut(&id) {
            request.preemptions += 1;
        }
    }

    /// An answer has a new token; `last` is the time of its token before.
    pub(super) fn generated(&mut self, id: u64, last: Option<Instant>, now: Instant) {
        add(&self.shared.stats.generated_tokens, 1);
        let Some(request) = self.open.get_mut(&id) else { return };
        request.generated_tokens += 1;
        match last {
            Some(last) => self.observer.token_gap(now.saturating_duration_since(last)),
            None => self.observer.first_token(now.saturating_duration_since(request.arrived)),
        }
    }

    pub(super) fn send(&self, id: u64, event: Event) {
        if let Some(request) = self.open.get(&id) {
            request.send(event);
        }
    }

    /// An answer is complete.
    pub(super) fn finished(&mut self, id: u64, choice: usize, reason: FinishReason, tokens: usize) {
        let Some(request) = self.open.get_mut(&id) else { return };
        request.send(Event::Finished { choice, reason, tokens });
        request.is_cut |= reason == FinishReason::Length;
        request.open -= 1;
        if request.open == 0 {
            let outcome = if request.is_cut { Outcome::Length } else { Outcome::Stop };
            self.end(id, outcome);
        }
    }

    /// The whole request failed.
    pub(super) fn fail(&mut self, id: u64, error: RequestError) {
        let outcome = match error {
            RequestError::TimedOut { .. } => Outcome::TimedOut,
            RequestError::Aborted => Outcome::Aborted,
            _ => Outcome::Failed,
        };
        self.send(id, Event::Failed(error));
        self.end(id, outcome);
    }

    /// Ends requests that nobody waits for, and those that took too long.
    pub(super) fn sweep(&mut self, now: Instant) {
        let gone = self.open.iter().filter(|(_, own)| own.events.is_closed());
        for id in gone.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end(id, Outcome::Cancelled);
        }
        let Some(limit) = self.time_limit else { return };
        let late = |own: &Request| now.saturating_duration_since(own.arrived) > limit;
        let late = self.open.iter().filter(|(_, own)| late(own)).map(|(id, _)| *id);
        for id in late.collect::<Vec<_>>() {
            self.fail(id, RequestError::TimedOut { limit });
        }
    }

    /// Fails all requests; how many.
    pub(super) fn fail_all(&mut self, error: &RequestError) -> usize {
        let ids = self.open.keys().copied().collect::<Vec<_>>();
        for &id in &ids {
            self.fail(id, error.clone());
        }
        ids.len()
    }

    fn end(&mut self, id: u64, outcome: Outcome) {
        let Some(request) = self.open.remove(&id) else { return };
        add(&self.shared.stats.finished, 1);
        self.observer.finished(&RequestReport {
            adapter: request.adapter,
            outcome,
            prompt_tokens: request.prompt_tokens,
            cached_tokens: request.cached_tokens,
            generated_tokens: request.generated_tokens,
            queued: request.queued,
            total: request.arrived.elapsed(),
            preemptions: request.preemptions,
        });
        self.measure_rate();
    }

    fn measure_rate(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last_end.replace(now) {
            let seconds = now.saturating_duration_since(last).as_secs_f64();
            let interval = self.interval.map_or(seconds, |own| own + 0.1 * (seconds - own));
            self.interval = Some(interval);
            let rate = (1000.0 / interval.max(1e-6)) as u64;
            self.shared.finished_per_kilosecond.store(rate, Ordering::Relaxed);
        }
    }
}

impl Request {
    fn send(&self, event: Event) {
        // A receiver that is gone is noticed by the next sweep.
        let _ = self.events.send(event);
    }
}

/// The adapter's name in reports.
fn label(adapter: &AdapterChoice) -> Option<String> {
    match adapter {
        AdapterChoice::Base => None,
        AdapterChoice::Named(name) => Some(name.clone()),
        AdapterChoice::Mix(parts) => {
            let names = parts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
            Some(names.join("+"))
        }
    }
}
