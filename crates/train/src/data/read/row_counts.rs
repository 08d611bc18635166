//! Rows in numbers, as the closing JSON of commands has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::row_report::{DropReason, RowAdjustment, RowReport};
use crate::data::TruncationCounts;

/// What became of rows, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows whose output lost its end to the length limit.
    #[serde(rename = "cut")]
    pub truncated: usize,
    /// Rows left out, by reason.
    #[serde(rename = "left_out")]
    pub dropped: BTreeMap<DropReason, usize>,
    /// What was not taken to the letter, by kind.
    #[serde(rename = "changes")]
    pub adjustments: BTreeMap<RowAdjustment, usize>,
    /// Fields that were not used, and in how many records.
    pub unused_fields: BTreeMap<String, usize>,
}

impl RowCounts {
    /// Adds what the length limit did.
    pub fn add_truncation(&mut self, fitted: TruncationCounts) {
        self.truncated += fitted.truncated;
        if fitted.dropped > 0 {
            *self.dropped.entry(DropReason::TooLong).or_default() += fitted.dropped;
        }
    }

    /// Adds what was found while rows were read.
    pub fn add_report(&mut self, report: &RowReport) {
        for (&reason, places) in &report.dropped {
            *self.dropped.entry(reason).or_default() += places.count;
        }
        for (&change, places) in &report.adjustments {
            *self.adjustments.entry(change).or_default() += places.count;
        }
        for (name, count) in &report.unused_fields {
            *self.unused_fields.entry(name.clone()).or_default() += count;
        }
    }
}

/// The rows of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRowCounts {
    /// Rows to learn from.
    pub train: usize,
    /// Held-out rows.
    pub eval: usize,
    /// What became of these and of others.
    #[serde(flatten)]
    pub counts: RowCounts,
}

impl RunRowCounts {
    /// What the length limit left of both.
    pub fn from_truncation(train: TruncationCounts, eval: TruncationCounts) -> Self {
        let rows = |fitted: TruncationCounts| fitted.complete + fitted.truncated;
        let mut counts = RowCounts::default();
        counts.add_truncation(train);
        counts.add_truncation(eval);
        Self { train: rows(train), eval: rows(eval), counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_left_out_for_any_reason_are_counted() {
        let mut rows = RunRowCounts::from_truncation(
            TruncationCounts { complete: 5, truncated: 2, dropped: 1 },
            TruncationCounts { complete: 3, truncated: 0, dropped: 2 },
        );
        let mut report = RowReport::default();
        report.drop_row(DropReason::EmptyOutput, "line 2");
        report.count_unused_field("id");
        rows.counts.add_report(&report);
        assert_eq!(
            serde_json::to_string(&rows).unwrap(),
            r#"{"train":7,"eval":3,"cut":2,"left_out":{"empty_output":1,"too_long":3},"changes":{},"unused_fields":{"id":1}}"#
        );
    }
}
