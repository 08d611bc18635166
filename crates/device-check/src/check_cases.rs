//! What is compared, and what may differ.

use burn::tensor::Device;

use super::named_values::Numbers;
use super::{CheckResult, Verdict, operations, tiny_model};
use train::Result;

/// A part of the check: something that a device computes.
pub struct Part {
    pub name: &'static str,
    /// Whether the short form has it.
    pub short: bool,
    /// What may differ by rounding, relative to the largest number.
    pub allowed: f64,
    /// What may differ besides where products are rounded; nothing where there are none.
    pub rounded: f64,
    /// A known mistake, instead of a verdict.
    pub known: Option<&'static str>,
    pub results: fn(&Device) -> Result<Vec<Numbers>>,
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
pub static PARTS: [Part; 9] = [
    Part {
        name: "product",
        short: true,
        allowed: OP_TOLERANCE,
        rounded: REDUCED_MATMUL_TOLERANCE,
        known: None,
        results: operations::product,
    },
    Part {
        name: "large product",
        short: false,
        allowed: OP_TOLERANCE,
        rounded: REDUCED_MATMUL_TOLERANCE,
        known: None,
        results: operations::large_matmul,
    },
    Part {
        name: "packed product",
        short: false,
        allowed: OP_TOLERANCE,
        rounded: REDUCED_MATMUL_TOLERANCE,
        known: None,
        results: operations::quantised_matmul,
    },
    Part {
        name: "reduction",
        short: false,
        allowed: OP_TOLERANCE,
        rounded: 0.0,
        known: None,
        results: operations::reduction,
    },
    Part {
        name: "softmax",
        short: true,
        allowed: OP_TOLERANCE,
        rounded: 0.0,
        known: None,
        results: operations::softmax,
    },
    Part {
        name: "selection",
        short: false,
        allowed: OP_TOLERANCE,
        rounded: 0.0,
        known: None,
        results: operations::selection,
    },
    Part {
        name: "attention",
        short: false,
        allowed: FORWARD_TOLERANCE,
        rounded: REDUCED_FORWARD_TOLERANCE,
        known: None,
        results: tiny_model::attention,
    },
    Part {
        name: "training step",
        short: true,
        allowed: FORWARD_TOLERANCE,
        rounded: REDUCED_STEP_TOLERANCE,
        known: None,
        results: tiny_model::step,
    },
    Part {
        name: "transposed sum",
        short: false,
        allowed: OP_TOLERANCE,
        rounded: 0.0,
        known: Some("a known mistake of Burn 0.22.1, which llama-adapter steps around"),
        results: operations::transposed_sum,
    },
];

impl Part {
    /// How far what a device computed is from what it should be.
    pub fn compare(&self, found: &[Numbers], expected: &[Numbers]) -> CheckResult {
        let pairs = found.iter().zip(expected);
        let differences = pairs.map(|(found, expected)| (found.difference(expected), &found.what));
        let worst = differences.max_by(|(a, _), (b, _)| a.total_cmp(b));
        let (difference, worst) =
            worst.map_or((f64::INFINITY, String::new()), |(d, what)| (d, what.clone()));
        let verdict = if difference <= self.allowed {
            Verdict::Ok
        } else if let Some(known) = self.known {
            Verdict::KnownIssue(known)
        } else if difference <= self.rounded {
            Verdict::ReducedPrecision
        } else {
            Verdict::Wrong
        };
        CheckResult { part: self.name, worst, difference, tolerance: self.allowed, verdict }
    }
}
