//! A run folder, as a report reads it.

mod metrics;
mod samples;
pub(crate) mod settings;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

pub use metrics::{Eval, GateEntry, LayerGates, METRICS_FILE, Metrics, RowCounts, Start, Step};
pub use samples::{SAMPLES_FILE, Sample, write_samples};

/// File of the settings.
pub const RUN_FILE: &str = "run.json";

/// A run: its settings, its log and its responses.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// The content of `run.json`; null if there is none.
    pub settings: Value,
    /// The log.
    pub metrics: Metrics,
    /// Rows with responses before and after training.
    pub samples: Vec<Sample>,
}

impl Run {
    /// Reads a run folder. The run may be unfinished, or still be running.
    ///
    /// # Errors
    /// [`Error::NotARun`] for a folder without a log, [`Error::NoEvents`] for an empty log, [`Error::Format`],
    /// [`Error::Read`].
    pub fn read(folder: &Path) -> Result<Self> {
        let log = folder.join(METRICS_FILE);
        if !log.is_file() {
            return Err(Error::NotARun { path: folder.into() });
        }
        let metrics = Metrics::read(&log)?;
        let settings = match read_json(&folder.join(RUN_FILE))? {
            None => Value::Null,
            Some(settings) => settings,
        };
        let samples = samples::read(folder)?;
        // "." and ".." have no name of their own.
        let named = folder.file_name().map(Path::new).map(Path::to_path_buf);
        let named = named.or_else(|| Some(folder.canonicalize().ok()?.file_name()?.into()));
        let name = named.unwrap_or_else(|| folder.into()).display().to_string();
        Ok(Self { name, folder: folder.into(), settings, metrics, samples })
    }

    /// The name of the base model.
    pub fn model(&self) -> Option<&str> {
        self.settings["model"].as_str()
    }

    /// Completed steps.
    pub fn completed_steps(&self) -> usize {
        self.metrics.steps.last().map_or(0, |step| step.step)
    }

    /// Whether all steps are complete; `None` if the log does not tell how many there are.
    pub fn is_finished(&self) -> Option<bool> {
        Some(self.completed_steps() >= self.metrics.start?.total_steps)
    }

    /// Seconds of all steps.
    pub fn train_seconds(&self) -> f64 {
        self.metrics
            .steps
            .iter()
            .map(|step| step.seconds)
            .filter(|seconds| seconds.is_finite())
            .sum()
    }

    /// Labels per second of all steps.
    pub fn label_tokens_per_second(&self) -> Option<f64> {
        let labels: f64 = self.metrics.steps.iter().map(|step| step.labels as f64).sum();
        let seconds = self.train_seconds();
        (seconds > 0.0).then(|| labels / seconds)
    }

    /// Largest resident memory at a step, in bytes.
    pub fn peak_memory(&self) -> Option<u64> {
        self.metrics.steps.iter().filter_map(|step| step.memory).max()
    }

    /// The held-out evaluation before training.
    pub fn eval_before(&self) -> Option<&Eval> {
        self.metrics.evals.first().filter(|eval| eval.step == 0)
    }

    /// The latest held-out evaluation after a step.
    pub fn eval_after(&self) -> Option<&Eval> {
        self.metrics.evals.last().filter(|eval| eval.step > 0)
    }

    /// The evaluation with the lowest held-out loss.
    pub fn best_eval(&self) -> Option<&Eval> {
        let finite = self.metrics.evals.iter().filter(|eval| eval.loss.is_finite());
        finite.min_by(|a, b| a.loss.total_cmp(&b.loss))
    }
}

