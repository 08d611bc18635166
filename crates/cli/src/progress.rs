//! Events of a training run ─► a progress bar on a terminal, lines elsewhere, nothing with --quiet

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use train::data::TruncationCounts;
use train::run::Throughput;
use train::{CachedPrefix, Event, LabelLoss, PrefixCacheDecision};

use crate::output::note;

/// Shows the events of a training run on stderr.
pub struct TrainingProgress {
    quiet: bool,
    terminal: bool,
    /// The template of the bar, and the bar.
    bar: Option<(&'static str, ProgressBar)>,
    /// When the last line about a step was printed.
    last_line: Option<Instant>,
    total: usize,
    steps_per_epoch: usize,
    /// Takes the lines, and there is no bar.
    lines: Option<LineSink>,
}

/// Takes a line.
type LineSink = Box<dyn Fn(&str)>;

/// Minimum time between two lines about steps.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

impl TrainingProgress {
    /// Uses a bar if stderr is a terminal.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            terminal: std::io::stderr().is_terminal(),
            bar: None,
            last_line: None,
            total: 0,
            steps_per_epoch: 1,
            lines: None,
        }
    }

    /// Gives its lines to `lines`, without those about steps: somebody else shows them.
    pub fn with_lines(lines: impl Fn(&str) + 'static) -> Self {
        Self { terminal: false, lines: Some(Box::new(lines)), ..Self::new(false) }
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
                trainable_parameters,
            } => {
                (self.total, self.steps_per_epoch) = (total, steps_per_epoch);
                self.print_line(&format!(
                    "{trainable_parameters} trainable parameters, {total} steps \
                     ({steps_per_epoch} per epoch)"
                ));
                self.length_counts("training rows", train);
                self.length_counts("held-out rows", eval);
            }
            Event::Resumed { step } => self.print_line(&format!("resuming after step {step}")),
            Event::PrefixCache(decision) => self.print_line(&describe_cache(decision)),
            Event::Evaluating { done, rows } if self.terminal => {
                let bar = self.bar(rows, "evaluating {wide_bar} {pos}/{len} rows");
                bar.set_position(done as u64);
            }
            Event::StoppedEarly { step, best_step } => {
                self.clear();
                self.print_line(&format!(
                    "stopped after step {step}: the held-out loss was lowest after step {best_step}"
                ));
            }
            Event::Evaluated { step, loss: LabelLoss { loss, .. }, exact_match }
            | Event::ResultEvaluated { step, loss: LabelLoss { loss, .. }, exact_match } => {
                self.clear();
                let exact_match = exact_match.map_or(String::new(), |found| {
                    format!("  exact match {}/{}", found.correct, found.rows)
                });
                let when = match step {
                    0 => "base model".into(),
                    step => format!("step {step}"),
                };
                self.print_line(&format!(
                    "{when}: held-out loss {loss:.4}  perplexity {:.2}{exact_match}",
                    loss.exp()
                ));
            }
            Event::Skipped { report, in_a_row } => {
                let row = if in_a_row > 1 {
                    format!(", as {} before it", in_a_row - 1)
                } else {
                    String::new()
                };
                self.print_line(&format!(
                    "step {} was skipped{row}: its loss or a gradient is not finite",
                    report.step
                ));
            }
            Event::Tested { step, steps, learning_rate, loss } => {
                (self.total, self.steps_per_epoch) = (steps, steps);
                self.show_step(step, format!("lr {learning_rate:.2e}  loss {loss:.4}"));
            }
            Event::Stepped(report, throughput) if self.lines.is_none() => {
                let message = format!(
                    "loss {:.4}  lr {:.2e}  {:.0} label tokens/s  {} left",
                    report.loss,
                    report.learning_rate,
                    throughput.label_tokens_per_second,
                    time_left(throughput)
                );
                self.show_step(report.step, message);
            }
            _ => {}
        }
    }

    /// Moves the bar to a step, or prints a line about it if the last one is old enough.
    fn show_step(&mut self, step: usize, message: String) {
        if self.terminal {
            let bar = self.bar(self.total, "{wide_bar} {pos}/{len}  {msg}");
            bar.set_message(message);
            bar.set_position(step as u64);
            return;
        }
        let due = self.last_line.is_none_or(|at| at.elapsed() >= LINE_INTERVAL);
        if due || step == self.total {
            self.last_line = Some(Instant::now());
            let epoch = (step - 1) / self.steps_per_epoch + 1;
            note(&format!("step {step}/{}  epoch {epoch}  {message}", self.total));
        }
    }

    /// Prints how many rows there are, and what the length limit did to them.
    fn length_counts(&self, what: &str, counts: TruncationCounts) {
        let TruncationCounts { complete, truncated, dropped } = counts;
        if complete + truncated + dropped == 0 {
            return;
        }
        let mut message = format!("{} {what}", complete + truncated);
        if truncated > 0 {
            message +=
                &format!(", {truncated} of them truncated to --max-len or the model's context");
        }
        if dropped > 0 {
            message += &format!("; {dropped} skipped because the prompt exceeds it");
        }
        self.print_line(&message);
    }

    /// Prints a line above the bar.
    fn print_line(&self, text: &str) {
        match (&self.lines, &self.bar) {
            (Some(lines), _) => lines(text),
            (None, Some((_, bar))) => bar.suspend(|| note(text)),
            (None, None) => note(text),
        }
    }

    /// The bar with this template; replaces a bar with another one.
    fn bar(&mut self, len: usize, template: &'static str) -> &ProgressBar {
        if self.bar.as_ref().is_some_and(|(current, _)| *current != template) {
            self.clear();
        }
        let (_, bar) = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(template).expect("the template is fixed");
            (template, ProgressBar::new(len as u64).with_style(style))
        });
        bar
    }

    /// Removes the bar; the next event draws a new one.
    pub fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Whether the frozen-prefix cache is on, in words.
fn describe_cache(decision: PrefixCacheDecision) -> String {
    let cached = match decision {
        PrefixCacheDecision::On(cached) => cached,
        PrefixCacheDecision::Off(reason) => return format!("frozen-prefix cache: off, {reason}"),
    };
    let CachedPrefix { layers, examples, all_examples, bytes, precision, on_disk, .. } = cached;
    let rows = match all_examples - examples {
        0 => "all rows".into(),
        _ => format!("{examples} of {all_examples} rows"),
    };
    let layers = match layers {
        1 => "1 layer runs".into(),
        _ => format!("{layers} layers run"),
    };
    let place = if on_disk { "on disk" } else { "in memory" };
    format!(
        "frozen-prefix cache: {layers} once for {rows}, {} in {} {place}",
        HumanBytes(bytes),
        precision.name()
    )
}

/// The time that the remaining steps take.
pub fn time_left(throughput: Throughput) -> String {
    let seconds = throughput.steps_left as f64 * throughput.seconds_per_step;
    format_duration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// A duration in its largest units.
pub fn format_duration(duration: Duration) -> String {
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
    fn durations_are_formatted() {
        let text = |seconds| format_duration(Duration::from_secs(seconds));
        assert_eq!([text(7), text(61), text(3660)], ["7 s", "1:01 min", "1:01 h"]);
    }
}
