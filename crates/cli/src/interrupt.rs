//! Ctrl-C stops a response or a batch while there is one; at any other time it ends the program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::SIGINT;
use signal_hook::flag;

use crate::error::Error;
use crate::failure::Result;

/// The exit code of a program that Ctrl-C ended, as shells report it.
const EXIT_CODE: i32 = 130;

static INTERRUPT: LazyLock<Interrupt> = LazyLock::new(|| Interrupt {
    ends_program: Arc::new(AtomicBool::new(true)),
    interrupted: Arc::new(AtomicBool::new(false)),
});

struct Interrupt {
    /// Nothing to stop, or a Ctrl-C that has had no effect yet.
    ends_program: Arc<AtomicBool>,
    interrupted: Arc<AtomicBool>,
}

/// Installs the Ctrl-C handler for the rest of the program.
pub fn install_handler() -> Result {
    let Interrupt { ends_program, interrupted } = &*INTERRUPT;
    // Actions of a signal run in the order of their registration.
    flag::register_conditional_shutdown(SIGINT, EXIT_CODE, ends_program.clone())
        .and_then(|_| flag::register(SIGINT, interrupted.clone()))
        .and_then(|_| flag::register(SIGINT, ends_program.clone()))
        .map_err(Error::system("cannot install the Ctrl-C handler"))?;
    Ok(())
}

/// Ends the program as Ctrl-C does.
pub fn exit() -> ! {
    std::process::exit(EXIT_CODE)
}

/// While it lives, the first Ctrl-C sets a flag instead of ending the program.
pub struct InterruptGuard;

impl InterruptGuard {
    pub fn begin() -> Self {
        INTERRUPT.interrupted.store(false, Ordering::SeqCst);
        INTERRUPT.ends_program.store(false, Ordering::SeqCst);
        Self
    }

    /// Whether Ctrl-C was pressed since [`begin`](Self::begin).
    pub fn interrupted(&self) -> bool {
        INTERRUPT.interrupted.load(Ordering::SeqCst)
    }
}

impl Drop for InterruptGuard {
    fn drop(&mut self) {
        INTERRUPT.ends_program.store(true, Ordering::SeqCst);
    }
}
