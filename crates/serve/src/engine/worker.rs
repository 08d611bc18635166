//! The engine's thread: takes commands, asks for adapters, and steps while there is something to compute.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::DrainReport;
use super::adapters::{AdapterKey, AdapterLoader, AdapterStore, Job, Loading};
use super::commands::Command;
use super::handle::Shared;
use super::request::GenerationRequest;
use super::scheduler::Scheduler;
use super::stats::EngineState;
use super::step_model::StepModel;
use crate::error::RequestError;

/// Passes that may fail within [`FAILURE_WINDOW`] before the engine gives up.
const MOST_FAILURES: usize = 3;
const FAILURE_WINDOW: Duration = Duration::from_mins(1);

/// How often an idle engine looks for requests that nobody waits for any more.
const IDLE_LOOK: Duration = Duration::from_millis(100);

/// All that the engine's thread owns.
pub(super) struct Worker<'t, M: StepModel, L: AdapterLoader<Prepared = M::Adapter>> {
    pub(super) scheduler: Scheduler<'t, M>,
    pub(super) store: Arc<AdapterStore<L>>,
    pub(super) loading: Loading<L>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) shared: Arc<Shared>,
    /// Requests whose adapter is not ready.
    pub(super) preparing: Vec<Preparing>,
    pub(super) draining: Option<(Instant, mpsc::Sender<DrainReport>)>,
    pub(super) failures: Vec<Instant>,
}

/// A request that waits for its adapter.
pub(super) struct Preparing {
    id: u64,
    request: GenerationRequest,
    key: AdapterKey,
}

impl<M: StepModel, L: AdapterLoader<Prepared = M::Adapter>> Worker<'_, M, L> {
    /// Runs until the engine is stopped, drained or broken.
    pub(super) fn run(mut self) {
        loop {
            if self.take_commands().is_break() {
                self.end(RequestError::Aborted);
                return;
            }
            self.take_loaded();
            self.scheduler.sweep();
            self.preparing.retain(|own| self.scheduler.is_open(own.id));
            if self.scheduler.has_rows() && self.scheduler.step().is_err() && self.is_broken() {
                let reason = "it failed repeatedly".into();
                self.end(RequestError::Internal { reason });
                return;
            }
            let waiting = self.preparing.iter().map(|own| own.request.choices).sum();
            self.scheduler.update_gauges(waiting);
            if let Some((deadline, reply)) = &self.draining
                && (self.scheduler.is_empty() || Instant::now() >= *deadline)
            {
                let reply = reply.clone();
                let aborted = self.end(RequestError::Aborted);
                // Whoever asked may have gone.
                let _ = reply.send(DrainReport { aborted });
                return;
            }
        }
    }

    /// Takes all commands; waits for one if there is nothing else to do.
    fn take_commands(&mut self) -> std::ops::ControlFlow<()> {
        use std::ops::ControlFlow::{Break, Continue};
        let is_idle = !self.scheduler.has_rows();
        let waits_for_others = !self.preparing.is_empty() || self.draining.is_some();
        let mut next = if is_idle && waits_for_others {
            match self.commands.recv_timeout(IDLE_LOOK) {
                Ok(command) => Some(command),
                Err(mpsc::RecvTimeoutError::Timeout) => None,
                Err(mpsc::RecvTimeoutError::Disconnected) => return Break(()),
            }
        } else if is_idle {
            match self.commands.recv() {
                Ok(command) => Some(command),
                Err(mpsc::RecvError) => return Break(()),
            }
        } else {
            self.commands.try_recv().ok()
        };
        while let Some(command) = next {
            match command {
                Command::Submit(submitted) => {
                    let (id, request) = self.scheduler.accept(*submitted);
                    self.find_adapter(id, request);
                }
                Command::Wake => {}
                Command::Load(source, reply) => self.loading.ask(Job::Add(source, reply)),
                Command::Unloaded => self.store.drop_removed(),
                Command::Drain(within, reply) => {
                    self.draining = Some((Instant::now() + within, reply));
                }
                Command::Stop => return Break(()),
            }
            next = self.commands.try_recv().ok();
        }
        Continue(())
    }

    /// Puts a request into the queue, at once or when its adapter is ready.
    fn find_adapter(&mut self, id: u64, request: GenerationRequest) {
        let Some(key) = AdapterKey::new(&request.adapter, request.image.as_deref()) else {
            return self.scheduler.start(id, &request, None);
        };
        if let Some(adapter) = self.store.find(&key) {
            return self.scheduler.start(id, &request, Some(adapter));
        }
        if self.preparing.iter().all(|own| own.key != key) {
            self.loading.ask(Job::Prepare(key.clone(), request.image.clone()));
        }
        self.preparing.push(Preparing { id, request, key });
    }

    /// Puts requests into the queue whose adapters became ready.
    fn take_loaded(&mut self) {
        for (key, result) in self.loading.results() {
            for Preparing { id, request, .. } in self.preparing.extract_if(.., |own| own.key == key)
            {
                match &result {
                    Ok(adapter) => self.scheduler.start(id, &request, Some(Arc::clone(adapter))),
                    Err(error) => self.scheduler.fail(id, error.clone()),
                }
            }
        }
    }

    /// Whether passes fail again and again.
    fn is_broken(&mut self) -> bool {
        let now = Instant::now();
        self.failures.retain(|time| now.saturating_duration_since(*time) < FAILURE_WINDOW);
        self.failures.push(now);
        self.failures.len() >= MOST_FAILURES
    }

    /// Fails everything that is left; how many requests.
    fn end(&mut self, error: RequestError) -> usize {
        self.shared.stats.state.advance_to(EngineState::Dead);
        // Requests that were accepted and not yet taken over.
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Submit(submitted) = command {
                self.scheduler.accept(*submitted);
            }
        }
        self.preparing.clear();
        let count = self.scheduler.fail_all(&error);
        self.scheduler.update_gauges(0);
        count
    }
}
