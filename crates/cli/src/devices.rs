//! `llama-adapter devices`: what there is to compute on ─► a table ─► whether it computes rightly

use device::{DeviceError, DeviceInfo, DeviceLimits, OpenDevice};
use device_check::{CheckLevel, CheckResult, DeviceCheckReport};
use diagnostic::Diagnostic;
use serde_json::{Value, json};

use crate::check::check;
use crate::error::Error;
use crate::failure::{Result, words};
use crate::output::{self, note};

/// List the devices that this build finds on this machine, and check that they compute rightly.
///
/// Products, softmax, attention and a training step of each are compared with those of the CPU
/// backend `flex`. The command fails if a device computes wrongly or not at all. On a slow device
/// the check takes some ten seconds. Layers are fused where this program's own kernels compute them, and
/// elsewhere composed of Burn's operations.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Look at this device only: wgpu, wgpu:1, cuda:0, ...
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Only list them.
    #[arg(long)]
    no_check: bool,
    /// Write one line of JSON for each.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result {
    let mut failed = Vec::new();
    let open = match &args.device {
        Some(name) => vec![device::open(name)?],
        None => found(&mut failed),
    };
    if !args.json {
        output::print(&table(&open))?;
    }
    let reference = if args.no_check { None } else { device::reference() };
    if reference.is_none() && !args.no_check {
        note("no device was checked: this build has no CPU backend to compare them with");
    }
    for open in &open {
        // The reference cannot be compared with itself.
        let reference = reference.as_ref().filter(|reference| reference.info != open.info);
        let report = match reference {
            Some(reference) => examine(open, reference, args.json, &mut failed)?,
            None => None,
        };
        if args.json {
            output::json(&as_json(&open.info, report.as_ref()))?;
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Error::DeviceChecksFailed { names: failed }.into()) }
}

/// Every device that comes up; the others are noted.
fn found(failed: &mut Vec<String>) -> Vec<OpenDevice> {
    let mut open = Vec::new();
    for found in device::list() {
        match found {
            Ok(found) => open.push(found),
            Err(error) => {
                let hint = error.advice().map(|advice| format!("\nhint: {}", words(&advice)));
                note(&format!("{error}{}", hint.unwrap_or_default()));
                if let DeviceError::StartFailed { name, .. } = error {
                    failed.push(name);
                }
            }
        }
    }
    open
}

/// Runs the whole check of a device and tells what it finds.
fn examine(
    open: &OpenDevice,
    reference: &OpenDevice,
    quiet: bool,
    failed: &mut Vec<String>,
) -> Result<Option<DeviceCheckReport>> {
    let name = &open.info.name;
    let print = |text: &str| if quiet { Ok(()) } else { output::print(text) };
    print(&format!("\n{name} beside {}:\n", reference.info.name))?;
    let mut printed = Ok(());
    let mut progress = |finding: &CheckResult| {
        if printed.is_ok() {
            printed = print(&line(finding));
        }
    };
    let report = match check(open, reference, CheckLevel::Full, &mut progress) {
        Ok(report) => report,
        Err(error) => {
            error.report();
            failed.push(name.clone());
            return Ok(None);
        }
    };
    printed?;
    print(&conclusion(name, &reference.info.name, &report))?;
    if report.worst_failure().is_some() {
        failed.push(name.clone());
    }
    Ok(Some(report))
}

fn as_json(info: &DeviceInfo, report: Option<&DeviceCheckReport>) -> Value {
    let DeviceInfo { name, description, kind, api, driver, limits, dtypes: formats, fused } = info;
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
        "formats": formats,
        "fused": fused,
        "check": check,
    })
}

fn conclusion(name: &str, reference: &str, report: &DeviceCheckReport) -> String {
    match report.worst_failure() {
        Some(finding) => format!(
            "{name} computes WRONGLY: {}; do not train on it. Update the driver or use --device \
             {reference}\n",
            finding.describe()
        ),
        None => format!("{name} computes rightly\n"),
    }
}

fn line(finding: &CheckResult) -> String {
    let CheckResult { part, difference, verdict, .. } = finding;
    let difference = if *difference == 0.0 { "0".into() } else { format!("{difference:.1e}") };
    format!("  {part:<16}largest difference {difference:<9}{verdict}\n")
}

/// What the devices say about themselves. What they do not is a dash.
fn table(open: &[OpenDevice]) -> String {
    let heads = ["device", "kind", "formats", "layers", "tensor", "shared", "driver", "name"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(open.iter().map(|open| row(&open.info)));
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4, 5, 6].map(width);
    let line = |row: &[String; 8]| {
        let [device, kind, formats, layers, tensor, shared, driver, name] = row;
        let [a, b, c, d, e, f, g] = widths;
        format!(
            "{device:a$}  {kind:b$}  {formats:c$}  {layers:d$}  {tensor:>e$}  {shared:>f$}  \
             {driver:g$}  {name}\n"
        )
    };
    rows.iter().map(line).collect()
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
        info.limits.map_or_else(dash, |limits| size(limits.binding.min(limits.buffer))),
        info.limits.map_or_else(dash, |limits| size(limits.workgroup)),
        driver,
        info.description.clone(),
    ]
}

/// Bytes in the largest unit that leaves at least 1.
fn size(bytes: u64) -> String {
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
    fn what_a_device_does_not_tell_is_a_dash() {
        let reference = device::reference().unwrap();
        let card = DeviceInfo {
            name: "wgpu:0".into(),
            description: "a card".into(),
            kind: DeviceClass::DiscreteGpu,
            api: Some("Vulkan".into()),
            driver: Some("its driver 1.2".into()),
            limits: Some(DeviceLimits { buffer: 3 << 30, binding: 1 << 31, workgroup: 32 << 10 }),
            dtypes: vec!["f32", "f16"],
            fused: false,
        };
        let table = table(&[
            OpenDevice { device: reference.device.clone(), info: card },
            OpenDevice { info: DeviceInfo { dtypes: vec!["f32"], ..reference.info }, ..reference },
        ]);
        insta::assert_snapshot!(table, @r"
        device  kind          formats  layers    tensor  shared  driver                  name
        wgpu:0  discrete GPU  f32 f16  composed   2 GiB  32 KiB  Vulkan, its driver 1.2  a card
        flex    CPU           f32      fused          -       -  -                       the processor, Burn's own operations
        ");
    }

    #[test]
    fn a_line_ends_with_the_verdict() {
        let finding = CheckResult {
            part: "product",
            worst: "few rows".into(),
            difference: 3.14e-7,
            tolerance: 2e-5,
            verdict: Verdict::Ok,
        };
        assert_eq!(line(&finding), "  product         largest difference 3.1e-7   ok\n");
        let wrong = CheckResult { difference: f64::INFINITY, verdict: Verdict::Wrong, ..finding };
        assert_eq!(line(&wrong), "  product         largest difference inf      WRONG\n");
        let report = DeviceCheckReport { results: vec![wrong] };
        assert_eq!(
            conclusion("wgpu:0", "flex", &report),
            "wgpu:0 computes WRONGLY: product (few rows) differs by inf (allowed 2.0e-5); do not \
             train on it. Update the driver or use --device flex\n"
        );
        assert_eq!(
            conclusion("wgpu:0", "flex", &DeviceCheckReport::default()),
            "wgpu:0 computes rightly\n"
        );
    }
}
