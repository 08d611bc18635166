//! The cases of the check, and their tolerances.

use burn::tensor::Device;

use super::named_values::NamedValues;
use super::{CheckResult, Verdict, operations, tiny_model};
use train::Result;

/// A case of the check.
pub struct CheckCase {
    pub name: &'static str,
    /// Whether [`CheckLevel::Quick`](crate::CheckLevel::Quick) includes it.
    pub in_quick_level: bool,
    /// The largest difference that f32 rounding explains, relative to the largest value.
    pub tolerance: f64,
    /// The largest difference that matmuls in reduced precision explain; 0 without matmuls.
    pub reduced_precision_tolerance: f64,
    /// A known bug, instead of a verdict.
    pub known_issue: Option<&'static str>,
    pub compute: fn(&Device) -> Result<Vec<NamedValues>>,
}

/// Sums of a few hundred f32 products, in any order, differ by less; a kernel that reads a wrong value
/// differs by more than a hundred times as much.
const OP_TOLERANCE: f64 = 2e-5;
/// A sequence of a dozen operations.
const FORWARD_TOLERANCE: f64 = 2e-4;
/// Inputs of 11 bits: each product differs by up to 2^-11, a sum of them by less.
const REDUCED_MATMUL_TOLERANCE: f64 = 2e-3;
/// Inputs of 8 bits, for matrix units that multiply bf16.
const REDUCED_BF16_TOLERANCE: f64 = 1e-2;
/// Dozens of such matmuls; with weights of 11 bits alone a forward pass of this model differs by
/// 2e-3.
const REDUCED_FORWARD_TOLERANCE: f64 = 1e-2;
/// A forward and a backward pass.
const REDUCED_STEP_TOLERANCE: f64 = 2e-2;

/// All cases: single operations first, then what is composed of them.
pub static CHECK_CASES: [CheckCase; 10] = [
    CheckCase {
        name: "matmul",
        in_quick_level: true,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: REDUCED_MATMUL_TOLERANCE,
        known_issue: None,
        compute: operations::matmul,
    },
    CheckCase {
        name: "large matmul",
        in_quick_level: false,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: REDUCED_MATMUL_TOLERANCE,
        known_issue: None,
        compute: operations::large_matmul,
    },
    CheckCase {
        name: "q8/q4 matmul",
        in_quick_level: false,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: REDUCED_MATMUL_TOLERANCE,
        known_issue: None,
        compute: operations::quantized_matmul,
    },
    CheckCase {
        name: "bf16/f16 matmul",
        in_quick_level: false,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: REDUCED_BF16_TOLERANCE,
        known_issue: None,
        compute: operations::half_matmul,
    },
    CheckCase {
        name: "reduction",
        in_quick_level: false,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: 0.0,
        known_issue: None,
        compute: operations::reduction,
    },
    CheckCase {
        name: "softmax",
        in_quick_level: true,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: 0.0,
        known_issue: None,
        compute: operations::softmax,
    },
    CheckCase {
        name: "indexing",
        in_quick_level: false,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: 0.0,
        known_issue: None,
        compute: operations::indexing,
    },
    CheckCase {
        name: "attention",
        in_quick_level: false,
        tolerance: FORWARD_TOLERANCE,
        reduced_precision_tolerance: REDUCED_FORWARD_TOLERANCE,
        known_issue: None,
        compute: tiny_model::attention,
    },
    CheckCase {
        name: "training step",
        in_quick_level: true,
        tolerance: FORWARD_TOLERANCE,
        reduced_precision_tolerance: REDUCED_STEP_TOLERANCE,
        known_issue: None,
        compute: tiny_model::training_step,
    },
    CheckCase {
        name: "transposed sum",
        in_quick_level: false,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: 0.0,
        known_issue: Some("a known bug of Burn 0.22.1 that llama-adapter works around"),
        compute: operations::transposed_sum,
    },
];

impl CheckCase {
    /// Compares the outputs of a device with the expected ones.
    pub fn compare(&self, actual: &[NamedValues], expected: &[NamedValues]) -> CheckResult {
        let pairs = actual.iter().zip(expected);
        let differences =
            pairs.map(|(actual, expected)| (actual.relative_difference(expected), &actual.name));
        let worst = differences.max_by(|(a, _), (b, _)| a.total_cmp(b));
        let (difference, worst) = worst
            .map_or((f64::INFINITY, String::new()), |(difference, name)| {
                (difference, name.clone())
            });
        let verdict = if difference <= self.tolerance {
            Verdict::Ok
        } else if let Some(known) = self.known_issue {
            Verdict::KnownIssue(known)
        } else if difference <= self.reduced_precision_tolerance {
            Verdict::ReducedPrecision
        } else {
            Verdict::Wrong
        };
        CheckResult { part: self.name, worst, difference, tolerance: self.tolerance, verdict }
    }
}
