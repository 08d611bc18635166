//! a device ─► is it right? ─► a line on stderr, or an error before any work is done

use device::{DeviceClass, DeviceInfo, OpenDevice};
use device_check::{CheckLevel, CheckResult, DeviceCheckReport, check_device};

use crate::error::Error;
use crate::failure::{Doing, Result};

/// Checks a device in short before it is worked on, unless a CPU backend computes.
pub fn check_before_run(open: &OpenDevice, tell: &dyn Fn(&str)) -> Result {
    let OpenDevice { info, .. } = open;
    if info.kind.is_cpu() {
        return Ok(());
    }
    let DeviceInfo { name, description, .. } = info;
    if info.kind == DeviceClass::Software {
        tell(&format!("{name} is no graphics card: {description} computes in software, slowly"));
    }
    let Some(reference) = device::reference() else {
        tell(&format!("{name} was not checked: this build has no CPU backend to compare it with"));
        return Ok(());
    };
    let report = check(open, &reference, CheckLevel::Quick, &mut |_| {})?;
    tell(&conclusion(info, &reference.info.name, &report)?);
    Ok(())
}

/// A line about a device that computes rightly, or the error about one that does not.
fn conclusion(
    info: &DeviceInfo,
    reference: &str,
    report: &DeviceCheckReport,
) -> Result<String, Error> {
    let DeviceInfo { name, description, .. } = info;
    if let Some(finding) = report.worst_failure() {
        return Err(Error::DeviceCheckFailed { device: name.clone(), finding: finding.clone() });
    }
    let largest = report.results.iter().map(|finding| finding.difference).fold(0.0, f64::max);
    Ok(format!("{name}, {description}, computes as {reference} does, to {largest:.1e}"))
}

/// Compares a device with the reference.
pub fn check(
    open: &OpenDevice,
    reference: &OpenDevice,
    depth: CheckLevel,
    progress: &mut dyn FnMut(&CheckResult),
) -> Result<DeviceCheckReport> {
    check_device(&open.device, &reference.device, depth, progress)
        .doing(|| format!("{} cannot compute", open.info.name))
}

#[cfg(test)]
mod tests {
    use device_check::Verdict;

    use super::*;

    #[test]
    fn a_wrong_device_is_an_error_that_names_the_part() {
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
        assert!(line.ends_with("computes as another does, to 3.1e-7"), "{line}");
        let wrong = CheckResult { difference: 0.3, verdict: Verdict::Wrong, ..finding };
        let error = conclusion(&info, "another", &report(&wrong)).unwrap_err();
        let expected = "computes WRONGLY: training step (loss) differs by 3.0e-1 (allowed 2.0e-4)";
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}
