//! `--task answers`: loss and the quality of responses, of the base model and of each adapter.

use std::collections::HashSet;

use ::eval::{AnswerMetrics, AnswerScores, Bootstrap, Estimate, compared_pairs};
use llama::NoAdapter;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use text::{LossOn, PromptFormat};
use train::data::{RowCounts, RowEncoder, RowReport, TruncationCounts};
use train::eval::{clusters_by_image, evaluate_row_losses, generate_responses_within};
use train::{BatchAdapter, Example, Instruction};

use super::answer_table::AnswerTable;
use super::args::Args;
use super::evaluated_adapters::EvaluatedAdapter;
use super::progress_bar::progress_bar;
use crate::failure::{ErrorContext, Result};
use crate::model::BaseModel;
use crate::output::note;

/// The results; the fields are the JSON keys of `eval --json`.
#[derive(Serialize)]
pub struct EvalReport {
    rows: usize,
    labels: usize,
    base: Scores,
    /// The first adapter.
    adapter: Option<Scores>,
    adapters: Vec<NamedScores>,
    differences: Vec<Difference>,
    /// Independent groups of rows: those with the same image are one.
    clusters: usize,
    resamples: u32,
    seed: u64,
    #[serde(flatten)]
    counts: RowCounts,
}

#[derive(Serialize)]
struct NamedScores {
    name: String,
    #[serde(flatten)]
    scores: Scores,
}

/// The metrics of a model; in JSON also the perplexity, and the intervals apart.
#[derive(Clone, Copy)]
struct Scores {
    metrics: AnswerMetrics<Option<Estimate>>,
}

/// The metrics of the second model minus those of the first.
#[derive(Serialize)]
struct Difference {
    first: String,
    second: String,
    #[serde(flatten)]
    metrics: AnswerMetrics<Option<Estimate>>,
}

/// The rows that are evaluated, with their tokens.
struct EvaluatedRows<'a> {
    rows: &'a [Instruction],
    /// Rows with a label within the maximum length, and their indices.
    examples: Vec<Example>,
    example_rows: Vec<usize>,
    /// Number of labels of each row.
    labels: Vec<usize>,
}

impl EvalReport {
    /// Evaluates the base model and every adapter.
    pub fn evaluate(
        args: &Args,
        base: &BaseModel,
        prompt: &PromptFormat,
        rows: &[Instruction],
        report: &RowReport,
        adapters: &[EvaluatedAdapter],
    ) -> Result<Self> {
        let tokenizer = base.source.tokenizer()?;
        let context = base.llama.config().max_positions;
        let max_len = args.max_len.unwrap_or(context).min(context);
        let encoder = RowEncoder::new(&tokenizer, prompt, LossOn::All)?;
        let (rows, truncation) = EvaluatedRows::encode(rows, &encoder, max_len)?;
        let mut counts = RowCounts::default();
        counts.add_report(report);
        counts.add_truncation(truncation);
        let TruncationCounts { truncated, dropped, .. } = truncation;
        if truncated + dropped > 0 {
            note(&format!(
                "{truncated} rows truncated to {max_len} tokens; {dropped} rows count as wrong and \
                 are excluded from the loss because the prompt leaves no room for a response"
            ));
        }
        let clusters = clusters_by_image(rows.rows);
        let bootstrap = Bootstrap::new(args.resamples, args.seed);
        let mut models = Vec::new();
        let mut evaluate =
            |name: &str, adapter: &dyn BatchAdapter, own: &PromptFormat| -> Result<_> {
                let scores = if own == prompt {
                    rows.answer_scores(args, base, &encoder, name, adapter)?
                } else {
                    let encoder = RowEncoder::new(&tokenizer, own, LossOn::All)?;
                    let (rows, _) = EvaluatedRows::encode(rows.rows, &encoder, max_len)?;
                    rows.answer_scores(args, base, &encoder, name, adapter)?
                };
                let summary = Scores { metrics: scores.summary(&bootstrap, &clusters) };
                models.push((name.to_owned(), scores));
                Ok(summary)
            };
        let base_scores = evaluate("base", &NoAdapter, prompt)
            .with_context(|| "evaluating the base model".into())?;
        let mut named_scores = Vec::new();
        for EvaluatedAdapter { name, adapter, prompt } in adapters {
            let scores = evaluate(name, adapter, prompt);
            let scores = scores.with_context(|| format!("evaluating the adapter {name}"))?;
            named_scores.push(NamedScores { name: name.clone(), scores });
        }
        let differences = compared_pairs(models.len()).into_iter().map(|(first, second)| {
            let ((first, before), (second, after)) = (&models[first], &models[second]);
            Difference {
                first: first.clone(),
                second: second.clone(),
                metrics: after.difference_from(before, &bootstrap, &clusters),
            }
        });
        Ok(Self {
            rows: rows.rows.len(),
            labels: rows.labels.iter().sum(),
            base: base_scores,
            adapter: named_scores.first().map(|first| first.scores),
            differences: differences.collect(),
            adapters: named_scores,
            clusters: clusters.iter().collect::<HashSet<_>>().len(),
            resamples: args.resamples,
            seed: args.seed,
            counts,
        })
    }

