//! `llama-adapter devices`: the devices of this build ─► a table and a numerical check of each

use device::{DeviceError, DeviceInfo, DeviceLimits, OpenDevice};
use device_check::{CheckLevel, CheckResult, DeviceCheckReport};
use diagnostic::Diagnostic;
use serde_json::{Value, json};

use crate::device_check::compare_with_reference;
use crate::error::Error;
use crate::failure::Result;
use crate::hints::hint_text;
use crate::output::{self, note};
use crate::text_table::text_table;

/// List the available devices and check their numerical correctness.
///
/// Compares matrix multiplication, softmax, attention and a training step with the CPU backend
/// `flex`, and fails if a device is wrong or does not work. The check takes about ten seconds on a
/// slow device. Layers are "fused" where all operations are our own kernels, and "composed"
/// elsewhere: of Burn's operations, on GPUs with some kernels of ours. A kernel of ours that is
/// wrong on a GPU is no failure: runs do without it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Check only this device: wgpu, wgpu:1, cuda:0, ...
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// List devices without checking them.
    #[arg(long)]
    no_check: bool,
    /// Print one line of JSON per device.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result {
    let mut failed = Vec::new();
    let open = match &args.device {
        Some(name) => vec![device::open(name)?],
        None => open_devices(&mut failed),
    };
    if !args.json {
        output::print(&table(open.iter().map(|open| &open.info)))?;
    }
    let reference = if args.no_check { None } else { device::reference() };
    if reference.is_none() && !args.no_check {
        note("no device was checked: this build has no CPU reference backend");
    }
    for open in &open {
        // The reference is not compared with itself.
        let reference = reference.as_ref().filter(|reference| reference.info != open.info);
        let report = match reference {
            Some(reference) => check_device(open, reference, args.json, &mut failed)?,
            None => None,
        };
        if args.json {
            output::json(&as_json(&open.info, report.as_ref()))?;
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Error::DeviceChecksFailed { names: failed }.into()) }
}

/// Starts every device; reports those that fail to start.
fn open_devices(failed: &mut Vec<String>) -> Vec<OpenDevice> {
    let mut open = Vec::new();
    for started in device::list() {
        match started {
            Ok(started) => open.push(started),
            Err(error) => {
                let hint = error.advice().map(|advice| format!("\nhint: {}", hint_text(&advice)));
                note(&format!("{error}{}", hint.unwrap_or_default()));
                if let DeviceError::StartFailed { name, .. } = error {
                    failed.push(name);
                }
            }
        }
    }
    open
}

/// Runs the full check of a device and prints each result.
fn check_device(
    open: &OpenDevice,
    reference: &OpenDevice,
    quiet: bool,
    failed: &mut Vec<String>,
) -> Result<Option<DeviceCheckReport>> {
    let name = &open.info.name;
    let print = |text: &str| if quiet { Ok(()) } else { output::print(text) };
    print(&format!("\n{name} compared with {}:\n", reference.info.name))?;
    let mut printed = Ok(());
    let mut progress = |result: &CheckResult| {
        if printed.is_ok() {
            printed = print(&result_line(result));
        }
    };
    let report = match compare_with_reference(open, reference, CheckLevel::Full, &mut progress) {
        Ok(report) => report,
        Err(error) => {
            error.report();
            failed.push(name.clone());
            return Ok(None);
        }
    };
    printed?;
    for result in report.disabled_kernels() {
        print(&format!(
            "{name} runs without a kernel that is wrong on it: {}\n",
            result.describe()
        ))?;
    }
    print(&conclusion(name, &reference.info.name, &report))?;
    if report.worst_failure().is_some() {
        failed.push(name.clone());
    }
    Ok(Some(report))
}

fn as_json(info: &DeviceInfo, report: Option<&DeviceCheckReport>) -> Value {
    let DeviceInfo { name, description, kind, api, driver, limits, dtypes, fused } = info;
    let limits = limits.map(|DeviceLimits { buffer, binding, workgroup }| {
        json!({ "buffer": buffer, "binding": binding, "workgroup": workgroup })
    });
    let check = report
        .map(|report| json!({ "ok": report.worst_failure().is_none(), "parts": report.results }));
    json!({
        "device": name,
        "description": description,
        "kind": kind.to_string(),
        "api": api,
        "driver": driver,
        "limits": limits,
        "formats": dtypes,
        "fused": fused,
        "check": check,
    })
}

