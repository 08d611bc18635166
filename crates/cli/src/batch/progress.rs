//! Responses of a batch ─► a progress bar on a terminal, lines elsewhere, nothing with --quiet

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serve::openai::BatchResponse;

use crate::output::note;

/// Minimum time between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows on stderr how far a batch is.
pub struct BatchProgress {
    quiet: bool,
    bar: Option<ProgressBar>,
    total: usize,
    done: usize,
    failed: usize,
    tokens: u64,
    started: Instant,
    last_line: Instant,
}

impl BatchProgress {
    /// Starts with `done` of `total` requests, `failed` of which failed.
    pub fn new(quiet: bool, total: usize, done: usize, failed: usize) -> Self {
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {msg}, {eta} left");
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(total as u64).with_style(style.expect("a valid template"));
            bar.with_position(done as u64)
        });
        let started = Instant::now();
        Self { quiet, bar, total, done, failed, tokens: 0, started, last_line: started }
    }

    /// Counts a response.
    pub fn show(&mut self, response: &BatchResponse) {
        self.done += 1;
        self.failed += usize::from(!response.is_success());
        self.tokens += response.completion_tokens();
        let speed = self.tokens as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        let mut message = format!("{speed:.0} tokens/s");
        if self.failed > 0 {
            message += &format!(", {} failed", self.failed);
        }
        match &self.bar {
            Some(bar) => {
                bar.set_message(message);
                bar.inc(1);
            }
            None if self.quiet => {}
            None => {
                let due = self.last_line.elapsed() >= LINE_INTERVAL;
                if due || self.done == self.total {
                    self.last_line = Instant::now();
                    note(&format!("{}/{} requests  {message}", self.done, self.total));
                }
            }
        }
    }
}

impl Drop for BatchProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
