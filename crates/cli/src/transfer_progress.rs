//! Progress of a download or of unpacking: a bar on a terminal, one line elsewhere.

use std::io::{IsTerminal, stderr};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::output;

/// Shows how many bytes of a file are done.
pub struct TransferProgress {
    bar: ProgressBar,
}

impl TransferProgress {
    /// Starts with 0 of `total` bytes.
    pub fn new(what: &str, total: u64) -> Self {
        if !stderr().is_terminal() {
            output::note(&format!("{what} ({})", HumanBytes(total)));
        }
        let style = ProgressStyle::with_template(
            "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        )
        .expect("a valid template");
        let bar = ProgressBar::new(total).with_style(style).with_message(what.to_owned());
        Self { bar }
    }

    /// Sets the number of bytes done.
    pub fn set(&self, done: u64) {
        self.bar.set_position(done);
    }
}

impl Drop for TransferProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
