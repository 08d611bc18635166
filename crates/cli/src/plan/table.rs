//! a report ─► tables with a row per component and a column per device

use std::fmt;

use indicatif::HumanBytes;
use memory_plan::PrefixCachePlan;

use super::report::{DevicePlan, MemoryEstimate, PlanReport, SuggestedChange};

/// Width of the first column.
const LABEL_WIDTH: usize = 28;
/// Width of the column of a device.
const COLUMN_WIDTH: usize = 14;

/// Writes a row of a table: its label, and a cell for each device.
type RowWriter<'a> =
    &'a dyn Fn(&mut fmt::Formatter<'_>, &str, &dyn Fn(&DevicePlan) -> String) -> fmt::Result;

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, precision, batch, seq, labels, new_tokens, .. } = self;
        writeln!(f, "{model}, precision {precision}\n")?;
        let checkpointing = if self.recompute { ", activation checkpointing" } else { "" };
        writeln!(
            f,
            "training: batch size {batch}, sequence length {seq}, {labels} label tokens \
             each{checkpointing}"
        )?;
        self.table(f, |device| &device.training)?;
        if let Some(cache) = &self.prefix_cache {
            let PrefixCachePlan { layers, bytes_per_token, bytes_per_row, .. } = cache.plan;
            let [token, row] = [bytes_per_token, bytes_per_row].map(HumanBytes);
            write!(
                f,
                "\n  frozen-prefix cache below layer {layers}, in host memory or on disk: {token} per \
                 token, {row} per row"
            )?;
            match cache.rows.zip(cache.bytes) {
                Some((rows, bytes)) => writeln!(f, ", {} for {rows} rows", HumanBytes(bytes))?,
                None => writeln!(f)?,
            }
        }
        writeln!(
            f,
            "\ngeneration: batch size {batch}, prompt length {seq}, {new_tokens} new tokens each"
        )?;
        self.table(f, |device| &device.answering)?;
        if let Some(scale) = &self.scale {
            write!(f, "{scale}")?;
        }
        writeln!(f)?;
        let names = |measured: bool| {
            let devices = self.devices.iter().filter(|device| device.measured == measured);
            devices.map(|device| device.device.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (measured, estimated) = (names(true), names(false));
        if !measured.is_empty() {
            writeln!(f, "{measured}: within 20 % of measured peaks.")?;
        }
        if !estimated.is_empty() {
            writeln!(
                f,
                "{estimated}: estimated, not measured; driver and allocator overhead is not \
                 included."
            )?;
        }
        Ok(())
    }
}

impl PlanReport {
    fn table(
        &self,
        f: &mut fmt::Formatter<'_>,
        estimate: impl Fn(&DevicePlan) -> &MemoryEstimate,
    ) -> fmt::Result {
        let write_row: RowWriter = &|f, label, cell| {
            write!(f, "  {label:LABEL_WIDTH$}")?;
            for device in &self.devices {
                write!(f, "{:>COLUMN_WIDTH$}", cell(device))?;
            }
            writeln!(f)
        };
        write_row(f, "", &|device| device.device.clone())?;
        let names = estimate(&self.devices[0]).plan.components();
        for (index, (name, _)) in names.into_iter().enumerate() {
            let bytes = |device: &DevicePlan| estimate(device).plan.components()[index].1;
            if self.devices.iter().any(|device| bytes(device) > 0) {
                write_row(f, name, &|device| HumanBytes(bytes(device)).to_string())?;
            }
        }
        write_row(f, "total", &|device| HumanBytes(estimate(device).total).to_string())?;
        let known = |bytes: u64| HumanBytes(bytes).to_string();
        write_row(f, "available", &|device| device.memory.map_or("unknown".into(), known))?;
        self.write_changes(f, write_row, &estimate)
    }

    /// Writes the suggested changes of devices whose memory is exceeded.
    fn write_changes(
        &self,
        f: &mut fmt::Formatter<'_>,
        write_row: RowWriter,
        estimate: &dyn Fn(&DevicePlan) -> &MemoryEstimate,
    ) -> fmt::Result {
        let exceeds_memory = |device: &DevicePlan| estimate(device).fits == Some(false);
        let names = self.devices.iter().filter(|device| exceeds_memory(device));
        let names = names.map(|device| device.device.as_str()).collect::<Vec<_>>();
        if names.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n  does not fit on {}; total with one of these changes:", names.join(", "))?;
        let all = self.devices.iter().flat_map(|device| &estimate(device).changes);
        let mut changes: Vec<&SuggestedChange> = Vec::new();
        for change in all {
            if changes.iter().all(|known| known.option != change.option) {
                changes.push(change);
            }
        }
        for change in &changes {
            write_row(f, &change.option.text, &|device| {
                let changes = &estimate(device).changes;
                let own = changes.iter().find(|own| own.option == change.option);
                match own.filter(|_| exceeds_memory(device)) {
                    Some(own) if own.fits => HumanBytes(own.total).to_string(),
                    Some(own) => format!("({})", HumanBytes(own.total)),
                    None => "-".into(),
                }
            })?;
        }
        if changes.iter().any(|change| !change.fits) {
            writeln!(f, "  (in parentheses: still does not fit)")?;
        }
        Ok(())
    }
}
