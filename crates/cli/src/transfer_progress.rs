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

/// Shows the progress of the files of a download, one after another.
#[cfg(feature = "hub")]
pub fn show_files() -> impl FnMut(&hub::FetchProgress) {
    let mut current: Option<(String, TransferProgress)> = None;
    move |now| {
        if current.as_ref().is_none_or(|(file, _)| *file != now.file) {
            current = Some((now.file.clone(), TransferProgress::new(&now.file, now.total)));
        }
        if let Some((_, transfer)) = &current {
            transfer.set(now.done);
        }
    }
}

impl Drop for TransferProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
