//! Ctrl-C stops a response or a batch while there is one; at any other time it ends the program.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::Error;
use crate::failure::Result;

const IDLE: u8 = 0;
const GENERATING: u8 = 1;
const INTERRUPTED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(IDLE);

/// The exit code of a program that Ctrl-C ended, as shells report it.
const EXIT_CODE: i32 = 130;

/// Installs the Ctrl-C handler for the rest of the program.
pub fn install_handler() -> Result {
    ctrlc::set_handler(|| {
        let interrupted =
            STATE.compare_exchange(GENERATING, INTERRUPTED, Ordering::SeqCst, Ordering::SeqCst);
        // Nothing to stop, or a second Ctrl-C before the first had an effect.
        if interrupted.is_err() {
            exit();
        }
    })
    .map_err(Error::system("cannot install the Ctrl-C handler"))?;
    Ok(())
}

/// Ends the program as Ctrl-C does.
pub fn exit() -> ! {
    std::process::exit(EXIT_CODE)
}

/// While it lives, Ctrl-C sets a flag instead of ending the program.
pub struct InterruptGuard {
    state: &'static AtomicU8,
}

impl InterruptGuard {
    pub fn begin() -> Self {
        STATE.store(GENERATING, Ordering::SeqCst);
        Self { state: &STATE }
    }

    /// Whether Ctrl-C was pressed since [`begin`](Self::begin).
    pub fn interrupted(&self) -> bool {
        self.state.load(Ordering::SeqCst) == INTERRUPTED
    }
}

impl Drop for InterruptGuard {
    fn drop(&mut self) {
        self.state.store(IDLE, Ordering::SeqCst);
    }
}
