//! What a run tells ─► a progress bar on a terminal, plain lines elsewhere, nothing with --quiet

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use train::data::TruncationCounts;
use train::{Event, LabelLoss};

use crate::output::note;

/// Shows the events of a run on stderr.
pub struct Progress {
    quiet: bool,
    terminal: bool,
    /// What it looks like, and the bar.
    bar: Option<(&'static str, ProgressBar)>,
    /// When the last plain line was written.
    last_line: Option<Instant>,
    total: usize,
    steps_per_epoch: usize,
}

/// Between two plain lines about steps.
const LINE_EVERY: Duration = Duration::from_secs(5);

impl Progress {
    /// Looks at stderr to choose between a bar and lines.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            terminal: std::io::stderr().is_terminal(),
            bar: None,
            last_line: None,
            total: 0,
            steps_per_epoch: 1,
        }
    }

    /// Shows one event.
    pub fn show(&mut self, event: Event) {
        if self.quiet {
            return;
        }
        match event {
            Event::Prepared {
                train,
                eval,
                total_steps: total,
                steps_per_epoch,
                trainable_parameters: parameters,
            } => {
                (self.total, self.steps_per_epoch) = (total, steps_per_epoch);
                self.line(&format!(
                    "learning {parameters} numbers in {total} steps, {steps_per_epoch} an epoch"
                ));
                self.fitted("rows to learn from", train);
                self.fitted("held-out rows", eval);
            }
            Event::Resumed { step } => self.line(&format!("going on behind step {step}")),
            Event::Evaluating { done, rows } if self.terminal => {
                let bar = self.bar(rows, "evaluating {wide_bar} {pos}/{len} rows");
                bar.set_position(done as u64);
            }
            Event::Evaluated { step, loss: LabelLoss { loss, .. }, exact_match } => {
                self.clear();
                let answered = exact_match.map_or(String::new(), |found| {
                    format!("  exact match {}/{}", found.correct, found.rows)
                });
                let when = match step {
                    0 => "base model".into(),
                    step => format!("step {step}"),
                };
                self.line(&format!(
                    "{when}: held-out loss {loss:.4}  perplexity {:.2}{answered}",
                    loss.exp()
                ));
            }
            Event::Stepped(report, pace) => {
                let left = pace.steps_left as f64 * pace.seconds_per_step;
                let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
                let words = format!(
                    "loss {:.4}  lr {:.2e}  {:.0} label tokens/s  {} left",
                    report.loss,
                    report.learning_rate,
                    pace.label_tokens_per_second,
                    minutes(left)
                );
                if self.terminal {
                    let total = self.total;
                    let bar = self.bar(total, "{wide_bar} {pos}/{len}  {msg}");
                    bar.set_message(words);
                    bar.set_position(report.step as u64);
                } else {
                    self.step_line(report.step, &words);
                }
            }
            _ => {}
        }
    }

    fn step_line(&mut self, step: usize, words: &str) {
        let due = self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY);
        if due || step == self.total {
            self.last_line = Some(Instant::now());
            let epoch = (step - 1) / self.steps_per_epoch + 1;
            note(&format!("step {step}/{}  epoch {epoch}  {words}", self.total));
        }
    }

    fn fitted(&self, what: &str, fitted: TruncationCounts) {
        let TruncationCounts { complete: whole, truncated, dropped } = fitted;
        if whole + truncated + dropped == 0 {
            return;
        }
        let mut words = format!("{} {what}", whole + truncated);
        if truncated > 0 {
            words += &format!(", {truncated} of them cut at --max-len or the model's context");
        }
        if dropped > 0 {
            words += &format!("; {dropped} left out, whose prompt alone is longer than that");
        }
        self.line(&words);
    }

    /// A line above the bar.
    fn line(&self, text: &str) {
        match &self.bar {
            Some((_, bar)) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }

    /// The bar of this look; one of another look makes room for it.
    fn bar(&mut self, len: usize, template: &'static str) -> &ProgressBar {
        if self.bar.as_ref().is_some_and(|(shown, _)| *shown != template) {
            self.clear();
        }
        let (_, bar) = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(template).expect("the template is fixed");
            (template, ProgressBar::new(len as u64).with_style(style))
        });
        bar
    }

    /// Takes the bar off the screen; the next event makes its own.
    pub fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn minutes(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{seconds} s")
    } else if seconds < 3600 {
        format!("{}:{:02} min", seconds / 60, seconds % 60)
    } else {
        format!("{}:{:02} h", seconds / 3600, seconds % 3600 / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_reads_like_time() {
        let text = |seconds| minutes(Duration::from_secs(seconds));
        assert_eq!([text(7), text(61), text(3660)], ["7 s", "1:01 min", "1:01 h"]);
    }
}
