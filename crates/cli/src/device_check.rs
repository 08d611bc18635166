//! a GPU device ─► numerical check ─► a line on stderr, or an error before the run starts

use device::{DeviceClass, DeviceInfo, OpenDevice};
use device_check::{CheckLevel, CheckResult, DeviceCheckReport, Verdict, check_device};

use crate::error::Error;
use crate::failure::{ErrorContext, Result};

/// Runs the quick check of a device before a run. CPU backends are not checked.
pub fn check_before_run(open: &OpenDevice, notify: &dyn Fn(&str)) -> Result {
    let OpenDevice { info, .. } = open;
    if info.kind.is_cpu() {
        return Ok(());
    }
    let DeviceInfo { name, description, .. } = info;
    if info.kind == DeviceClass::Software {
        notify(&format!("{name} is a software renderer ({description}) and slow"));
    }
    let Some(reference) = device::reference() else {
        notify(&format!("{name} was not checked: this build has no CPU reference backend"));
        return Ok(());
    };
    let report = compare_with_reference(open, &reference, CheckLevel::Quick, &mut |_| {})?;
    for result in report.disabled_kernels() {
        notify(&disabled_kernel(name, result));
    }
    notify(&conclusion(info, &reference.info.name, &report)?);
    Ok(())
}

/// A line about a device that passed the check, or the error about one that failed.
fn conclusion(
    info: &DeviceInfo,
    reference: &str,
    report: &DeviceCheckReport,
) -> Result<String, Error> {
    let DeviceInfo { name, description, .. } = info;
    if let Some(finding) = report.worst_failure() {
        return Err(Error::DeviceCheckFailed { device: name.clone(), finding: finding.clone() });
    }
    let in_use = report.results.iter().filter(|result| result.verdict != Verdict::KernelDisabled);
    let largest = in_use.map(|finding| finding.difference).fold(0.0, f64::max);
    Ok(format!("{name} ({description}) matches {reference} within {largest:.1e}"))
}

/// A line about a fused kernel that is wrong on a device.
fn disabled_kernel(device: &str, result: &CheckResult) -> String {
    format!("{device} runs without a kernel that is wrong on it: {}", result.describe())
}

/// Compares the results of a device with those of the reference.
pub fn compare_with_reference(
    open: &OpenDevice,
    reference: &OpenDevice,
    level: CheckLevel,
    progress: &mut dyn FnMut(&CheckResult),
) -> Result<DeviceCheckReport> {
    check_device(&open.device, &reference.device, level, progress)
        .with_context(|| format!("{} failed during the check", open.info.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_device_is_an_error_that_names_the_operation() {
        let info = device::reference().unwrap().info;
        let finding = CheckResult {
            part: "training step",
            worst: "loss".into(),
            difference: 3.1e-7,
            tolerance: 2e-4,
            verdict: Verdict::Ok,
        };
        let report = |finding: &CheckResult| DeviceCheckReport { results: vec![finding.clone()] };
        let line = conclusion(&info, "another", &report(&finding)).unwrap();
        assert!(line.ends_with(" matches another within 3.1e-7"), "{line}");
        let wrong = CheckResult { difference: 0.3, verdict: Verdict::Wrong, ..finding };
        let error = conclusion(&info, "another", &report(&wrong)).unwrap_err().to_string();
        let expected = format!("{} failed the device check: {}", info.name, wrong.describe());
        assert_eq!(error, expected);
    }

    #[test]
    fn a_wrong_kernel_is_no_error_and_not_counted() {
        let info = device::reference().unwrap().info;
        let result = |difference, verdict| CheckResult {
            part: "fused norm",
            worst: "norm".into(),
            difference,
            tolerance: 2e-5,
            verdict,
        };
        let wrong = result(0.5, Verdict::KernelDisabled);
        let report = DeviceCheckReport { results: vec![wrong.clone(), result(1e-7, Verdict::Ok)] };
        let line = conclusion(&info, "another", &report).unwrap();
        assert!(line.ends_with(" matches another within 1.0e-7"), "{line}");
        assert_eq!(
            disabled_kernel("wgpu:0", &wrong),
            "wgpu:0 runs without a kernel that is wrong on it: fused norm (norm) differs by 5.0e-1 (allowed 2.0e-5)"
        );
    }
}
