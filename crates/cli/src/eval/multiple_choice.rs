//! `--task multiple-choice` and `scienceqa`: accuracy of the base model and of each adapter.

use ::eval::{
    Accuracy, ChoiceRow, ConfusionMatrix, PairedDifference, accuracy_by_tag, compared_pairs,
    global_majority_baseline, majority_baseline,
};
use llama::NoAdapter;
use serde::Serialize;
use text::{LossOn, PromptFormat};
use train::data::{RowCounts, RowEncoder, RowReport, SCIENCE_QA_TAGS};
use train::eval::{ChoiceScoring, clusters_by_image, correct_choices, predict_choices};
use train::{BatchAdapter, Instruction};

use super::args::Args;
use super::evaluated_adapters::EvaluatedAdapter;
use super::progress_bar::progress_bar;
use crate::error::Error;
use crate::failure::Result;
use crate::model::BaseModel;

/// The results; the fields are the JSON keys of `eval --json`.
#[derive(Serialize)]
pub struct MultipleChoiceReport {
    rows: usize,
    images: usize,
    #[serde(rename = "choosing")]
    choice_scoring: ChoiceScoring,
    models: Vec<ModelResult>,
    differences: Vec<PairwiseDifference>,
    #[serde(flatten)]
    counts: RowCounts,
}

#[derive(Serialize)]
struct ModelResult {
    name: String,
    #[serde(flatten)]
    all: AccuracyEstimate,
    by_tag: Vec<(String, AccuracyEstimate)>,
    /// By tag; empty for baselines.
    confusion: Vec<(String, ConfusionMatrix)>,
    /// Whether each row was answered correctly.
    by_row: Vec<bool>,
}

#[derive(Serialize)]
struct AccuracyEstimate {
    #[serde(flatten)]
    counts: Accuracy,
    accuracy: f64,
    /// 95 % confidence interval.
    interval: (f64, f64),
}

/// The accuracy of the second model minus that of the first.
#[derive(Serialize)]
struct PairwiseDifference {
    first: String,
    second: String,
    #[serde(flatten)]
    difference: PairedDifference,
}

/// Names of the baselines in JSON and in the table.
const OVERALL_BASELINE: (&str, &str) = ("most common answer", "majority baseline");
const PER_QUESTION_BASELINE: (&str, &str) =
    ("most common of the question", "majority baseline per question");

impl From<Accuracy> for AccuracyEstimate {
    fn from(counts: Accuracy) -> Self {
        Self { counts, accuracy: counts.fraction(), interval: counts.wilson_interval() }
    }
}

impl MultipleChoiceReport {
    /// Evaluates the baselines, the base model and every adapter.
    pub fn evaluate(
        args: &Args,
        base: &BaseModel,
        prompt: &PromptFormat,
        rows: &[Instruction],
        report: &RowReport,
        train_rows: &[Instruction],
        adapters: &[EvaluatedAdapter],
    ) -> Result<Self> {
        if let Some(row) = rows.iter().find(|row| row.options.is_empty()) {
            return Err(Error::usage_with_hint(
                format!("a row has no `options`: {}", row.instruction),
                "multiple choice needs rows with `options`, one of which is `output`",
            )
            .into());
        }
        let choice_scoring = args.choice_scoring();
        let tokenizer = base.source.tokenizer()?;
        let mut models = Vec::new();
        if !train_rows.is_empty() {
            let (train_rows, rows_to_answer) = (choice_rows(train_rows), choice_rows(rows));
            let overall = global_majority_baseline(&train_rows, &rows_to_answer);
            models.push(ModelResult::new(OVERALL_BASELINE.0, rows, overall, None));
            let per_question = majority_baseline(&train_rows, &rows_to_answer);
            models.push(ModelResult::new(PER_QUESTION_BASELINE.0, rows, per_question, None));
        }
        let mut evaluate =
            |name: &str, adapter: &dyn BatchAdapter, prompt: &PromptFormat| -> Result {
                let encoder = RowEncoder::new(&tokenizer, prompt, LossOn::All)?;
                let bar = progress_bar(name, rows.len());
                let predicted = predict_choices(
                    &base.llama,
                    adapter,
                    &encoder,
                    rows,
                    choice_scoring,
                    args.batch_size.into(),
                    &mut |more| bar.inc(more as u64),
                )?;
                bar.finish_and_clear();
                let correct = correct_choices(rows, &predicted);
                models.push(ModelResult::new(name, rows, correct, Some(&predicted)));
                Ok(())
            };
        evaluate("base", &NoAdapter, prompt)?;
        for EvaluatedAdapter { name, adapter, prompt } in adapters {
            evaluate(name, adapter, prompt)?;
        }
        let clusters = clusters_by_image(rows);
        // Baselines are not compared.
        let compared = models.iter().filter(|model| !model.confusion.is_empty());
        let compared = compared.collect::<Vec<_>>();
        let differences = compared_pairs(compared.len()).into_iter().map(|(first, second)| {
            let (first, second) = (compared[first], compared[second]);
            PairwiseDifference {
                first: first.name.clone(),
                second: second.name.clone(),
                difference: PairedDifference::new(&first.by_row, &second.by_row, &clusters),
            }
        });
        let differences = differences.collect();
        let mut images = rows.iter().filter_map(|row| row.image.as_deref()).collect::<Vec<_>>();
        images.sort_unstable();
        images.dedup();
        let mut counts = RowCounts::default();
        counts.add_report(report);
        Ok(Self {
            rows: rows.len(),
            images: images.len(),
            choice_scoring,
            models,
            differences,
            counts,
        })
    }

