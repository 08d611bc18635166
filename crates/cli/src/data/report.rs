//! The statistics of data, as text and as JSON.

use std::fmt::Write;

use data::statistics::LengthSummary;
use serde::Serialize;
use text::Tokenizer;
use train::data::{RowCounts, RowEncoder, RowReport, TruncationCounts};
use train::{Example, Instruction};

use super::args::Args;
use super::batchings::BatchingCost;
use super::colored_rows::show_example;
use super::duplicate_counts::{DuplicateCounts, DuplicateRow};
use crate::failure::Result;

/// Bins of a histogram.
const BINS: usize = 12;

/// Characters of the longest bar.
const BAR: usize = 40;

/// What the data is; the fields are the JSON keys of `data --json`.
#[derive(Serialize)]
pub struct DataReport {
    rows: usize,
    images: usize,
    max_len: usize,
    /// Rows that are complete.
    complete: usize,
    /// Tokens of the rows before they are cut; `None` without rows.
    tokens: Option<LengthSummary>,
    /// Labels of the rows after they are cut.
    labels: Option<LengthSummary>,
    duplicates: DuplicateCounts,
    /// Rows that occur in the held-out data, if there is any.
    held_out: Option<DuplicateCounts>,
    batching: Vec<BatchingCost>,
    #[serde(flatten)]
    counts: RowCounts,
    /// The first rows, for the text.
    #[serde(skip)]
    shown: Vec<Example>,
}

impl DataReport {
    /// Tokenizes the rows and looks at them.
    pub fn new(
        args: &Args,
        encoder: &RowEncoder,
        rows: &[Instruction],
        held_out: Option<&[Instruction]>,
        report: &RowReport,
        max_len: usize,
    ) -> Result<Self> {
        let mut truncation = TruncationCounts::default();
        let (mut examples, mut tokens) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            let example = encoder.encode(row)?;
            tokens.push(example.tokens.len());
            examples.extend(truncation.count(example, max_len));
        }
        let mut counts = RowCounts::default();
        counts.add_report(report);
        counts.add_truncation(truncation);
        let labels = examples.iter().map(Example::n_labels).collect();
        let batch_size = usize::from(args.batch_size);
        let total = examples.iter().map(|example| example.tokens.len()).sum::<usize>();
        let average = (total * batch_size).div_ceil(examples.len().max(1)).max(1);
        let batch_tokens = args.batch_tokens.map_or(average, |tokens| tokens as usize);
        Ok(Self {
            rows: rows.len(),
            images: rows.iter().filter(|row| row.image.is_some()).count(),
            max_len,
            complete: truncation.complete,
            tokens: LengthSummary::new(tokens, BINS),
            labels: LengthSummary::new(labels, BINS),
            duplicates: DuplicateCounts::among(rows, args.similarity),
            held_out: held_out
                .map(|held_out| DuplicateCounts::between(rows, held_out, args.similarity)),
            batching: BatchingCost::of_all(&examples, batch_size, batch_tokens, args.seed),
            counts,
            shown: examples.into_iter().take(args.rows).collect(),
        })
    }

    /// The report as text: the first rows, then the statistics.
    pub fn text(&self, args: &Args, tokenizer: &Tokenizer) -> Result<String> {
        let mut text = String::new();
        for (index, example) in self.shown.iter().enumerate() {
            let _ = writeln!(
                text,
                "--- row {}: {} tokens, {} of them trained on",
                index + 1,
                example.tokens.len(),
                example.n_labels()
            );
            text += &show_example(example, tokenizer, args.is_colored())?;
            text += "\n\n";
        }
        let images = if self.images > 0 {
            format!(", {} with an image", self.images)
        } else {
            String::new()
        };
        let _ = writeln!(text, "{} rows{images}", self.rows);
        for (name, summary) in [("tokens", &self.tokens), ("labels", &self.labels)] {
            if let Some(summary) = summary {
                text += &histogram(name, summary);
            }
        }
        text += &self.describe_cuts();
        text += &describe_duplicates("duplicates", "an earlier row", &self.duplicates);
        if let Some(held_out) = &self.held_out {
            text += &describe_duplicates("held-out", "a held-out row", held_out);
        }
        for BatchingCost { batching, cost, padding_fraction, shared_fraction } in &self.batching {
            let _ = writeln!(
                text,
                "{batching}: {} batches; {:.1} % padding on devices that pad, {:.1} % of the tokens in \
                 shared prefixes on devices that pack",
                cost.batches,
                padding_fraction * 100.0,
                shared_fraction * 100.0
            );
        }
        Ok(text)
    }

    /// What the maximum length does to the rows.
    fn describe_cuts(&self) -> String {
        let dropped = self.rows - self.complete - self.counts.truncated;
        format!(
            "at most {} tokens: {} rows complete, {} cut at the end, {dropped} dropped because their \
             prompt alone is too long\n",
            self.max_len, self.complete, self.counts.truncated
        )
    }
}

/// A histogram of lengths.
fn histogram(name: &str, summary: &LengthSummary) -> String {
    let LengthSummary { total, min, median, p90, p99, max, bins, .. } = summary;
    let mut text = format!(
        "{name}: {total}; per row at least {min}, median {median}, 90 % up to {p90}, 99 % up to {p99}, \
         at most {max}\n"
    );
    let most = bins.iter().map(|bin| bin.rows).max().unwrap_or(0).max(1);
    let width = max.to_string().len();
    for bin in bins {
        // A bin with any row has a bar.
        let bar = "█".repeat((bin.rows * BAR).div_ceil(most));
        let _ = writeln!(text, "  {:>width$} to {:>width$}  {bar} {}", bin.from, bin.to, bin.rows);
    }
    text
}

/// The duplicates of a kind, with the first of them.
fn describe_duplicates(name: &str, of: &str, counts: &DuplicateCounts) -> String {
    if counts.total() == 0 {
        return format!("{name}: no row is the same as {of} or similar\n");
    }
    let first = counts.first.iter().map(|DuplicateRow { row, of, similarity, .. }| {
        format!("{row} ~ {of} ({:.0} %)", similarity * 100.0)
    });
    let more = if counts.total() > counts.first.len() { ", ..." } else { "" };
    format!(
        "{name}: {} rows are the same as {of}, {} have its prompt with another response, {} are similar: \
         rows {}{more}\n",
        counts.same,
        counts.same_prompt,
        counts.similar,
        first.collect::<Vec<_>>().join(", ")
    )
}
