//! Ctrl-C while an answer is written ends the answer; at any other time it ends the program.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::Error;
use crate::failure::Result;

const IDLE: u8 = 0;
const WRITING: u8 = 1;
const INTERRUPTED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(IDLE);

/// What a shell reports for a program that Ctrl-C ended.
const EXIT_CODE: i32 = 130;

/// Takes charge of Ctrl-C, for the rest of the program.
pub fn watch() -> Result {
    ctrlc::set_handler(|| {
        let interrupted =
            STATE.compare_exchange(WRITING, INTERRUPTED, Ordering::SeqCst, Ordering::SeqCst);
        // Nothing to interrupt, or a second Ctrl-C because the first was not fast enough.
        if interrupted.is_err() {
            std::process::exit(EXIT_CODE);
        }
    })
    .map_err(Error::system("Ctrl-C cannot be watched for"))?;
    Ok(())
}

/// An answer is being written while this lives.
pub struct Writing {
    state: &'static AtomicU8,
}

impl Writing {
    pub fn begin() -> Self {
        STATE.store(WRITING, Ordering::SeqCst);
        Self { state: &STATE }
    }

    /// Whether Ctrl-C came.
    pub fn interrupted(&self) -> bool {
        self.state.load(Ordering::SeqCst) == INTERRUPTED
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.state.store(IDLE, Ordering::SeqCst);
    }
}
