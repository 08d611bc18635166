//! a device ─► is it right? ─► a line on stderr, or an error before any work is done

use anyhow::Context;
use device::{Kind, OpenDevice};
use train::device_check::{Depth, Finding, Report, check_device};

use crate::error::Error;

/// Checks a device in short before it is worked on, unless a CPU backend computes.
pub fn before_work(open: &OpenDevice, tell: &dyn Fn(&str)) -> anyhow::Result<()> {
    let OpenDevice { info, .. } = open;
    if info.kind.is_cpu() {
        return Ok(());
    }
    let (name, description) = (&info.name, &info.description);
    if info.kind == Kind::Software {
        tell(&format!("{name} is no graphics card: {description} computes in software, slowly"));
    }
    let Some(reference) = device::reference() else {
        tell(&format!("{name} was not checked: this build has no CPU backend to compare it with"));
        return Ok(());
    };
    let report = check(open, &reference, Depth::Short, &mut |_| {})?;
    if let Some(finding) = report.wrong() {
        let (device, finding) = (name.clone(), finding.clone());
        return Err(Error::DeviceWrong { device, finding }.into());
    }
    let differences = report.findings.iter().map(|finding| finding.difference);
    let (largest, reference) = (differences.fold(0.0, f64::max), reference.info.name);
    tell(&format!("{name} ({description}) computes as {reference} does, to {largest:.1e}"));
    Ok(())
}

/// Compares a device with the reference.
pub fn check(
    open: &OpenDevice,
    reference: &OpenDevice,
    depth: Depth,
    progress: &mut dyn FnMut(&Finding),
) -> anyhow::Result<Report> {
    check_device(&open.device, &reference.device, depth, progress)
        .with_context(|| format!("{} cannot compute", open.info.name))
}
