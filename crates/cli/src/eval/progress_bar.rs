//! The progress of the evaluation of one model.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar with the model's name; invisible where stderr is not a terminal.
pub fn progress_bar(name: &str, rows: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} rows, {eta} left")
        .expect("a valid template");
    ProgressBar::new(rows as u64).with_style(style).with_message(name.to_owned())
}
