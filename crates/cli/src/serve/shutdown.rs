//! SIGTERM and Ctrl-C: the first ends the server in order, the second at once

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::error::Error;
use crate::failure::Result;

/// The exit code of a program that Ctrl-C ended, as shells report it.
const EXIT_CODE: i32 = 130;

/// Signals to stop. Until somebody waits for them, the first one ends the program.
pub struct Shutdown(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waited_for: AtomicBool,
    stop: Notify,
}

impl Shutdown {
    /// Takes the signals over, also of a process whose default is to ignore them, as the first of a
    /// container.
    pub fn install(runtime: &Runtime) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let _in_runtime = runtime.enter();
        let mut signals = Signals::new()?;
        runtime.spawn({
            let shared = shared.clone();
            async move {
                signals.next().await;
                if !shared.waited_for.load(Ordering::SeqCst) {
                    std::process::exit(EXIT_CODE);
                }
                shared.stop.notify_one();
                signals.next().await;
                std::process::exit(EXIT_CODE);
            }
        });
        Ok(Self(shared))
    }

    /// Waits for the first signal.
    pub fn wait(&self, runtime: &Runtime) {
        self.0.waited_for.store(true, Ordering::SeqCst);
        runtime.block_on(self.0.stop.notified());
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};

        let open = |kind| signal(kind).map_err(Error::system("cannot handle signals"));
        Ok(Self {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // Without a handler nothing can be waited for: the system's default ends the program.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
