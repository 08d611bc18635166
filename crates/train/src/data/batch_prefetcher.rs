//! examples ─► batches of the coming steps, made by a thread of their own while the device works

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::batch::{Batch, ExampleSampler};
use super::example::Example;

/// Steps that are made ready ahead of the one that is worked on.
const PREFETCH_STEPS: usize = 2;

/// The batches of one step after the other, without end. Dropping it ends its thread.
pub(crate) struct BatchPrefetcher {
    receiver: Receiver<Vec<Batch>>,
}

impl BatchPrefetcher {
    /// Starts with the step of the given number; `groups` as in [`ExampleSampler::steps_from`].
    pub fn new(
        examples: Arc<[Example]>,
        order: ExampleSampler,
        step: usize,
        groups: Arc<[usize]>,
    ) -> Self {
        let (sender, receiver) = sync_channel(PREFETCH_STEPS);
        thread::spawn(move || {
            for indices in order.steps_from(step, &groups) {
                let batch = |rows: &Vec<usize>| {
                    Batch::new(&rows.iter().map(|&row| &examples[row]).collect::<Vec<_>>())
                };
                if sender.send(indices.iter().map(batch).collect()).is_err() {
                    // Nobody reads any more.
                    return;
                }
            }
        });
        Self { receiver }
    }

    /// The next step's batches; waits for them if need be.
    pub fn next_step(&mut self) -> Vec<Batch> {
        self.receiver.recv().expect("the feeding thread goes on as long as somebody reads")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_in_order_from_any_start() {
        let examples =
            (0..7_u32).map(|id| Example { tokens: vec![id, id + 1], labels_from: 1, image: None });
        let examples: Arc<[Example]> = examples.collect();
        let order = ExampleSampler {
            n_examples: 7,
            batch_size: 2,
            gradient_accumulation_steps: 2,
            seed: 1,
            shuffle: true,
        };
        for start in [0, 3] {
            let mut feed =
                BatchPrefetcher::new(Arc::clone(&examples), order, start, Arc::default());
            for step in start..start + 5 {
                let expected = order.step_batches(step);
                let found = feed.next_step();
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    let expected = expected.iter().map(|&row| &examples[row]).collect::<Vec<_>>();
                    assert_eq!(*found, Batch::new(&expected));
                }
            }
        }
    }
}
