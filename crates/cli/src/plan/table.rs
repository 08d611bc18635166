//! a report ─► tables: a row for each part, a column for each device

use std::fmt;

use indicatif::HumanBytes;

use super::{DevicePlan, MemoryEstimate, Report, SuggestedChange};

/// Width of the first column, and of those of the devices.
const LABEL: usize = 20;
const COLUMN: usize = 14;

/// Writes a row of a table: its name, and what each device has there.
type Line<'a> =
    &'a dyn Fn(&mut fmt::Formatter<'_>, &str, &dyn Fn(&DevicePlan) -> String) -> fmt::Result;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, precision, batch, seq, labels, new_tokens, .. } = self;
        writeln!(f, "{model} in {precision}\n")?;
        let recompute = if self.recompute { ", one layer's graph at a time" } else { "" };
        writeln!(f, "training: {batch} rows of {seq} tokens, {labels} labels each{recompute}")?;
        self.table(f, |device| &device.training)?;
        writeln!(f, "\nanswering: {batch} prompts of {seq} tokens, {new_tokens} new tokens each")?;
        self.table(f, |device| &device.answering)?;
        writeln!(f)?;
        let names = |measured: bool| {
            let devices = self.devices.iter().filter(|device| device.measured == measured);
            devices.map(|device| device.device.as_str()).collect::<Vec<_>>().join(", ")
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
        need: impl Fn(&DevicePlan) -> &MemoryEstimate,
    ) -> fmt::Result {
        let line: Line = &|f, name, cell| {
            write!(f, "  {name:LABEL$}")?;
            for device in &self.devices {
                write!(f, "{:>COLUMN$}", cell(device))?;
            }
            writeln!(f)
        };
        line(f, "", &|device| device.device.clone())?;
        let names = need(&self.devices[0]).plan.components();
        for (index, (name, _)) in names.into_iter().enumerate() {
            let bytes = |device: &DevicePlan| need(device).plan.components()[index].1;
            if self.devices.iter().any(|device| bytes(device) > 0) {
                line(f, name, &|device| HumanBytes(bytes(device)).to_string())?;
            }
        }
        line(f, "total", &|device| HumanBytes(need(device).total).to_string())?;
        let known = |bytes: u64| HumanBytes(bytes).to_string();
        line(f, "there is", &|device| device.memory.map_or("unknown".into(), known))?;
        self.changes(f, line, &need)
    }

    /// What to change where something does not fit, and what it takes then.
    fn changes(
        &self,
        f: &mut fmt::Formatter<'_>,
        line: Line,
        need: &dyn Fn(&DevicePlan) -> &MemoryEstimate,
    ) -> fmt::Result {
        let too_much = |device: &DevicePlan| need(device).fits == Some(false);
        let names = self.devices.iter().filter(|device| too_much(device));
        let names = names.map(|device| device.device.as_str()).collect::<Vec<_>>();
        if names.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n  does not fit on {}; with one of these changes it takes",
            names.join(", ")
        )?;
        let all = self.devices.iter().flat_map(|device| &need(device).changes);
        let mut changes: Vec<&SuggestedChange> = Vec::new();
        for change in all {
            if changes.iter().all(|known| known.change != change.change) {
                changes.push(change);
            }
        }
        for change in &changes {
            line(f, &change.change, &|device| {
                let own = need(device).changes.iter().find(|own| own.change == change.change);
                match own.filter(|_| too_much(device)) {
                    Some(own) if own.fits => HumanBytes(own.total).to_string(),
                    Some(own) => format!("({})", HumanBytes(own.total)),
                    None => "-".into(),
                }
            })?;
        }
        if changes.iter().any(|change| !change.fits) {
            writeln!(f, "  (in brackets: still too much)")?;
        }
        Ok(())
    }
}
