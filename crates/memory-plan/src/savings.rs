//! A plan that does not fit ─► single changes of the workload, each with its own plan.

use adaption_prompt::{AdaptedLayers, AdapterConfig, PartKind};
use llama::Precision;

use crate::{MemoryPlan, Workload, WorkloadKind};
use train::FineTuningMethod;

/// A change of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingChange {
    /// Use activation checkpointing.
    ActivationCheckpointing,
    /// A smaller batch, in sequences.
    BatchSize(usize),
    /// A shorter sequence, in tokens.
    SeqLen(usize),
    /// Fewer adapted layers, counted from the last.
    AdaptedLayers(usize),
    /// A lower precision of the base's matrices.
    Precision(Precision),
}

/// A change of a workload and its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySaving {
    /// The change.
    pub change: SettingChange,
    /// Bytes in use after the change.
    pub total: u64,
    /// Saved bytes.
    pub bytes_saved: u64,
    /// Whether the change alone makes the workload fit; always true if the available memory is unknown.
    pub fits: bool,
}

/// Single changes that save memory: sufficient ones first, milder ones before others.
///
/// A size becomes the largest one that fits into `available` bytes, or half of it if `available` is
/// unknown or no size fits.
pub fn memory_savings(workload: &Workload, available: Option<u64>) -> Vec<MemorySaving> {
    let Ok(current) = MemoryPlan::new(workload).map(|plan| plan.total()) else { return Vec::new() };
    let total = |workload: &Workload| MemoryPlan::new(workload).ok().map(|plan| plan.total());
    let fits = |total: u64| available.is_none_or(|available| total <= available);
    let mut savings = Vec::new();
    let mut propose = |change: SettingChange, changed: &Workload| {
        if let Some(total) = total(changed).filter(|total| *total < current) {
            savings.push(MemorySaving {
                change,
                total,
                bytes_saved: current - total,
                fits: fits(total),
            });
        }
    };

    if let WorkloadKind::Train { labels, activation_checkpointing: false } = workload.kind {
        let kind = WorkloadKind::Train { labels, activation_checkpointing: true };
        propose(SettingChange::ActivationCheckpointing, &Workload { kind, ..workload.clone() });
    }
    let smaller = |current: usize, with: &dyn Fn(usize) -> Workload| {
        let fits_in = |size: usize| available.is_some() && total(&with(size)).is_some_and(fits);
        (current > 1).then(|| largest_that_fits(current - 1, &fits_in).unwrap_or(current / 2))
    };
    let batch = |batch| Workload { batch_size: batch, ..workload.clone() };
    if let Some(size) = smaller(workload.batch_size, &batch) {
        propose(SettingChange::BatchSize(size), &batch(size));
    }
    let seq =
        |seq| Workload { seq_len: seq, kind: with_seq_len(workload.kind, seq), ..workload.clone() };
    if let Some(size) = smaller(workload.seq_len, &seq) {
        propose(SettingChange::SeqLen(size), &seq(size));
    }
    if let FineTuningMethod::Adapter(adapter) = &workload.method
        && let (WorkloadKind::Train { .. }, [PartKind::Prompts], Some(prompts)) =
            (workload.kind, &adapter.kinds()[..], &adapter.prompts)
    {
        let layers = |count| {
            let prompts = adaption_prompt::AdaptionPromptConfig {
                layers: AdaptedLayers::Last(count),
                ..prompts.clone()
            };
            Workload { method: AdapterConfig::from(prompts).into(), ..workload.clone() }
        };
        if let Some(size) = smaller(prompts.layers.count(), &layers) {
            propose(SettingChange::AdaptedLayers(size), &layers(size));
        }
    }
    let quantized = [Precision::Bits8, Precision::Bits4];
    for precision in workload.device.half.into_iter().chain(quantized) {
        propose(SettingChange::Precision(precision), &Workload { precision, ..workload.clone() });
    }
    savings.sort_by_key(|saving| !saving.fits);
    savings
}

/// The same kind with another sequence length.
fn with_seq_len(kind: WorkloadKind, seq: usize) -> WorkloadKind {
    match kind {
        WorkloadKind::Train { labels, activation_checkpointing } => {
            let labels = labels.min(seq.saturating_sub(1));
            WorkloadKind::Train { labels, activation_checkpointing }
        }
        WorkloadKind::Generate { .. } => kind,
    }
}

/// The largest size from 1 to `max` for which `fits` is true; it must be true for all smaller sizes.
fn largest_that_fits(max: usize, fits: &dyn Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (0, max);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    (low > 0).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_size_that_fits_is_found() {
        for limit in 0..9 {
            assert_eq!(
                largest_that_fits(7, &|size| size <= limit),
                (limit > 0).then_some(limit.min(7))
            );
        }
    }
}
