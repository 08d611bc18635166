//! Row counts for the closing JSON line of commands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::row_report::{DropReason, RowAdjustment, RowReport};
use crate::data::TruncationCounts;

/// How many rows were truncated, dropped or adjusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows whose output was truncated to the maximum length.
    #[serde(rename = "cut")]
    pub truncated: usize,
    /// Dropped rows by reason.
    #[serde(rename = "left_out")]
    pub dropped: BTreeMap<DropReason, usize>,
    /// Adjustments by kind.
    #[serde(rename = "changes")]
    pub adjustments: BTreeMap<RowAdjustment, usize>,
    /// Unused fields, each with its number of records.
    pub unused_fields: BTreeMap<String, usize>,
}

impl RowCounts {
    /// Adds what the maximum length truncated or dropped.
    pub fn add_truncation(&mut self, counts: TruncationCounts) {
        self.truncated += counts.truncated;
        if counts.dropped > 0 {
            *self.dropped.entry(DropReason::TooLong).or_default() += counts.dropped;
        }
    }

    /// Adds the counts of a report.
    pub fn add_report(&mut self, report: &RowReport) {
        for (&reason, occurrences) in &report.dropped {
            *self.dropped.entry(reason).or_default() += occurrences.count;
        }
        for (&adjustment, occurrences) in &report.adjustments {
            *self.adjustments.entry(adjustment).or_default() += occurrences.count;
        }
        for (name, count) in &report.unused_fields {
            *self.unused_fields.entry(name.clone()).or_default() += count;
        }
    }
}

/// The row counts of a training run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRowCounts {
    /// Training rows.
    pub train: usize,
    /// Held-out rows.
    pub eval: usize,
    /// Truncated, dropped and adjusted rows of both.
    #[serde(flatten)]
    pub counts: RowCounts,
}

impl RunRowCounts {
    /// The rows that remain of both parts after truncation.
    pub fn from_truncation(train: TruncationCounts, eval: TruncationCounts) -> Self {
        let rows = |counts: TruncationCounts| counts.complete + counts.truncated;
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
