//! What all handlers share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::keys::ApiKeys;
use super::metrics::Metrics;
use crate::engine::EngineState;
use crate::openai::{ApiError, Service};

/// Settings of a [`Server`](super::Server).
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Keys; without any, every request is let in, except to the adapters' administration.
    pub keys: ApiKeys,
    /// Connections at the same time; more wait to be accepted.
    pub max_connections: usize,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Bytes of all bodies that are being read or converted.
    pub max_bodies: usize,
    /// Time for a request's head, and between the requests of a connection.
    pub head_time: Duration,
    /// Time for a request's body.
    pub body_time: Duration,
    /// Time after which a client that does not read is disconnected.
    pub write_time: Duration,
    /// Time between comments in a stream that has nothing to say.
    pub ping_time: Duration,
    /// Origins of web pages that may use the API. `*` is all of them.
    pub cors_origins: Vec<String>,
    /// Folders from which an administrator may load adapters.
    pub adapter_roots: Vec<PathBuf>,
    /// Whether there is a chat page.
    pub page: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            keys: ApiKeys::default(),
            max_connections: 1024,
            max_body: 10 << 20,
            max_bodies: 256 << 20,
            head_time: Duration::from_secs(30),
            body_time: Duration::from_secs(30),
            write_time: Duration::from_mins(1),
            ping_time: Duration::from_secs(15),
            cors_origins: Vec::new(),
            adapter_roots: Vec::new(),
            page: true,
        }
    }
}

/// State of a server, shared by its connections.
#[derive(Debug, Clone)]
pub(super) struct AppState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: ServerOptions,
    /// Set when the model is loaded.
    service: OnceLock<Service>,
    draining: AtomicBool,
    metrics: Arc<Metrics>,
    body_room: Arc<Semaphore>,
    conversions: Arc<Semaphore>,
}

/// Bytes of bodies are counted in units of this size.
pub(super) const BODY_UNIT: usize = 1 << 10;

impl AppState {
    pub(super) fn new(options: ServerOptions) -> Self {
        // Images and long texts keep a core busy: more at a time would only take more memory.
        let conversions =
            std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
        Self(Arc::new(Shared {
            body_room: Arc::new(Semaphore::new(options.max_bodies.div_ceil(BODY_UNIT))),
            options,
            service: OnceLock::new(),
            draining: AtomicBool::new(false),
            metrics: Arc::new(Metrics::new()),
            conversions: Arc::new(Semaphore::new(conversions)),
        }))
    }

    pub(super) fn options(&self) -> &ServerOptions {
        &self.0.options
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// Room for bodies, in units of [`BODY_UNIT`].
    pub(super) fn body_room(&self) -> &Arc<Semaphore> {
        &self.0.body_room
    }

    /// Permits for the conversion of bodies.
    pub(super) fn conversions(&self) -> &Arc<Semaphore> {
        &self.0.conversions
    }

    /// The API, if the model is loaded.
    pub(super) fn loaded_service(&self) -> Option<&Service> {
        self.0.service.get()
    }

    pub(super) fn set_service(&self, service: Service) {
        self.0.metrics.watch(service.engine().clone());
        // A second model is ignored: the server has one.
        let _ = self.0.service.set(service);
    }

    /// The API.
    ///
    /// # Errors
    /// 503 while the model is loading.
    pub(super) fn service(&self) -> Result<&Service, ApiError> {
        self.loaded_service()
            .ok_or_else(|| ApiError::unavailable("loading", "the model is being loaded"))
    }

    pub(super) fn set_draining(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
    }

    /// Whether the server is about to end.
    pub(super) fn is_draining(&self) -> bool {
        let engine = self.loaded_service().map(|service| service.engine().stats().state);
        self.0.draining.load(Ordering::SeqCst) || engine == Some(EngineState::Draining)
    }

    /// Why the server answers no requests; `None` if it does.
    pub(super) fn not_ready(&self) -> Option<&'static str> {
        let Some(service) = self.loaded_service() else { return Some("loading") };
        match service.engine().stats().state {
            EngineState::Dead => Some("dead"),
            _ if self.is_draining() => Some("draining"),
            _ => None,
        }
    }
}
