//! Multiple choice: how many rows are answered with the right option, beside each other.

use indicatif::{ProgressBar, ProgressStyle};
use llama::NoAdapter;
use serde::Serialize;
use train::data::{RowCounts, RowReport};
use train::eval::{
    Accuracy, ChoiceScoring, ConfusionMatrix, PairedDifference, accuracy_by_tag, clusters_by_image,
    correct_choices, global_majority_baseline, majority_baseline, predict_choices,
};
use train::{BatchAdapter, Instruction};

use super::{Args, EvaluatedAdapter};
use crate::error::Error;
use crate::failure::Result;
use crate::model::Base;

/// What was found, as the line of JSON has it.
#[derive(Serialize)]
pub struct Report {
    rows: usize,
    images: usize,
    choosing: ChoiceScoring,
    models: Vec<Model>,
    differences: Vec<Compared>,
    #[serde(flatten)]
    counts: RowCounts,
}

#[derive(Serialize)]
struct Model {
    name: String,
    #[serde(flatten)]
    all: Rated,
    by_tag: Vec<(String, Rated)>,
    confusion: Vec<(String, ConfusionMatrix)>,
    /// Which rows were right; `right` is their number.
    by_row: Vec<bool>,
}

#[derive(Serialize)]
struct Rated {
    #[serde(flatten)]
    counts: Accuracy,
    accuracy: f64,
    interval: (f64, f64),
}

/// How much better the second of two is.
#[derive(Serialize)]
struct Compared {
    first: String,
    second: String,
    #[serde(flatten)]
    difference: PairedDifference,
}

impl From<Accuracy> for Rated {
    fn from(counts: Accuracy) -> Self {
        Self { counts, accuracy: counts.fraction(), interval: counts.wilson_interval() }
    }
}

impl Report {
    /// Asks every model.
    pub fn measure(
        args: &Args,
        base: &Base,
        rows: &[Instruction],
        report: &RowReport,
        train_rows: &[Instruction],
        subjects: &[EvaluatedAdapter],
    ) -> Result<Self> {
        if let Some(row) = rows.iter().find(|row| row.options.is_empty()) {
            return Err(Error::Usage {
                message: format!("a row has no `options` to choose from: {}", row.instruction),
                hint: Some(
                    "multiple choice needs rows with `options`, one of which is `output`".into(),
                ),
            }
            .into());
        }
        let choosing = args.choosing();
        let tokenizer = base.source.tokenizer()?;
        let mut models = Vec::new();
        if !train_rows.is_empty() {
            let always = global_majority_baseline(train_rows, rows);
            models.push(Model::of("most common answer", rows, always, None));
            let of_question = majority_baseline(train_rows, rows);
            models.push(Model::of("most common of the question", rows, of_question, None));
        }
        let mut ask = |name: &str, adapter: &dyn BatchAdapter| -> Result {
            let bar = progress(name, rows.len());
            let mut progress = |more: usize| bar.inc(more as u64);
            let batch = args.batch_size.into();
            let llama = &base.llama;
            let chosen =
                predict_choices(llama, adapter, &tokenizer, rows, choosing, batch, &mut progress)?;
            bar.finish_and_clear();
            let right = correct_choices(rows, &chosen);
            models.push(Model::of(name, rows, right, Some(&chosen)));
            Ok(())
        };
        ask("base", &NoAdapter)?;
        for EvaluatedAdapter { name, adapter } in subjects {
            ask(name, adapter)?;
        }
        let clusters = clusters_by_image(rows);
        // Each adapter beside the one before it.
        let pairs =
            models.windows(2).filter(|pair| pair.iter().all(|own| !own.confusion.is_empty()));
        let differences = pairs.map(|pair| Compared {
            first: pair[0].name.clone(),
            second: pair[1].name.clone(),
            difference: PairedDifference::new(&pair[0].by_row, &pair[1].by_row, &clusters),
        });
        let differences = differences.collect();
        let mut images = rows.iter().filter_map(|row| row.image.as_deref()).collect::<Vec<_>>();
        images.sort_unstable();
        images.dedup();
        let mut counts = RowCounts::default();
        counts.add_report(report);
        Ok(Self { rows: rows.len(), images: images.len(), choosing, models, differences, counts })
    }