fn conclusion(name: &str, reference: &str, report: &DeviceCheckReport) -> String {
    match report.worst_failure() {
        Some(finding) => format!(
            "{name} FAILED the check: {}; do not train on it, update the driver or use --device \
             {reference}\n",
            finding.describe()
        ),
        None => format!("{name} passed the check\n"),
    }
}

fn result_line(result: &CheckResult) -> String {
    let CheckResult { part, difference, verdict, .. } = result;
    let difference = if *difference == 0.0 { "0".into() } else { format!("{difference:.1e}") };
    format!("  {part:<16}largest difference {difference:<9}{verdict}\n")
}

/// The properties of the devices; those that a driver does not report are dashes.
fn table<'a>(devices: impl Iterator<Item = &'a DeviceInfo>) -> String {
    let head =
        ["device", "kind", "dtypes", "layers", "max tensor", "shared memory", "driver", "name"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(devices.map(row));
    text_table(&rows, &[4, 5])
}

fn row(info: &DeviceInfo) -> [String; 8] {
    let dash = || "-".to_owned();
    let driver = match (&info.api, &info.driver) {
        (Some(api), Some(driver)) => format!("{api}, {driver}"),
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (None, None) => dash(),
    };
    [
        info.name.clone(),
        info.kind.to_string(),
        info.dtypes.join(" "),
        if info.fused { "fused" } else { "composed" }.into(),
        info.limits.map_or_else(dash, |limits| format_bytes(limits.binding.min(limits.buffer))),
        info.limits.map_or_else(dash, |limits| format_bytes(limits.workgroup)),
        driver,
        info.description.clone(),
    ]
}

/// Bytes in the largest unit in which the number is at least 1, rounded down.
fn format_bytes(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, shift)| bytes >> shift > 0);
    unit.map_or(format!("{bytes} B"), |(name, shift)| format!("{} {name}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use device::DeviceClass;
    use device_check::Verdict;

    use super::*;

    #[test]
    fn unreported_device_properties_are_dashes() {
        let gpu = DeviceInfo {
            name: "wgpu:0".into(),
            description: "a GPU".into(),
            kind: DeviceClass::DiscreteGpu,
            api: Some("Vulkan".into()),
            driver: Some("its driver 1.2".into()),
            limits: Some(DeviceLimits { buffer: 3 << 30, binding: 1 << 31, workgroup: 32 << 10 }),
            dtypes: vec!["f32", "f16"],
            fused: false,
        };
        let reference = device::reference().unwrap().info;
        let cpu = DeviceInfo { dtypes: vec!["f32"], ..reference };
        insta::assert_snapshot!(table([&gpu, &cpu].into_iter()), @r"
        device  kind          dtypes   layers    max tensor  shared memory  driver                  name
        wgpu:0  discrete GPU  f32 f16  composed       2 GiB         32 KiB  Vulkan, its driver 1.2  a GPU
        flex    CPU           f32      fused              -              -  -                       CPU (Burn flex)
        ");
    }

    #[test]
    fn a_line_ends_with_the_verdict() {
        let result = CheckResult {
            part: "softmax",
            worst: "one row".into(),
            difference: 3.14e-7,
            tolerance: 2e-5,
            verdict: Verdict::Ok,
        };
        assert_eq!(result_line(&result), "  softmax         largest difference 3.1e-7   ok\n");
        let wrong = CheckResult { difference: f64::INFINITY, verdict: Verdict::Wrong, ..result };
        assert_eq!(result_line(&wrong), "  softmax         largest difference inf      WRONG\n");
        let expected = format!(
            "wgpu:0 FAILED the check: {}; do not train on it, update the driver or use --device \
             flex\n",
            wrong.describe()
        );
        let report = DeviceCheckReport { results: vec![wrong] };
        assert_eq!(conclusion("wgpu:0", "flex", &report), expected);
        assert_eq!(
            conclusion("wgpu:0", "flex", &DeviceCheckReport::default()),
            "wgpu:0 passed the check\n"
        );
    }
}
