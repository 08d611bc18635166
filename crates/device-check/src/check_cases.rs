//! The cases of the check, and their tolerances.

use burn::tensor::Device;
use kernels::GpuKernel;

use super::named_values::NamedValues;
use super::{CheckResult, Verdict, gpu_kernels, operations, tiny_model};
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
    /// The fused kernel of GPUs that the case checks alone. Where it is wrong it is switched off.
    pub kernel: Option<GpuKernel>,
    pub compute: fn(&Device) -> Result<Vec<NamedValues>>,
}

/// Sums of a few hundred f32 products, in any order, differ by less; a kernel that reads a wrong value
/// differs by more than a hundred times as much.
const OP_TOLERANCE: f64 = 2e-5;
/// A sequence of a dozen operations.
const FORWARD_TOLERANCE: f64 = 2e-4;
/// Inputs of 11 bits: each product differs by up to 2^-11, a sum of them by less.
const REDUCED_MATMUL_TOLERANCE: f64 = 2e-3;
/// Dozens of such matmuls; with weights of 11 bits alone a forward pass of this model differs by
/// 2e-3.
const REDUCED_FORWARD_TOLERANCE: f64 = 1e-2;
/// A forward and a backward pass.
const REDUCED_STEP_TOLERANCE: f64 = 2e-2;

/// All cases: single operations first, then what is composed of them.
///
/// The kernels of GPUs come before whatever uses them.
pub static CHECK_CASES: [CheckCase; 13] = [
    CheckCase::of_kernel(GpuKernel::RmsNorm, "fused norm", OP_TOLERANCE, gpu_kernels::rms_norm),
    CheckCase::of_kernel(GpuKernel::SwiGlu, "fused SwiGLU", OP_TOLERANCE, gpu_kernels::swiglu),
    CheckCase::of_kernel(
        GpuKernel::Attention,
        "fused attention",
        FORWARD_TOLERANCE,
        gpu_kernels::attention,
    ),
    CheckCase::of_kernel(
        GpuKernel::CrossEntropy,
        "fused loss",
        OP_TOLERANCE,
        gpu_kernels::cross_entropy,
    ),
    CheckCase {
        name: "matmul",
        in_quick_level: true,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: REDUCED_MATMUL_TOLERANCE,
        known_issue: None,
        kernel: None,
        compute: operations::matmul,
    },
    CheckCase {
        name: "large matmul",
        in_quick_level: false,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: REDUCED_MATMUL_TOLERANCE,
        known_issue: None,
        kernel: None,
        compute: operations::large_matmul,
    },
    CheckCase {
        name: "q8/q4 matmul",
        in_quick_level: false,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: REDUCED_MATMUL_TOLERANCE,
        known_issue: None,
        kernel: None,
        compute: operations::quantized_matmul,
    },
    CheckCase {
        name: "reduction",
        in_quick_level: false,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: 0.0,
        known_issue: None,
        kernel: None,
        compute: operations::reduction,
    },
    CheckCase {
        name: "softmax",
        in_quick_level: true,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: 0.0,
        known_issue: None,
        kernel: None,
        compute: operations::softmax,
    },
    CheckCase {
        name: "indexing",
        in_quick_level: false,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: 0.0,
        known_issue: None,
        kernel: None,
        compute: operations::indexing,
    },
    CheckCase {
        name: "attention",
        in_quick_level: false,
        tolerance: FORWARD_TOLERANCE,
        reduced_precision_tolerance: REDUCED_FORWARD_TOLERANCE,
        known_issue: None,
        kernel: None,
        compute: tiny_model::attention,
    },
    CheckCase {
        name: "training step",
        in_quick_level: true,
        tolerance: FORWARD_TOLERANCE,
        reduced_precision_tolerance: REDUCED_STEP_TOLERANCE,
        known_issue: None,
        kernel: None,
        compute: tiny_model::training_step,
    },
    CheckCase {
        name: "transposed sum",
        in_quick_level: false,
        tolerance: OP_TOLERANCE,
        reduced_precision_tolerance: 0.0,
        known_issue: Some("a known bug of Burn 0.22.1 that llama-adapter works around"),
        kernel: None,
        compute: operations::transposed_sum,
    },
];

impl CheckCase {
    const fn of_kernel(
        kernel: GpuKernel,
        name: &'static str,
        tolerance: f64,
        compute: fn(&Device) -> Result<Vec<NamedValues>>,
    ) -> Self {
        Self {
            name,
            in_quick_level: true,
            tolerance,
            reduced_precision_tolerance: 0.0,
            known_issue: None,
            kernel: Some(kernel),
            compute,
        }
    }

    /// Whether both devices have what the case compares: operations of every device, or a kernel and the
    /// same operation on the reference.
    pub fn applies_to(&self, device: &Device, reference: &Device) -> bool {
        self.kernel.is_none_or(|kernel| {
            let on_reference = kernel != GpuKernel::Attention || kernels::is_fused(reference);
            kernels::has_gpu_kernel(device, kernel) && on_reference
        })
    }

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
        } else if self.kernel.is_some() {
            Verdict::KernelDisabled
        } else {
            Verdict::Wrong
        };
        CheckResult { part: self.name, worst, difference, tolerance: self.tolerance, verdict }
    }
}