    /// A table of accuracies, their differences, and the confusion matrices of the last model if
    /// `with_confusion`.
    pub fn table(&self, with_confusion: bool) -> String {
        let percent = |fraction: f64| format!("{:.1}", fraction * 100.0);
        let mut text = format!("{} rows, {} images; accuracy in %\n", self.rows, self.images);
        let width = self.models.iter().map(|model| model.title().chars().count()).max();
        let width = width.unwrap_or(0);
        let tags = self.models.first().map(|model| &model.by_tag[..]).unwrap_or_default();
        text += &format!("{:width$}  {:>6}  {:^13}", "", "all", "95 % CI");
        text += &tags.iter().map(|(tag, _)| format!("  {tag:>6}")).collect::<String>();
        text.push('\n');
        for model in &self.models {
            let ModelResult { all, by_tag, .. } = model;
            let (low, high) = all.interval;
            let interval = format!("{} to {}", percent(low), percent(high));
            let name = model.title();
            text += &format!("{name:width$}  {:>6}  {interval:^13}", percent(all.accuracy));
            for (tag, estimate) in by_tag {
                let width = tag.chars().count().max(6);
                text += &format!("  {:>width$}", percent(estimate.accuracy));
            }
            text.push('\n');
        }
        for PairwiseDifference { first, second, difference } in &self.differences {
            text += &format!("{second} - {first}: {difference}\n");
        }
        let last = self.models.last().filter(|_| with_confusion);
        for (tag, confusion) in last.iter().flat_map(|model| &model.confusion) {
            text += &format!("\n{tag}:\n{confusion}");
        }
        text
    }
}

/// What the baselines know of rows.
fn choice_rows(rows: &[Instruction]) -> Vec<ChoiceRow<'_>> {
    let rows = rows.iter().map(|row| ChoiceRow {
        question: &row.instruction,
        tags: &row.tags,
        answer: &row.output,
    });
    rows.collect()
}

impl ModelResult {
    /// The result of a model, or of a baseline, which has no predictions.
    fn new(
        name: &str,
        rows: &[Instruction],
        by_row: Vec<bool>,
        predicted: Option<&[Option<usize>]>,
    ) -> Self {
        let tags = rows.iter().map(|row| row.tags.as_slice());
        let by_tag = accuracy_by_tag(tags, &by_row, &SCIENCE_QA_TAGS);
        let tags = by_tag.iter().map(|(tag, _)| tag.as_str()).collect::<Vec<_>>();
        // Without tags there is one confusion matrix of all rows.
        let tags = if tags.is_empty() { vec![None] } else { tags.into_iter().map(Some).collect() };
        let confusion = predicted.into_iter().flat_map(|predicted| {
            tags.iter().map(move |tag| {
                let has_tag = |(row, _): &(&Instruction, &Option<usize>)| {
                    tag.is_none_or(|tag| row.tags.iter().any(|own| own == tag))
                };
                let pairs = rows.iter().zip(predicted).filter(has_tag).map(|(row, option)| {
                    let predicted = option.and_then(|option| row.options.get(option));
                    (row.output.as_str(), predicted.map(String::as_str))
                });
                (tag.unwrap_or("all").to_owned(), ConfusionMatrix::from_pairs(pairs))
            })
        });
        let confusion = confusion.collect();
        let by_tag = by_tag.iter().map(|(tag, counts)| (tag.clone(), (*counts).into())).collect();
        let all = Accuracy::from_correct(&by_row).into();
        Self { name: name.into(), all, by_tag, confusion, by_row }
    }

    /// The name in the table.
    fn title(&self) -> &str {
        let baselines = [OVERALL_BASELINE, PER_QUESTION_BASELINE];
        let baseline = baselines.into_iter().find(|(name, _)| *name == self.name);
        baseline.filter(|_| self.confusion.is_empty()).map_or(&self.name, |(_, title)| title)
    }
}
