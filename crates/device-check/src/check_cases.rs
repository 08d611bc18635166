//! What is compared, and what may differ.

use burn::tensor::Device;

use super::named_values::NamedValues;
use super::{CheckResult, Verdict, operations, tiny_model};
use train::Result;

/// A part of the check: something that a device computes.
pub struct CheckCase {
    pub name: &'static str,
    /// Whether the short form has it.
    pub in_quick_level: bool,
    /// What may differ by rounding, relative to the largest number.
    pub tolerance: f64,
    /// What may differ besides where products are rounded; nothing where there are none.
    pub reduced_precision_tolerance: f64,
    /// A known mistake, instead of a verdict.
    pub known_issue: Option<&'static str>,
    pub compute: fn(&Device) -> Result<Vec<NamedValues>>,
}

/// Sums of some hundred products in f32, in any order, differ by less; kernels that read a wrong
/// number differ by more than a hundred times as much.
const OP_TOLERANCE: f64 = 2e-5;
/// A dozen operations, one after the other, each with what the one before has left.
const FORWARD_TOLERANCE: f64 = 2e-4;
/// Factors of 11 bits: each product differs by up to 2^-11, a sum of them by less.
const REDUCED_MATMUL_TOLERANCE: f64 = 2e-3;
/// Dozens of those, one after the other; with weights of 11 bits alone a pass of this model differs
/// by 2e-3.
const REDUCED_FORWARD_TOLERANCE: f64 = 1e-2;
/// And back.
const REDUCED_STEP_TOLERANCE: f64 = 2e-2;

/// In the order of their use: what is built from the others comes last.
pub static CHECK_CASES: [CheckCase; 9] = [
    CheckCase {
        name: "product",
        in_quick_level: true,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: REDUCED_MATMUL_TOLERANCE,
        known_issue: None,
        compute: operations::matmul,
    },
    CheckCase {
        name: "large product",
        in_quick_level: false,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: REDUCED_MATMUL_TOLERANCE,
        known_issue: None,
        compute: operations::large_matmul,
    },
    CheckCase {
        name: "packed product",
        in_quick_level: false,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: REDUCED_MATMUL_TOLERANCE,
        known_issue: None,
        compute: operations::quantised_matmul,
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
        name: "selection",
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
        known_issue: Some("a known mistake of Burn 0.22.1, which llama-adapter steps around"),
        compute: operations::transposed_sum,
    },
];

impl CheckCase {
    /// How far what a device computed is from what it should be.
    pub fn compare(&self, found: &[NamedValues], expected: &[NamedValues]) -> CheckResult {
        let pairs = found.iter().zip(expected);
        let differences =
            pairs.map(|(found, expected)| (found.relative_difference(expected), &found.name));
        let worst = differences.max_by(|(a, _), (b, _)| a.total_cmp(b));
        let (difference, worst) =
            worst.map_or((f64::INFINITY, String::new()), |(d, what)| (d, what.clone()));
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
