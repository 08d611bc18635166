//! device ─┐
//!         ├─► the same parts of a training ─► numbers ─► largest difference ─► verdict
//! reference ┘
//!
//! A driver, or a compiler of kernels, that computes wrongly says nothing about it: an adapter then
//! learns nonsense, or nothing. So a device is compared with another one before it is trusted.

mod check_cases;
mod named_values;
mod operations;
mod tiny_model;

use std::fmt;

use burn::tensor::Device;
use serde::{Serialize, Serializer};

use check_cases::CHECK_CASES;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckLevel {
    /// Products, and one training step that uses most of the rest: a second or two on a slow device.
    Quick,
    /// Every part: about ten seconds on a slow device.
    Full,
}

/// What came out of one part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckResult {
    /// The part: `product`, `attention`, ...
    pub part: &'static str,
    /// Which of its results differs most.
    pub worst: String,
    /// The largest difference, relative to the largest number of that result; infinite where either
    /// is no number.
    pub difference: f64,
    /// What may differ by rounding.
    #[serde(rename = "allowed")]
    pub tolerance: f64,
    /// What to think of it.
    pub verdict: Verdict,
}

impl CheckResult {
    /// What differs, by how much, and what may: `attention (one more, padded) differs by 3.1e-1
    /// (allowed 2.0e-4)`.
    pub fn describe(&self) -> String {
        let Self { part, worst, difference, tolerance: allowed, .. } = self;
        format!("{part} ({worst}) differs by {difference:.1e} (allowed {allowed:.1e})")
    }
}

/// What to think of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As f32 rounds.
    Ok,
    /// As products round on tensor cores, which keep 11 bits of their factors: nothing to worry
    /// about while training, visible beside other programs.
    ReducedPrecision,
    /// Not explained by rounding.
    Wrong,
    /// A known mistake that nothing here depends on; the text says which.
    KnownIssue(&'static str),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::ReducedPrecision => "ok, with products rounded to 11 bits",
            Self::Wrong => "WRONG",
            Self::KnownIssue(what) => return write!(f, "note: {what}"),
        })
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// All findings about one device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceCheckReport {
    /// In the order in which they were made.
    pub results: Vec<CheckResult>,
}

impl DeviceCheckReport {
    /// The worst of the parts that are wrong.
    pub fn worst_failure(&self) -> Option<&CheckResult> {
        let wrong = self.results.iter().filter(|finding| finding.verdict == Verdict::Wrong);
        wrong.max_by(|a, b| (a.difference / a.tolerance).total_cmp(&(b.difference / b.tolerance)))
    }
}

/// Compares what two devices compute, part by part; `progress` hears of each as it is done.
///
/// Both are plain devices, without autodiff. The reference should be one without a driver in
/// between.
///
/// ```
/// use device_check::{CheckLevel, check_device};
///
/// # fn main() -> train::Result<()> {
/// # let (device, reference) = (testing::flex(), testing::flex());
/// let report = check_device(&device, &reference, CheckLevel::Quick, &mut |_finding| {})?;
/// assert!(report.worst_failure().is_none());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Model`](train::Error::Model) if a device could not compute at all.
pub fn check_device(
    device: &Device,
    reference: &Device,
    depth: CheckLevel,
    progress: &mut dyn FnMut(&CheckResult),
) -> train::Result<DeviceCheckReport> {
    let mut report = DeviceCheckReport::default();
    for part in CHECK_CASES.iter().filter(|part| part.in_quick_level || depth == CheckLevel::Full) {
        let finding = part.compare(&(part.compute)(device)?, &(part.compute)(reference)?);
        progress(&finding);
        report.results.push(finding);
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_device_computes_correctly() {
        for device in testing::devices() {
            let report =
                check_device(&device, &testing::flex(), CheckLevel::Full, &mut |_| {}).unwrap();
            assert_eq!(report.results.len(), CHECK_CASES.len());
            assert_eq!(report.worst_failure(), None, "{report:?}");
        }
    }

    #[test]
    fn the_quick_level_includes_a_training_step() {
        let flex = testing::flex();
        let mut heard = Vec::new();
        let report = check_device(&flex, &flex, CheckLevel::Quick, &mut |finding| {
            heard.push(finding.part);
        });
        assert_eq!(heard, ["product", "softmax", "training step"]);
        assert_eq!(report.unwrap().worst_failure(), None);
    }

    #[test]
    fn one_wrong_value_in_any_output_is_detected() {
        let flex = testing::flex();
        for part in &CHECK_CASES {
            let expected = (part.compute)(&flex).unwrap();
            assert!(!expected.is_empty());
            for wrong in 0..expected.len() {
                let mut found = expected.clone();
                assert_eq!(part.compare(&found, &expected).verdict, Verdict::Ok);
                let numbers = &mut found[wrong];
                // As if the last number were its neighbour's, or read from nowhere.
                let last = numbers.values.last_mut().expect("a result has numbers");
                *last = if last.abs() > 0.5 { 0.0 } else { *last + 1.0 };
                let finding = part.compare(&found, &expected);
                assert_eq!(finding.worst, expected[wrong].name);
                match part.known_issue {
                    Some(known) => assert_eq!(finding.verdict, Verdict::KnownIssue(known)),
                    None => assert_eq!(finding.verdict, Verdict::Wrong, "{finding:?}"),
                }
                found[wrong].values[0] = f32::NAN;
                assert!(part.compare(&found, &expected).difference.is_infinite());
            }
        }
    }

    #[test]
    fn the_worst_failure_is_reported() {
        let finding = |part, difference, verdict| CheckResult {
            part,
            worst: String::new(),
            difference,
            tolerance: 1e-4,
            verdict,
        };
        let findings = vec![
            finding("a", 0.1, Verdict::Wrong),
            finding("b", f64::INFINITY, Verdict::Wrong),
            finding("c", f64::INFINITY, Verdict::KnownIssue("it is")),
        ];
        assert_eq!(DeviceCheckReport { results: findings }.worst_failure().unwrap().part, "b");
    }
}
