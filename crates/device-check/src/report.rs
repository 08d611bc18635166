//! Results of a device check.

use std::fmt;

use serde::{Serialize, Serializer};

/// The result of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckResult {
    /// The case: `matmul`, `attention`, ...
    pub part: &'static str,
    /// The output with the largest difference.
    pub worst: String,
    /// The largest difference, relative to the largest value of that output; infinite for NaN.
    pub difference: f64,
    /// The largest difference that rounding explains.
    #[serde(rename = "allowed")]
    pub tolerance: f64,
    /// The verdict.
    pub verdict: Verdict,
}

impl CheckResult {
    /// The difference and its tolerance: `attention (decode 1, padded) differs by 3.1e-1 (allowed
    /// 2.0e-4)`.
    pub fn describe(&self) -> String {
        let Self { part, worst, difference, tolerance, .. } = self;
        format!("{part} ({worst}) differs by {difference:.1e} (allowed {tolerance:.1e})")
    }
}

/// What a difference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Rounding of f32.
    Ok,
    /// Matmuls that round their inputs to 11 bits, as tensor cores do: harmless for training, visible
    /// in comparisons with other programs.
    ReducedPrecision,
    /// Rounding does not explain it.
    Wrong,
    /// As wrong, but of a fused kernel that is switched off on this device: its operation is composed of
    /// other ones.
    KernelDisabled,
    /// A known bug that nothing here depends on; the text says which.
    KnownIssue(&'static str),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::ReducedPrecision => "ok, with matmul inputs rounded to 11 bits",
            Self::Wrong => "WRONG",
            Self::KernelDisabled => "WRONG: switched off on this device",
            Self::KnownIssue(what) => return write!(f, "note: {what}"),
        })
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// All results of one device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeviceCheckReport {
    /// Results in the order of the cases.
    pub results: Vec<CheckResult>,
}

impl DeviceCheckReport {
    /// The results of fused kernels that were switched off.
    pub fn disabled_kernels(&self) -> impl Iterator<Item = &CheckResult> {
        self.results.iter().filter(|result| result.verdict == Verdict::KernelDisabled)
    }

    /// The worst result that is wrong, relative to its tolerance.
    pub fn worst_failure(&self) -> Option<&CheckResult> {
        let wrong = self.results.iter().filter(|result| result.verdict == Verdict::Wrong);
        wrong.max_by(|a, b| (a.difference / a.tolerance).total_cmp(&(b.difference / b.tolerance)))
    }
}
