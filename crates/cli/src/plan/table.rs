//! a report ─► tables: a row for each part, a column for each device

use std::fmt;

use indicatif::HumanBytes;

use super::{DeviceReport, MEASURED, Need, Report};

/// Width of a column.
const COLUMN: usize = 14;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, dtype, batch, seq, labels, new_tokens, .. } = self;
        writeln!(f, "{model} in {dtype}\n")?;
        let recompute = if self.recompute { ", one layer's graph at a time" } else { "" };
        writeln!(f, "training: {batch} rows of {seq} tokens, {labels} labels each{recompute}")?;
        self.table(f, |device| &device.training)?;
        writeln!(f, "\nanswering: {batch} prompts of {seq} tokens, {new_tokens} new tokens each")?;
        self.table(f, |device| &device.answering)?;
        writeln!(f)?;
        let names = |measured: bool| {
            let devices = self.devices.iter().map(|device| device.device.as_str());
            devices
                .filter(|name| MEASURED.contains(name) == measured)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let (measured, computed) = (names(true), names(false));
        if !measured.is_empty() {
            writeln!(f, "{measured}: within 20 % of measured peaks.")?;
        }
        if !computed.is_empty() {
            writeln!(
                f,
                "{computed}: computed, not measured; what driver and allocator hold in reserve comes on top."
            )?;
        }
        Ok(())
    }
}

impl Report {
    fn table(
        &self,
        f: &mut fmt::Formatter<'_>,
        need: impl Fn(&DeviceReport) -> &Need,
    ) -> fmt::Result {
        let line =
            |f: &mut fmt::Formatter<'_>, name: &str, cell: &dyn Fn(&DeviceReport) -> String| {
                write!(f, "  {name:12}")?;
                for device in &self.devices {
                    write!(f, "{:>COLUMN$}", cell(device))?;
                }
                writeln!(f)
            };
        line(f, "", &|device| device.device.clone())?;
        let names = need(&self.devices[0]).plan.rows();
        for (index, (name, _)) in names.into_iter().enumerate() {
            let bytes = |device: &DeviceReport| need(device).plan.rows()[index].1;
            if self.devices.iter().any(|device| bytes(device) > 0) {
                line(f, name, &|device| HumanBytes(bytes(device)).to_string())?;
            }
        }
        line(f, "total", &|device| HumanBytes(need(device).total).to_string())?;
        let known = |bytes: u64| HumanBytes(bytes).to_string();
        line(f, "there is", &|device| device.memory.map_or("unknown".into(), known))?;
        for device in &self.devices {
            changes(f, &device.device, need(device))?;
        }
        Ok(())
    }
}

/// What to change where something does not fit.
fn changes(f: &mut fmt::Formatter<'_>, device: &str, need: &Need) -> fmt::Result {
    if need.fits != Some(false) {
        return Ok(());
    }
    let (enough, others): (Vec<_>, Vec<_>) = need.changes.iter().partition(|change| change.fits);
    writeln!(f, "\n  does not fit on {device}.")?;
    for (what, changes) in [("Any of these is enough:", enough), ("Not enough alone:", others)] {
        if changes.is_empty() {
            continue;
        }
        writeln!(f, "  {what}")?;
        for change in changes {
            let (saves, total) = (HumanBytes(change.saves), HumanBytes(change.total));
            writeln!(f, "    {:22} saves {saves}, {total} in all", change.change)?;
        }
    }
    Ok(())
}
