//! Ctrl-C and SIGTERM stop a response, a batch or a training run while there is one; at any other time they
//! end the program. A second one always ends it, at once.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::Error;
use crate::failure::Result;

static INTERRUPT: LazyLock<Interrupt> = LazyLock::new(|| Interrupt {
    ends_program: Arc::new(AtomicBool::new(true)),
    interrupted: Arc::new(AtomicBool::new(false)),
    signal: Arc::new(AtomicUsize::new(SIGINT as usize)),
});

struct Interrupt {
    /// Nothing to stop, or a signal that has had no effect yet.
    ends_program: Arc<AtomicBool>,
    interrupted: Arc<AtomicBool>,
    /// The signal that came last.
    signal: Arc<AtomicUsize>,
}

/// What stops a long piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignals {
    /// Ctrl-C; SIGTERM keeps its default, to end the program.
    CtrlC,
    /// Ctrl-C, and SIGTERM, which systems send before they end a program.
    CtrlCOrTerminate,
}

/// The exit code of a program that a signal ended, as shells report it.
const fn exit_code(signal: c_int) -> c_int {
    128 + signal
}

/// Installs the handlers for the rest of the program.
pub fn install_handler(signals: StopSignals) -> Result {
    let signals = match signals {
        StopSignals::CtrlC => &[SIGINT][..],
        StopSignals::CtrlCOrTerminate => &[SIGINT, SIGTERM],
    };
    let Interrupt { ends_program, interrupted, signal } = &*INTERRUPT;
    for &number in signals {
        // Actions of a signal run in the order of their registration.
        flag::register_conditional_shutdown(number, exit_code(number), ends_program.clone())
            .and_then(|_| flag::register_usize(number, signal.clone(), number as usize))
            .and_then(|_| flag::register(number, interrupted.clone()))
            .and_then(|_| flag::register(number, ends_program.clone()))
            .map_err(Error::system("cannot install the handler of Ctrl-C"))?;
    }
    Ok(())
}

/// The flag that the first signal sets while an [`InterruptGuard`] lives.
pub fn flag() -> &'static AtomicBool {
    &INTERRUPT.interrupted
}

/// Ends the program as the signal that came last does.
pub fn exit() -> ! {
    std::process::exit(exit_code(INTERRUPT.signal.load(Ordering::SeqCst) as c_int))
}

/// While it lives, the first signal sets a flag instead of ending the program.
pub struct InterruptGuard {
    interrupt: &'static Interrupt,
}

impl InterruptGuard {
    pub fn begin() -> Self {
        let interrupt = &*INTERRUPT;
        interrupt.interrupted.store(false, Ordering::SeqCst);
        interrupt.ends_program.store(false, Ordering::SeqCst);
        Self { interrupt }
    }

    /// Whether a signal came since [`begin`](Self::begin).
    pub fn interrupted(&self) -> bool {
        self.interrupt.interrupted.load(Ordering::SeqCst)
    }
}

impl Drop for InterruptGuard {
    fn drop(&mut self) {
        self.interrupt.ends_program.store(true, Ordering::SeqCst);
    }
}