    /// For people: accuracies side by side, differences, and, if wanted, what is mistaken for what.
    pub fn table(&self, with_confusion: bool) -> String {
        let per_cent = |share: f64| format!("{:.1}", share * 100.0);
        let mut text = format!("{} rows, {} images; per cent right\n", self.rows, self.images);
        let width = self.models.iter().map(|own| own.name.chars().count()).max().unwrap_or(0);
        let tags = self.models.first().map(|own| &own.by_tag[..]).unwrap_or_default();
        text += &format!("{:width$}  {:>6}  {:^13}", "", "all", "95 %");
        text += &tags.iter().map(|(tag, _)| format!("  {tag:>6}")).collect::<String>();
        text.push('\n');
        for Model { name, all, by_tag, .. } in &self.models {
            let (low, high) = all.interval;
            let interval = format!("{} to {}", per_cent(low), per_cent(high));
            text += &format!("{name:width$}  {:>6}  {interval:^13}", per_cent(all.accuracy));
            for (tag, rated) in by_tag {
                let width = tag.chars().count().max(6);
                text += &format!("  {:>width$}", per_cent(rated.accuracy));
            }
            text.push('\n');
        }
        for Compared { first, second, difference } in &self.differences {
            let (low, high) = difference.interval;
            let sure = if difference.is_significant() { "" } else { " (may be chance)" };
            text += &format!(
                "{second} minus {first}: {:+.1} points, 95 %: {:+.1} to {:+.1}{sure}\n",
                difference.mean * 100.0,
                low * 100.0,
                high * 100.0
            );
        }
        let last = self.models.last().filter(|_| with_confusion);
        for (tag, confusion) in last.iter().flat_map(|own| &own.confusion) {
            text += &format!("\n{tag}:\n{confusion}");
        }
        text
    }
}

/// Shows how far a model has come.
fn progress(name: &str, rows: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} rows, {eta} left")
        .expect("a valid template");
    ProgressBar::new(rows as u64).with_style(style).with_message(name.to_owned())
}

impl Model {
    fn of(
        name: &str,
        rows: &[Instruction],
        by_row: Vec<bool>,
        chosen: Option<&[Option<usize>]>,
    ) -> Self {
        let by_tag = accuracy_by_tag(rows, &by_row);
        let tags = by_tag.iter().map(|(tag, _)| tag.as_str()).collect::<Vec<_>>();
        // Without tags all rows are of one kind.
        let kinds = if tags.is_empty() { vec![None] } else { tags.into_iter().map(Some).collect() };
        let confusion = chosen.into_iter().flat_map(|chosen| {
            kinds.iter().map(|kind| {
                let is_own = |row: &&(&Instruction, Option<usize>)| {
                    kind.is_none_or(|kind| row.0.tags.iter().any(|tag| tag == kind))
                };
                let pairs = rows.iter().zip(chosen.iter().copied()).collect::<Vec<_>>();
                let own = pairs.iter().filter(is_own);
                let answers = own.map(|(row, option)| {
                    let given = option.and_then(|option| row.options.get(option));
                    (row.output.as_str(), given.map(String::as_str))
                });
                (kind.unwrap_or("all").to_owned(), ConfusionMatrix::from_pairs(answers))
            })
        });
        let confusion = confusion.collect();
        let by_tag = by_tag.iter().map(|(tag, own)| (tag.clone(), Rated::from(*own))).collect();
        let all = Accuracy::from_correct(&by_row).into();
        Self { name: name.into(), all, by_tag, confusion, by_row }
    }
}