/// Reads a JSON file; `None` if there is none.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(Error::read(path))?,
    };
    let value = serde_json::from_str(&text);
    value.map(Some).map_err(|error| Error::Format {
        path: path.into(),
        reason: format!("not valid JSON: {error}"),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder with a log, settings and samples of a short run with gates per head.
    pub fn example_folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut log = String::from(
            r#"{"event":"start","step":0,"total_steps":40,"steps_per_epoch":20,"trainable_parameters":1234,"train":{"complete":78,"truncated":2,"dropped":1},"eval":{"complete":8,"truncated":0,"dropped":0}}
{"event":"gates","step":0,"layers":[{"layer":2,"gates":[0,0]},{"layer":3,"gates":[0,0]}]}
{"event":"eval","step":0,"loss":3.5,"perplexity":33.1,"exact_match":0.0}
"#,
        );
        for step in 1..=40 {
            let x = f64::from(step);
            let loss = 3.0 * (-x / 10.0).exp() + 0.1 * f64::from(step % 3);
            log += &format!(
                r#"{{"event":"step","step":{step},"loss":{loss},"learning_rate":{},"gradient_norm":{},"labels":50,"slots":400,"seconds":0.5,"memory":{}}}"#,
                0.01 * (1.0 - x / 41.0),
                1.0 / x,
                900_000_000 + 1_000_000 * step
            );
            log.push('\n');
            if step % 4 == 0 {
                let open = x / 100.0;
                log += &format!(
                    r#"{{"event":"gates","step":{step},"layers":[{{"layer":2,"gates":[{open},{}]}},{{"layer":3,"gates":[{},0.1]}}]}}"#,
                    -open,
                    open / 2.0
                );
                log.push('\n');
            }
        }
        log += r#"{"event":"eval","step":40,"loss":0.25,"perplexity":1.28,"exact_match":0.75}"#;
        log.push('\n');
        std::fs::write(folder.path().join(METRICS_FILE), log).unwrap();
        let settings = serde_json::json!({
            "about": {"version": "0.1.0", "device": "flex", "data": ["rows.jsonl"]},
            "model": "tiny <llama>", "train_rows": 80, "eval_rows": 8, "learning_rate": 0.01,
            "length": {"epochs": 2}, "batch_size": 4, "seed": 0
        });
        std::fs::write(folder.path().join(RUN_FILE), settings.to_string()).unwrap();
        let sample = Sample {
            instruction: "Say <b>what</b> Ada does.".into(),
            input: String::new(),
            image: None,
            expected: "Ada is a farmer.".into(),
            before: "# Hint & more".into(),
            after: "Ada is a farmer.".into(),
        };
        write_samples(folder.path(), &[sample]).unwrap();
        folder
    }

    #[test]
    fn a_run_is_read_from_its_folder() {
        let folder = example_folder();
        let run = Run::read(folder.path()).unwrap();
        assert_eq!((run.completed_steps(), run.is_finished()), (40, Some(true)));
        assert_eq!((run.train_seconds(), run.label_tokens_per_second()), (20.0, Some(100.0)));
        assert_eq!(run.peak_memory(), Some(940_000_000));
        assert_eq!(run.eval_before().unwrap().loss, 3.5);
        assert_eq!(run.eval_after().unwrap().exact_match, Some(0.75));
        assert_eq!(run.best_eval().unwrap().step, 40);
        assert_eq!(run.metrics.gates.len(), 11);
        assert_eq!((run.model(), run.samples.len()), (Some("tiny <llama>"), 1));
    }

    #[test]
    fn a_folder_without_a_log_is_not_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let error = Run::read(folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("not the folder of a run: it has no metrics.jsonl"));
        std::fs::write(folder.path().join(METRICS_FILE), "").unwrap();
        assert!(matches!(Run::read(folder.path()).unwrap_err(), Error::NoEvents { .. }));
    }

    #[test]
    fn damaged_settings_are_an_error_with_the_place() {
        let folder = example_folder();
        std::fs::write(folder.path().join(RUN_FILE), "{\n  oops").unwrap();
        let error = Run::read(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("run.json: not valid JSON: ") && error.contains("line 2"),
            "{error}"
        );
    }

    #[test]
    fn a_log_alone_is_a_run() {
        let folder = example_folder();
        for name in [RUN_FILE, SAMPLES_FILE] {
            std::fs::remove_file(folder.path().join(name)).unwrap();
        }
        let run = Run::read(folder.path()).unwrap();
        assert_eq!((run.model(), run.samples.len(), run.completed_steps()), (None, 0, 40));
    }
}
