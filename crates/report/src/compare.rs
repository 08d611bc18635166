//! Several runs side by side: a row of results for each, the settings in which they differ, and their curves in one
//! picture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::error::Result;
use crate::format::{format_bytes, format_count, format_number, format_seconds};
use crate::page;
use crate::plot::of_run::{curve, held_out, label_rate, openness};
use crate::plot::{Drawing, Ink, Line, LinePlot, LineStyle, Plot};
use crate::run::{Run, settings};
use crate::series::{Point, smooth};

/// Runs side by side.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The results, in the order of the runs.
    pub runs: Vec<RunRow>,
    /// The settings in which the runs differ.
    pub differences: Vec<SettingRow>,
    #[serde(skip)]
    curves: Vec<Curves>,
}

/// The results of one run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RunRow {
    /// Unique name: the folder's name, or its path if several have that name.
    pub run: String,
    /// The folder.
    #[serde(serialize_with = "lossy")]
    pub folder: PathBuf,
    /// Name of the base model.
    pub model: Option<String>,
    /// Completed steps.
    pub steps: usize,
    /// Steps of the whole run, if the log tells.
    pub total_steps: Option<usize>,
    /// Smoothed training loss at the end.
    pub train_loss: Option<f64>,
    /// Held-out loss before training.
    pub eval_loss_before: Option<f64>,
    /// Latest held-out loss after training.
    pub eval_loss: Option<f64>,
    /// Lowest held-out loss.
    pub best_eval_loss: Option<f64>,
    /// Latest fraction of exactly matching responses.
    pub exact_match: Option<f64>,
    /// Mean absolute gate at the end.
    pub mean_gate: Option<f64>,
    /// Labels per second of training.
    pub label_tokens_per_second: Option<f64>,
    /// Seconds of all steps.
    pub train_seconds: f64,
    /// Largest resident memory in bytes.
    pub peak_memory: Option<u64>,
    /// Number of trainable parameters.
    pub trainable_parameters: Option<u64>,
}

/// A setting in which runs differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SettingRow {
    /// Path of the setting, such as `optimizer.beta_1`.
    pub key: String,
    /// The value of each run; null if it has none.
    pub values: Vec<Value>,
}

impl SettingRow {
    /// The values as text.
    pub fn texts(&self) -> Vec<String> {
        self.values.iter().map(settings::text).collect()
    }
}

/// What is drawn of a run.
#[derive(Debug, Clone)]
struct Curves {
    loss: Vec<Point>,
    held_out: Vec<Point>,
    openness: Vec<Point>,
    learning_rate: Vec<Point>,
    label_rate: Vec<Point>,
}

fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

impl Comparison {
    /// Compares runs.
    pub fn new(runs: &[Run]) -> Self {
        let is_unique = |run: &Run| runs.iter().filter(|other| other.name == run.name).count() == 1;
        let name = |run: &Run| {
            if is_unique(run) { run.name.clone() } else { run.folder.display().to_string() }
        };
        let curves = runs.iter().map(Curves::new).collect::<Vec<_>>();
        let rows =
            runs.iter().zip(&curves).map(|(run, curves)| RunRow::new(name(run), run, curves));
        Self { runs: rows.collect(), differences: differences(runs), curves }
    }

    /// The results as texts: of each the name and the value of every run. Results that no run has are left out.
    pub fn result_rows(&self) -> Vec<Vec<String>> {
        const NONE: &str = "–";
        let rows = RESULTS.iter().map(|(name, value)| {
            let cells = self.runs.iter().map(|run| value(run).unwrap_or_else(|| NONE.into()));
            std::iter::once((*name).to_owned()).chain(cells).collect::<Vec<_>>()
        });
        rows.filter(|row| row[1..].iter().any(|cell| cell != NONE)).collect()
    }

