//! a plan that does not fit ─► what to change, each change planned again

use adaption_prompt::{AdaptedLayers, AdapterConfig, PartKind};
use llama::Precision;

use super::{MemoryPlan, Workload, WorkloadKind};
use crate::learner::FineTuningMethod;

/// A change to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingChange {
    /// Compute the layers twice and keep one layer's intermediate results at a time.
    ActivationCheckpointing,
    /// Rows of a batch.
    BatchSize(usize),
    /// Tokens of a row.
    SeqLen(usize),
    /// Adapted layers, counted from the last.
    AdaptedLayers(usize),
    /// What the base's matrices are kept in.
    Precision(Precision),
}

/// One change to a request, and what it brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySaving {
    /// What to change.
    pub change: SettingChange,
    /// Bytes that it would take then.
    pub total: u64,
    /// Bytes that it saves.
    pub bytes_saved: u64,
    /// Whether that is enough by itself; always so where the room is not known.
    pub fits: bool,
}

/// Single changes that save memory: those that are enough first, the mildest before others. A size is
/// the largest that fits in `room` bytes; without a room, or where none fits, half of it.
pub fn memory_savings(request: &Workload, room: Option<u64>) -> Vec<MemorySaving> {
    let Ok(now) = MemoryPlan::new(request).map(|plan| plan.total()) else { return Vec::new() };
    let total = |request: &Workload| MemoryPlan::new(request).ok().map(|plan| plan.total());
    let fits = |total: u64| room.is_none_or(|room| total <= room);
    let mut found = Vec::new();
    let mut offer = |change: SettingChange, changed: &Workload| {
        if let Some(total) = total(changed).filter(|total| *total < now) {
            found.push(MemorySaving { change, total, bytes_saved: now - total, fits: fits(total) });
        }
    };

    if let WorkloadKind::Train { labels, activation_checkpointing: false } = request.kind {
        let purpose = WorkloadKind::Train { labels, activation_checkpointing: true };
        offer(
            SettingChange::ActivationCheckpointing,
            &Workload { kind: purpose, ..request.clone() },
        );
    }
    let size = |now: usize, with: &dyn Fn(usize) -> Workload| {
        let enough = |size: usize| room.is_some() && total(&with(size)).is_some_and(fits);
        (now > 1).then(|| largest(now - 1, &enough).unwrap_or(now / 2))
    };
    let batch = |batch| Workload { batch_size: batch, ..request.clone() };
    if let Some(own) = size(request.batch_size, &batch) {
        offer(SettingChange::BatchSize(own), &batch(own));
    }
    let seq =
        |seq| Workload { seq_len: seq, kind: shortened(request.kind, seq), ..request.clone() };
    if let Some(own) = size(request.seq_len, &seq) {
        offer(SettingChange::SeqLen(own), &seq(own));
    }
    if let FineTuningMethod::Adapter(adapter) = &request.method
        && let (WorkloadKind::Train { .. }, [PartKind::Prompts], Some(prompts)) =
            (request.kind, &adapter.kinds()[..], &adapter.prompts)
    {
        let layers = |count| {
            let prompts = adaption_prompt::AdaptionPromptConfig {
                layers: AdaptedLayers::Last(count),
                ..prompts.clone()
            };
            Workload { method: AdapterConfig::from(prompts).into(), ..request.clone() }
        };
        if let Some(own) = size(prompts.layers.count(), &layers) {
            offer(SettingChange::AdaptedLayers(own), &layers(own));
        }
    }
    let quantised = [Precision::Bits8, Precision::Bits4];
    for precision in request.device.half.into_iter().chain(quantised) {
        offer(SettingChange::Precision(precision), &Workload { precision, ..request.clone() });
    }
    found.sort_by_key(|saving| !saving.fits);
    found
}

/// The same purpose with rows of another length.
fn shortened(purpose: WorkloadKind, seq: usize) -> WorkloadKind {
    match purpose {
        WorkloadKind::Train { labels, activation_checkpointing: recompute } => {
            WorkloadKind::Train {
                labels: labels.min(seq.saturating_sub(1)),
                activation_checkpointing: recompute,
            }
        }
        WorkloadKind::Generate { .. } => purpose,
    }
}

/// The largest number from 1 to `most` for which `enough` holds; it holds for all below it too.
fn largest(most: usize, enough: &dyn Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if enough(middle) { low = middle } else { high = middle - 1 }
    }
    (low > 0).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_is_enough_is_found() {
        for limit in 0..9 {
            assert_eq!(largest(7, &|size| size <= limit), (limit > 0).then_some(limit.min(7)));
        }
    }
}
