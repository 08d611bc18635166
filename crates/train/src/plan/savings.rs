//! a plan that does not fit ─► what to change, each change planned again

use adaption_prompt::{AdapterConfig, Layers};
use llama::Precision;

use super::{MemoryPlan, Purpose, Request};
use crate::learner::Method;

/// A change to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Compute the layers twice and keep one layer's intermediate results at a time.
    Recompute,
    /// Rows of a batch.
    Batch(usize),
    /// Tokens of a row.
    Seq(usize),
    /// Adapted layers, counted from the last.
    AdaptedLayers(usize),
    /// What the base's matrices are kept in.
    Precision(Precision),
}

/// One change to a request, and what it brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saving {
    /// What to change.
    pub change: Change,
    /// Bytes that it would take then.
    pub total: u64,
    /// Bytes that it saves.
    pub saves: u64,
    /// Whether that is enough by itself; always so where the room is not known.
    pub fits: bool,
}

/// Single changes that save memory: those that are enough first, the mildest before others. A size is
/// the largest that fits in `room` bytes; without a room, or where none fits, half of it.
pub fn savings(request: &Request, room: Option<u64>) -> Vec<Saving> {
    let Ok(now) = MemoryPlan::new(request).map(|plan| plan.total()) else { return Vec::new() };
    let total = |request: &Request| MemoryPlan::new(request).ok().map(|plan| plan.total());
    let fits = |total: u64| room.is_none_or(|room| total <= room);
    let mut found = Vec::new();
    let mut offer = |change: Change, changed: &Request| {
        if let Some(total) = total(changed).filter(|total| *total < now) {
            found.push(Saving { change, total, saves: now - total, fits: fits(total) });
        }
    };

    if let Purpose::Train { labels, recompute: false } = request.purpose {
        let purpose = Purpose::Train { labels, recompute: true };
        offer(Change::Recompute, &Request { purpose, ..request.clone() });
    }
    let size = |now: usize, with: &dyn Fn(usize) -> Request| {
        let enough = |size: usize| room.is_some() && total(&with(size)).is_some_and(fits);
        (now > 1).then(|| largest(now - 1, &enough).unwrap_or(now / 2))
    };
    let batch = |batch| Request { batch, ..request.clone() };
    if let Some(own) = size(request.batch, &batch) {
        offer(Change::Batch(own), &batch(own));
    }
    let seq = |seq| Request { seq, purpose: shortened(request.purpose, seq), ..request.clone() };
    if let Some(own) = size(request.seq, &seq) {
        offer(Change::Seq(own), &seq(own));
    }
    if let Method::Adapter(adapter) = &request.method
        && let (Purpose::Train { .. }, Some(prompts), None, None) =
            (request.purpose, &adapter.prompts, &adapter.v2, &adapter.lora)
    {
        let layers = |count| {
            let prompts = adaption_prompt::AdaptionPromptConfig {
                layers: Layers::Last(count),
                ..prompts.clone()
            };
            Request { method: AdapterConfig::from(prompts).into(), ..request.clone() }
        };
        if let Some(own) = size(prompts.layers.count(), &layers) {
            offer(Change::AdaptedLayers(own), &layers(own));
        }
    }
    let quantised = [Precision::Bits8, Precision::Bits4];
    for precision in request.device.half.into_iter().chain(quantised) {
        offer(Change::Precision(precision), &Request { precision, ..request.clone() });
    }
    found.sort_by_key(|saving| !saving.fits);
    found
}

/// The same purpose with rows of another length.
fn shortened(purpose: Purpose, seq: usize) -> Purpose {
    match purpose {
        Purpose::Train { labels, recompute } => {
            Purpose::Train { labels: labels.min(seq.saturating_sub(1)), recompute }
        }
        Purpose::Generate { .. } => purpose,
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
