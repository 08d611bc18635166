//! Connections ─► routes, within limits of number and time

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::metrics::Metrics;
use super::routes::router;
use super::state::{AppState, ServerOptions};
use super::timed_stream::TimedStream;
use crate::engine::{DrainReport, Engine};
use crate::openai::Service;

/// Time for the last responses to be sent, after the engine has ended.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// An HTTP server of an engine. Clones are the same server.
///
/// It serves before it has an engine: `/health/ready` and all requests tell then that the model is loading.
///
/// ```text
/// Server::new ─► serve(listener), on a runtime
///            └─► Engine::start(.., server.observer()) ─► set_service ─► shut_down(engine)
/// ```
#[derive(Debug, Clone)]
pub struct Server {
    state: AppState,
    /// Turns true when connections are to be closed.
    closing: watch::Sender<bool>,
}

impl Server {
    /// A server without an engine.
    pub fn new(options: ServerOptions) -> Self {
        Self { state: AppState::new(options), closing: watch::Sender::new(false) }
    }

    /// What makes the engine's metrics: the observer of [`Engine::start`].
    pub fn observer(&self) -> Arc<Metrics> {
        self.state.metrics().clone()
    }

    /// Starts to answer requests. A server has one service: later ones are ignored.
    pub fn set_service(&self, service: Service) {
        self.state.set_service(service);
    }

    /// All paths, for another server or for tests.
    pub fn router(&self) -> Router {
        router(self.state.clone())
    }

    /// Accepts connections until [`shut_down`](Self::shut_down).
    pub async fn serve(&self, listener: TcpListener) {
        let options = self.state.options();
        let places = Arc::new(Semaphore::new(options.max_connections));
        let graceful = GracefulShutdown::new();
        let mut closing = self.closing.subscribe();
        let router = self.router();
        loop {
            let accept = async {
                // Never closed.
                let place = places.clone().acquire_owned().await.ok()?;
                Some((accept(&listener).await, place))
            };
            let connection = tokio::select! {
                connection = accept => connection,
                _ = closing.wait_for(|closing| *closing) => break,
            };
            let Some((stream, place)) = connection else { break };
            // Tokens are small, and wait for nothing.
            let _ = stream.set_nodelay(true);
            let stream = TimedStream::new(stream, options.write_time);
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(options.head_time)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                let _place = place;
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended early");
                }
            });
        }
        drop(listener);
        if timeout(CLOSE_TIME, graceful.shutdown()).await.is_err() {
            tracing::warn!("connections were still open at the end");
        }
    }

    /// Refuses new requests, as `/health/ready` tells; [`shut_down`](Self::shut_down) does that too.
    pub fn set_draining(&self) {
        self.state.set_draining();
    }

    /// Refuses new requests, waits until those of the engine are complete, fails the rest after `within`, and
    /// closes the connections: [`serve`](Self::serve) returns. Blocks until the engine has ended.
    pub fn shut_down(&self, engine: &Engine, within: Duration) -> DrainReport {
        self.set_draining();
        let report = engine.drain(within);
        self.close();
        report
    }

    /// Closes the connections: [`serve`](Self::serve) returns when the last responses are sent.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }
}

/// The next connection. Errors of one that is gone already, or of too many open files, do not end the server.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _address)) => return stream,
            Err(error) if is_connection_error(&error) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept connections");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