    /// The results as a table: the scores of each model and the differences, each with its interval.
    pub fn table(&self) -> String {
        let adapters = self.adapters.iter().map(|named| (named.name.as_str(), &named.scores));
        let mut table = AnswerTable::default();
        for (name, scores) in [("base", &self.base)].into_iter().chain(adapters) {
            table.push_scores(name, &scores.metrics, scores.perplexity());
        }
        for Difference { first, second, metrics } in &self.differences {
            table.push_difference(&format!("{second} - {first}"), metrics);
        }
        format!("{} rows, {} label tokens\n{}", self.rows, self.labels, table.text())
    }
}

impl Scores {
    fn perplexity(&self) -> Option<Estimate> {
        self.metrics.loss.map(|loss| Estimate {
            mean: loss.mean.exp(),
            interval: (loss.interval.0.exp(), loss.interval.1.exp()),
        })
    }
}

impl Serialize for Scores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let AnswerMetrics { loss, exact_match, rouge_l, token_f1 } = self.metrics;
        let metrics = [
            ("loss", loss),
            ("perplexity", self.perplexity()),
            ("exact_match", exact_match),
            ("rouge_l", rouge_l),
            ("token_f1", token_f1),
        ];
        let mut map = serializer.serialize_map(None)?;
        for (name, estimate) in metrics {
            map.serialize_entry(name, &estimate.map(|estimate| estimate.mean))?;
        }
        // 95 % confidence intervals.
        let intervals = metrics.map(|(name, estimate)| {
            let interval = estimate.map(|estimate| vec![estimate.interval.0, estimate.interval.1]);
            (name.to_owned(), interval.into())
        });
        map.serialize_entry("intervals", &serde_json::Map::from_iter(intervals))?;
        map.end()
    }
}

impl<'a> EvaluatedRows<'a> {
    fn encode(
        rows: &'a [Instruction],
        encoder: &RowEncoder,
        max_len: usize,
    ) -> Result<(Self, TruncationCounts)> {
        let mut counts = TruncationCounts::default();
        let (mut examples, mut example_rows) = (Vec::new(), Vec::new());
        let mut labels = vec![0; rows.len()];
        for (index, row) in rows.iter().enumerate() {
            if let Some(example) = counts.count(encoder.encode(row)?, max_len) {
                labels[index] = example.n_labels();
                examples.push(example);
                example_rows.push(index);
            }
        }
        if examples.is_empty() {
            return Err(train::Error::NoRows {
                name: "data".into(),
                purpose: "evaluate",
                reason: format!("no prompt leaves room for an answer in {max_len} tokens"),
            }
            .into());
        }
        Ok((Self { rows, examples, example_rows, labels }, counts))
    }

    /// The scores of one model.
    fn answer_scores(
        &self,
        args: &Args,
        base: &BaseModel,
        encoder: &RowEncoder,
        name: &str,
        adapter: &dyn BatchAdapter,
    ) -> Result<AnswerScores> {
        let (llama, batch) = (&base.llama, usize::from(args.batch_size));
        let passes = if args.no_exact_match { 1 } else { 2 };
        let bar = progress_bar(name, self.rows.len() * passes);
        let mut progress = |more: usize| bar.inc(more as u64);
        let losses = evaluate_row_losses(llama, adapter, &self.examples, batch, &mut progress)?;
        let mut by_row = vec![0.0; self.rows.len()];
        for (&row, loss) in self.example_rows.iter().zip(losses) {
            by_row[row] = loss;
        }
        let mut scores = AnswerScores::new(by_row, self.labels.clone());
        if !args.no_exact_match {
            let limit = args.response_limit();
            let responses = generate_responses_within(
                limit,
                llama,
                adapter,
                encoder,
                self.rows,
                batch,
                &mut progress,
            )?;
            let expected = self.rows.iter().map(|row| row.output.as_str()).collect::<Vec<_>>();
            scores.add_responses(&expected, &responses);
        }
        bar.finish_and_clear();
        Ok(scores)
    }
}
