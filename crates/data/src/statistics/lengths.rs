//! How long rows are.

use serde::Serialize;

/// The distribution of lengths.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LengthSummary {
    /// Number of rows.
    pub rows: usize,
    /// Sum of all lengths.
    pub total: usize,
    /// The shortest row.
    pub min: usize,
    /// Half of the rows are at most this long.
    pub median: usize,
    /// 90 % of the rows are at most this long.
    pub p90: usize,
    /// 99 % of the rows are at most this long.
    pub p99: usize,
    /// The longest row.
    pub max: usize,
    /// The histogram: bins of equal width, from that of the shortest row to that of the longest.
    pub bins: Vec<LengthBin>,
}

/// The rows of some lengths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LengthBin {
    /// Shortest length.
    pub from: usize,
    /// Longest length.
    pub to: usize,
    /// Number of rows.
    pub rows: usize,
}

impl LengthSummary {
    /// Summarizes lengths, in at most about `bins` bins; `None` without rows.
    ///
    /// ```
    /// use data::statistics::LengthSummary;
    ///
    /// let summary = LengthSummary::new(vec![12, 7, 31, 8], 5).unwrap();
    /// assert_eq!((summary.min, summary.median, summary.max), (7, 8, 31));
    /// assert_eq!((summary.bins[0].from, summary.bins[0].to, summary.bins[0].rows), (5, 9, 2));
    /// ```
    pub fn new(mut lengths: Vec<usize>, bins: usize) -> Option<Self> {
        lengths.sort_unstable();
        let (&min, &max) = (lengths.first()?, lengths.last()?);
        // The smallest length that at least this share of the rows does not exceed.
        let quantile = |percent: usize| {
            let rank = (lengths.len() * percent).div_ceil(100);
            lengths[rank.max(1) - 1]
        };
        let width = bin_width((max - min) / bins.max(1) + 1);
        let mut counted = Vec::new();
        let mut rest = &lengths[..];
        let mut from = min / width * width;
        while !rest.is_empty() {
            let to = from.saturating_add(width - 1);
            let rows = rest.partition_point(|&length| length <= to);
            counted.push(LengthBin { from, to, rows });
            rest = &rest[rows..];
            from = to.saturating_add(1);
        }
        Some(Self {
            rows: lengths.len(),
            total: lengths.iter().fold(0, |sum, &length| sum.saturating_add(length)),
            min,
            median: quantile(50),
            p90: quantile(90),
            p99: quantile(99),
            max,
            bins: counted,
        })
    }
}

/// The smallest of 1, 2, 5, 10, 20, 50, ... that is at least `width`.
fn bin_width(width: usize) -> usize {
    let mut power = 1_usize;
    loop {
        for factor in [1, 2, 5] {
            let candidate = power.saturating_mul(factor);
            if candidate >= width {
                return candidate;
            }
        }
        power = power.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_bin() {
        let lengths = (0..1000).map(|row| row * row % 733 + 40).collect::<Vec<_>>();
        let summary = LengthSummary::new(lengths.clone(), 10).unwrap();
        assert_eq!(summary.bins.iter().map(|bin| bin.rows).sum::<usize>(), 1000);
        assert!(summary.bins.len() <= 11, "{:?}", summary.bins);
        for bin in &summary.bins {
            let inside = |&&length: &&usize| (bin.from..=bin.to).contains(&length);
            assert_eq!(lengths.iter().filter(inside).count(), bin.rows);
        }
        assert_eq!(summary.total, lengths.iter().sum::<usize>());
    }

    #[test]
    fn quantiles_are_lengths_of_rows() {
        let summary = LengthSummary::new((1..=200).collect(), 4).unwrap();
        assert_eq!((summary.median, summary.p90, summary.p99), (100, 180, 198));
        let one = LengthSummary::new(vec![7], 4).unwrap();
        assert_eq!((one.min, one.median, one.p99, one.max), (7, 7, 7, 7));
        assert_eq!(LengthSummary::new(Vec::new(), 4), None);
    }

    #[test]
    fn extreme_lengths_do_not_overflow() {
        let summary = LengthSummary::new(vec![0, usize::MAX], 3).unwrap();
        assert_eq!(summary.bins.iter().map(|bin| bin.rows).sum::<usize>(), 2);
    }
}
