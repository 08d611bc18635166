//! `--task FILE.yaml`: the scores of lm-evaluation-harness, of the base model and of each adapter.

use ::eval::harness::{ChoiceQuestion, Task, TaskMetric};
use ::eval::{Accuracy, PairedDifference, compared_pairs};
use llama::NoAdapter;
use serde::Serialize;
use serde_json::{Map, Value};
use train::BatchAdapter;
use train::eval::{Continuation, continuation_log_likelihoods};

use super::args::Args;
use super::evaluated_adapters::EvaluatedAdapter;
use super::progress_bar::progress_bar;
use crate::failure::{ErrorContext, Result};
use crate::model::BaseModel;

/// The results; the fields are the JSON keys of `eval --json`.
#[derive(Serialize)]
pub struct TaskFileReport {
    task: String,
    rows: usize,
    num_fewshot: usize,
    models: Vec<ModelScores>,
    differences: Vec<Difference>,
}

#[derive(Serialize)]
struct ModelScores {
    name: String,
    /// `acc`, `acc_stderr`, ... as in the harness's results, and `acc_interval`, ...
    #[serde(flatten)]
    scores: Map<String, Value>,
    /// The log-likelihood of each choice of each question, in nats.
    log_likelihoods: Vec<Vec<f64>>,
    /// Which questions are answered correctly, by metric.
    #[serde(skip)]
    correct: Vec<(TaskMetric, Vec<bool>)>,
}

/// The accuracy of the second model minus that of the first.
#[derive(Serialize)]
struct Difference {
    first: String,
    second: String,
    metric: TaskMetric,
    #[serde(flatten)]
    paired: PairedDifference,
}

impl TaskFileReport {
    /// Evaluates the base model and every adapter.
    pub fn evaluate(
        args: &Args,
        base: &BaseModel,
        task: &Task,
        questions: &[ChoiceQuestion],
        adapters: &[EvaluatedAdapter],
    ) -> Result<Self> {
        let tokenizer = base.source.tokenizer()?;
        let continuations = questions.iter().flat_map(|question| {
            let texts = question.continuations.iter();
            texts.map(|text| Continuation { context: &question.context, text })
        });
        let continuations = continuations.collect::<Vec<_>>();
        let mut models = Vec::new();
        let mut evaluate = |name: &str, adapter: &dyn BatchAdapter| -> Result {
            let bar = progress_bar(name, continuations.len());
            let log_likelihoods = continuation_log_likelihoods(
                &base.llama,
                adapter,
                &tokenizer,
                &continuations,
                args.batch_size.into(),
                &mut |more| bar.inc(more as u64),
            )?;
            bar.finish_and_clear();
            models.push(ModelScores::new(name, task.metrics(), questions, &log_likelihoods));
            Ok(())
        };
        evaluate("base", &NoAdapter).with_context(|| "evaluating the base model".into())?;
        for EvaluatedAdapter { name, adapter, .. } in adapters {
            evaluate(name, adapter).with_context(|| format!("evaluating the adapter {name}"))?;
        }
        // Every question is its own cluster.
        let clusters = (0..questions.len()).collect::<Vec<_>>();
        let differences = compared_pairs(models.len()).into_iter().flat_map(|(first, second)| {
            let (first, second) = (&models[first], &models[second]);
            let clusters = &clusters;
            let metrics = first.correct.iter().zip(&second.correct);
            metrics.map(move |((metric, before), (_, after))| Difference {
                first: first.name.clone(),
                second: second.name.clone(),
                metric: *metric,
                paired: PairedDifference::new(before, after, clusters),
            })
        });
        let differences = differences.collect();
        Ok(Self {
            task: task.name().to_owned(),
            rows: questions.len(),
            num_fewshot: task.few_shot(),
            models,
            differences,
        })
    }

    /// A table of the scores and of their differences.
    pub fn table(&self) -> String {
        let percent = |fraction: f64| format!("{:.1}", fraction * 100.0);
        let width = self.models.iter().map(|model| model.name.chars().count()).max().unwrap_or(0);
        let mut text = format!(
            "{}: {} questions, {} examples each; accuracy in %\n",
            self.task, self.rows, self.num_fewshot
        );
        text += &format!("{:width$}", "");
        for (metric, _) in self.models.iter().take(1).flat_map(|model| &model.correct) {
            text += &format!("  {:>9}  {:^13}", metric.name(), "95 % CI");
        }
        text.push('\n');
        for model in &self.models {
            text += &format!("{:width$}", model.name);
            for (_, correct) in &model.correct {
                let accuracy = Accuracy::from_correct(correct);
                let (low, high) = accuracy.wilson_interval();
                let interval = format!("{} to {}", percent(low), percent(high));
                text += &format!("  {:>9}  {interval:^13}", percent(accuracy.fraction()));
            }
            text.push('\n');
        }
        for Difference { first, second, metric, paired } in &self.differences {
            text += &format!("{second} - {first}: {} {paired}\n", metric.name());
        }
        text
    }
}

impl ModelScores {
    /// The scores from the log-likelihoods of all continuations, in the order of the questions.
    fn new(
        name: &str,
        metrics: &[TaskMetric],
        questions: &[ChoiceQuestion],
        log_likelihoods: &[f64],
    ) -> Self {
        let mut rest = log_likelihoods;
        let by_question = questions.iter().map(|question| {
            let (own, after) = rest.split_at(question.choices.len());
            rest = after;
            own.to_vec()
        });
        let log_likelihoods = by_question.collect::<Vec<_>>();
        let correct = metrics.iter().map(|&metric| {
            let pairs = questions.iter().zip(&log_likelihoods);
            let correct = pairs.map(|(question, log_likelihoods)| {
                question.is_correct(question.predicted(metric, log_likelihoods))
            });
            (metric, correct.collect::<Vec<_>>())
        });
        let correct = correct.collect::<Vec<_>>();
        let mut scores = Map::new();
        for (metric, correct) in &correct {
            let (name, accuracy) = (metric.name(), Accuracy::from_correct(correct));
            scores.insert(name.into(), accuracy.fraction().into());
            scores.insert(format!("{name}_stderr"), accuracy.standard_error().into());
            let (low, high) = accuracy.wilson_interval();
            scores.insert(format!("{name}_interval"), vec![low, high].into());
        }
        Self { name: name.into(), scores, log_likelihoods, correct }
    }
}
