//! Checks whether a device computes correctly.
//!
//! ```text
//! device    ─┐
//!            ├─► the same operations of a training ─► values ─► largest difference ─► verdict
//! reference ─┘
//! ```
//!
//! A faulty driver or kernel compiler reports no error: an adapter then learns nonsense, or nothing.
//! Comparing the device with a reference device before training detects it.
//!
//! ```
//! use device_check::{CheckLevel, check_device};
//!
//! # fn main() -> train::Result<()> {
//! # let (device, reference) = (testing::flex(), testing::flex());
//! let report = check_device(&device, &reference, CheckLevel::Quick, &mut |_result| {})?;
//! assert!(report.worst_failure().is_none());
//! # Ok(())
//! # }
//! ```

mod check_cases;
mod gpu_kernels;
mod named_values;
mod operations;
mod report;
mod tiny_model;

use burn::tensor::Device;
use check_cases::CHECK_CASES;
use kernels::disable_gpu_kernel;
pub use report::{CheckResult, DeviceCheckReport, Verdict};
use train::Result;

/// How many cases are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckLevel {
    /// Fused kernels, matmuls, softmax, and a training step that uses most other operations: one or two
    /// seconds on a slow device.
    Quick,
    /// All cases: about ten seconds on a slow device.
    Full,
}

/// Compares the results of two devices, case by case; `progress` receives each result.
///
/// A fused kernel of a GPU that is wrong is switched off on the device for the whole process
/// ([`kernels::disable_gpu_kernel`]), before other cases use it.
///
/// Both devices are plain, without autodiff. The reference should be a device without a driver, such
/// as flex.
///
/// # Errors
/// [`train::Error::Model`] if a device fails.
pub fn check_device(
    device: &Device,
    reference: &Device,
    level: CheckLevel,
    progress: &mut dyn FnMut(&CheckResult),
) -> Result<DeviceCheckReport> {
    let mut report = DeviceCheckReport::default();
    let cases = CHECK_CASES.iter().filter(|case| case.in_quick_level || level == CheckLevel::Full);
    for case in cases.filter(|case| case.applies_to(device, reference)) {
        let result = case.compare(&(case.compute)(device)?, &(case.compute)(reference)?);
        if let (Some(kernel), Verdict::KernelDisabled) = (case.kernel, result.verdict) {
            disable_gpu_kernel(device, kernel);
        }
        progress(&result);
        report.results.push(result);
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
            let cases =
                CHECK_CASES.iter().filter(|case| case.applies_to(&device, &testing::flex()));
            assert_eq!(report.results.len(), cases.count());
            assert_eq!(report.worst_failure(), None, "{report:?}");
            assert_eq!(report.disabled_kernels().next(), None, "{report:?}");
        }
    }

    #[test]
    fn the_quick_level_includes_a_training_step() {
        let flex = testing::flex();
        let mut reported = Vec::new();
        let report = check_device(&flex, &flex, CheckLevel::Quick, &mut |result| {
            reported.push(result.part);
        });
        assert_eq!(reported, ["matmul", "softmax", "training step"]);
        assert_eq!(report.unwrap().worst_failure(), None);
    }

    #[test]
    fn one_wrong_value_in_any_output_is_detected() {
        let flex = testing::flex();
        for case in &CHECK_CASES {
            let expected = (case.compute)(&flex).unwrap();
            assert!(!expected.is_empty());
            for wrong in 0..expected.len() {
                let mut actual = expected.clone();
                assert_eq!(case.compare(&actual, &expected).verdict, Verdict::Ok);
                let values = &mut actual[wrong];
                // As if the last value were its neighbor's, or read from uninitialized memory.
                let last = values.values.last_mut().expect("an output has values");
                *last = if last.abs() > 0.5 { 0.0 } else { *last + 1.0 };
                let result = case.compare(&actual, &expected);
                assert_eq!(result.worst, expected[wrong].name);
                let verdict = match (case.known_issue, case.kernel) {
                    (Some(known), _) => Verdict::KnownIssue(known),
                    (None, Some(_)) => Verdict::KernelDisabled,
                    (None, None) => Verdict::Wrong,
                };
                assert_eq!(result.verdict, verdict, "{result:?}");
                actual[wrong].values[0] = f32::NAN;
                assert!(case.compare(&actual, &expected).difference.is_infinite());
            }
        }
    }

    #[test]
    fn the_worst_failure_is_reported() {
        let result = |part, difference, verdict| CheckResult {
            part,
            worst: String::new(),
            difference,
            tolerance: 1e-4,
            verdict,
        };
        let results = vec![
            result("a", 0.1, Verdict::Wrong),
            result("b", f64::INFINITY, Verdict::Wrong),
            result("c", f64::INFINITY, Verdict::KnownIssue("it is")),
        ];
        assert_eq!(DeviceCheckReport { results }.worst_failure().unwrap().part, "b");
    }
}
