//! Batches of the next steps, built on a background thread while the device computes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::batch::Batch;
use super::example::Example;
use super::example_sampler::ExampleSampler;

/// Steps that are built ahead of the current one.
const PREFETCH_STEPS: usize = 2;

/// The batches of one step after another, without end. Dropping it ends its thread.
pub(crate) struct BatchPrefetcher {
    receiver: Receiver<Vec<Batch>>,
}

impl BatchPrefetcher {
    /// Starts at `step`; `groups` as in [`ExampleSampler::steps_from`].
    pub fn new(
        examples: Arc<[Example]>,
        sampler: ExampleSampler,
        step: usize,
        groups: Arc<[usize]>,
    ) -> Self {
        let (sender, receiver) = sync_channel(PREFETCH_STEPS);
        thread::spawn(move || {
            for indices in sampler.steps_from(step, &groups) {
                let batch = |rows: &Vec<usize>| {
                    Batch::new(&rows.iter().map(|&row| &examples[row]).collect::<Vec<_>>())
                        .with_example_indices(rows)
                };
                if sender.send(indices.iter().map(batch).collect()).is_err() {
                    // The receiver was dropped.
                    return;
                }
            }
        });
        Self { receiver }
    }

    /// The batches of the next step; waits until they are built.
    pub fn next_step(&mut self) -> Vec<Batch> {
        self.receiver.recv().expect("the thread runs as long as the receiver exists")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_in_order_from_any_start() {
        let examples = (0..7_u32).map(|id| Example::with_labels_from(vec![id, id + 1], 1));
        let examples: Arc<[Example]> = examples.collect();
        let sampler = ExampleSampler {
            n_examples: 7,
            batch_size: 2,
            gradient_accumulation_steps: 2,
            seed: 1,
            shuffle: true,
        };
        for start in [0, 3] {
            let mut prefetcher =
                BatchPrefetcher::new(Arc::clone(&examples), sampler, start, Arc::default());
            for step in start..start + 5 {
                let expected = sampler.step_batches(step);
                let batches = prefetcher.next_step();
                assert_eq!(batches.len(), expected.len());
                for (batch, expected) in batches.iter().zip(expected) {
                    let expected = expected.iter().map(|&row| &examples[row]).collect::<Vec<_>>();
                    assert_eq!(*batch, Batch::new(&expected));
                }
            }
        }
    }
}