    /// The curves of all runs, of each kind in one plot.
    pub fn plots(&self) -> Vec<Plot> {
        type Pick = fn(&Curves) -> &Vec<Point>;
        let kinds: [(&'static str, &str, &str, Pick); 5] = [
            (
                "held-out-loss",
                "Held-out loss",
                "Mean loss of a label of the held-out rows, in nats.",
                |c| &c.held_out,
            ),
            ("loss", "Training loss", "Mean loss of a label, in nats; smoothed.", |c| &c.loss),
            (
                "gates",
                "How far the gates opened",
                "The mean absolute gate of all layers and heads; 0 is the base model.",
                |c| &c.openness,
            ),
            ("learning-rate", "Learning rate", "Of each step.", |c| &c.learning_rate),
            (
                "throughput",
                "Label tokens per second",
                "Label tokens of a step by its duration; smoothed.",
                |c| &c.label_rate,
            ),
        ];
        let plots = kinds.into_iter().filter_map(|(name, title, description, pick)| {
            let style = if name == "held-out-loss" { LineStyle::Dots } else { LineStyle::Strong };
            let named = self.runs.iter().zip(&self.curves).enumerate();
            let lines = named.map(|(index, (run, curves))| Line {
                label: run.run.clone(),
                ink: Ink::Series(index),
                points: pick(curves).clone(),
                style,
            });
            let lines = lines.filter(|line| !line.points.is_empty()).collect::<Vec<_>>();
            let last_step = lines.iter().filter_map(|line| Some(line.points.last()?.0));
            let last_step = last_step.reduce(f64::max)?.max(1.0);
            let plot =
                LinePlot { lines, last_step, from_zero: true, tall: true, ..LinePlot::default() };
            let (title, description) = (title.to_owned(), description.to_owned());
            let table = plot.table(6);
            Some(Plot { name, title, description, table, drawing: Drawing::Lines(plot) })
        });
        plots.collect()
    }
}

/// Name and text of a result.
type ResultText = (&'static str, fn(&RunRow) -> Option<String>);

const RESULTS: &[ResultText] = &[
    ("model", |run| run.model.clone()),
    ("steps", |run| {
        let total = run.total_steps.filter(|total| *total != run.steps);
        Some(total.map_or(run.steps.to_string(), |total| format!("{} of {total}", run.steps)))
    }),
    ("training loss", |run| run.train_loss.map(format_number)),
    ("held-out loss before", |run| run.eval_loss_before.map(format_number)),
    ("held-out loss", |run| run.eval_loss.map(format_number)),
    ("best held-out loss", |run| run.best_eval_loss.map(format_number)),
    ("exact match", |run| run.exact_match.map(|fraction| format!("{:.1} %", 100.0 * fraction))),
    ("mean absolute gate", |run| run.mean_gate.map(format_number)),
    ("label tokens/s", |run| run.label_tokens_per_second.map(format_number)),
    ("time of steps", |run| Some(format_seconds(run.train_seconds))),
    ("peak memory", |run| run.peak_memory.map(format_bytes)),
    ("trainable parameters", |run| run.trainable_parameters.map(format_count)),
];

impl Curves {
    fn new(run: &Run) -> Self {
        Self {
            loss: smooth(&curve(run, |step| step.loss)),
            held_out: held_out(run),
            openness: openness(run),
            learning_rate: curve(run, |step| step.learning_rate),
            label_rate: smooth(&label_rate(run)),
        }
    }
}

impl RunRow {
    fn new(name: String, run: &Run, curves: &Curves) -> Self {
        let start = run.metrics.start;
        let finite = |loss: f64| Some(loss).filter(|loss| loss.is_finite());
        Self {
            run: name,
            folder: run.folder.clone(),
            model: run.model().map(str::to_owned),
            steps: run.completed_steps(),
            total_steps: start.map(|start| start.total_steps),
            train_loss: curves.loss.last().map(|point| point.1),
            eval_loss_before: run.eval_before().and_then(|eval| finite(eval.loss)),
            eval_loss: run.eval_after().and_then(|eval| finite(eval.loss)),
            best_eval_loss: run.best_eval().map(|eval| eval.loss),
            exact_match: run.metrics.evals.iter().rev().find_map(|eval| eval.exact_match),
            mean_gate: curves.openness.last().map(|point| point.1),
            label_tokens_per_second: run.label_tokens_per_second(),
            train_seconds: run.train_seconds(),
            peak_memory: run.peak_memory(),
            trainable_parameters: start.map(|start| start.trainable_parameters),
        }
    }
}

/// The settings that are not equal in all runs, in the order of the first run that has them.
fn differences(runs: &[Run]) -> Vec<SettingRow> {
    let all = runs.iter().map(|run| settings::flatten(&run.settings)).collect::<Vec<_>>();
    let by_key = all.iter().map(|own| own.iter().cloned().collect::<BTreeMap<_, _>>());
    let by_key = by_key.collect::<Vec<_>>();
    let mut keys = Vec::new();
    for (key, _) in all.iter().flatten() {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    let row = |key: String| {
        let values = by_key.iter().map(|own| own.get(&key).cloned().unwrap_or(Value::Null));
        SettingRow { values: values.collect(), key }
    };
    let differs = |row: &SettingRow| row.values.iter().any(|value| *value != row.values[0]);
    keys.into_iter().map(row).filter(differs).collect()
}

/// Writes the page of a comparison.
///
/// # Errors
/// [`Error::Write`](crate::Error::Write); an older file is unchanged.
pub fn write_comparison(comparison: &Comparison, path: &Path) -> Result<()> {
    crate::files::write(path, &page::comparison_page(comparison))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::example_folder;

    fn two_runs() -> Comparison {
        let folders = [example_folder(), example_folder()];
        let mut runs = folders.map(|folder| Run::read(folder.path()).unwrap());
        runs[1].settings["learning_rate"] = 0.02.into();
        runs[1].settings["optimizer"] = serde_json::json!({"beta_1": 0.9});
        Comparison::new(&runs)
    }

    #[test]
    fn each_run_has_its_results() {
        let row = &two_runs().runs[0];
        assert_eq!((row.steps, row.total_steps), (40, Some(40)));
        assert_eq!((row.eval_loss_before, row.eval_loss), (Some(3.5), Some(0.25)));
        assert_eq!((row.exact_match, row.trainable_parameters), (Some(0.75), Some(1234)));
        // |0.4|, |-0.4| and |0.2|, |0.1| in the last entry.
        assert!((row.mean_gate.unwrap() - 0.275).abs() < 1e-12);
    }

    #[test]
    fn only_settings_that_differ_are_listed() {
        let rows = two_runs().differences;
        let found = rows.iter().map(|row| (row.key.as_str(), row.texts())).collect::<Vec<_>>();
        let texts = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let expected =
            [("learning_rate", texts("0.01", "0.02")), ("optimizer.beta_1", texts("–", "0.9"))];
        assert_eq!(found, expected);
    }

    #[test]
    fn runs_of_one_name_are_told_apart_by_their_folders() {
        let folder = tempfile::tempdir().unwrap();
        let runs = ["a", "b"].map(|parent| {
            let run = folder.path().join(parent).join("run");
            std::fs::create_dir_all(&run).unwrap();
            std::fs::write(run.join("metrics.jsonl"), r#"{"event":"step","step":1,"loss":2}"#)
                .unwrap();
            Run::read(&run).unwrap()
        });
        let names = Comparison::new(&runs).runs.into_iter().map(|row| row.run).collect::<Vec<_>>();
        assert!(names[0] != names[1] && names[0].ends_with("run"), "{names:?}");
    }

    #[test]
    fn curves_of_all_runs_are_in_one_plot() {
        let plots = two_runs().plots();
        assert_eq!(plots[0].name, "held-out-loss");
        let Drawing::Lines(plot) = &plots[0].drawing else { panic!("curves") };
        assert_eq!(plot.lines.len(), 2);
        assert_ne!(plot.lines[0].ink, plot.lines[1].ink);
    }
}
