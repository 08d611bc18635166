//! Batches of the next steps, built on a background thread while the device computes.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::batch::Batch;
use super::dealer::{Dealer, Hand};
use super::embedding_noise::EmbeddingNoise;
use super::example_sampler::ExampleSampler;
use super::example_store::ExampleStore;
use crate::error::Result;

/// Steps that are built ahead of the current one.
const PREFETCH_STEPS: usize = 2;

/// The batches of a rank in one step.
#[derive(Debug)]
pub(crate) struct StepBatches {
    /// None if there are more ranks than rows.
    pub batches: Vec<Batch>,
    /// Tokens of the rank that has most.
    pub most_tokens: usize,
    /// Tokens of all ranks.
    pub all_tokens: usize,
}

/// The batches of one step after another, without end. Dropping it ends its thread.
pub(crate) struct BatchPrefetcher {
    receiver: Receiver<Result<StepBatches>>,
}

impl BatchPrefetcher {
    /// Starts at `step`; `groups` as in [`ExampleSampler::epoch_steps`].
    pub fn new(
        examples: ExampleStore,
        sampler: ExampleSampler,
        step: usize,
        groups: Arc<[usize]>,
        noise: Option<EmbeddingNoise>,
        dealer: Dealer,
    ) -> Self {
        let (sender, receiver) = sync_channel(PREFETCH_STEPS);
        thread::spawn(move || {
            let input_len = |example| examples.n_tokens(example).saturating_sub(1).max(1);
            for (step, batches) in (step..).zip(sampler.steps_from(step, &groups)) {
                let batch = |rows: &Vec<usize>| {
                    let batch = Batch::new(&examples.select(rows)?).with_example_indices(rows);
                    Ok(batch.with_noise(noise.map(|noise| noise.of_batch(step, rows))))
                };
                let Hand { batches, most_tokens, all_tokens } = dealer.deal(batches, input_len);
                let batches = batches.iter().map(batch).collect::<Result<_>>();
                let batches =
                    batches.map(|batches| StepBatches { batches, most_tokens, all_tokens });
                let has_failed = batches.is_err();
                // A failed send: the receiver was dropped.
                if sender.send(batches).is_err() || has_failed {
                    return;
                }
            }
        });
        Self { receiver }
    }

    /// The batches of the next step; waits until they are built. Ends with the first error.
    ///
    /// # Errors
    /// As [`ExampleStore::get`].
    pub fn next_step(&mut self) -> Result<StepBatches> {
        self.receiver.recv().expect("the thread runs until the receiver is dropped or an error")
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::Example;
    use super::super::example_sampler::Batching;
    use super::*;

    #[test]
    fn steps_are_in_order_from_any_start() {
        let examples = (0..7_u32).map(|id| Example::with_labels_from(vec![id, id + 1], 1));
        let examples = examples.collect::<ExampleStore>();
        let sampler = ExampleSampler {
            batching: Batching::Examples { n_examples: 7, batch_size: 2 },
            gradient_accumulation_steps: 2,
            seed: 1,
            shuffle: true,
            mixture: None,
        };
        let noise = EmbeddingNoise { alpha: 5.0, seed: 1 };
        for (start, noise) in [(0, None), (3, None), (2, Some(noise))] {
            let mut prefetcher = BatchPrefetcher::new(
                examples.clone(),
                sampler.clone(),
                start,
                Arc::default(),
                noise,
                Dealer::ALONE,
            );
            for step in start..start + 5 {
                let expected = sampler.step_batches(step);
                let batches = prefetcher.next_step().unwrap().batches;
                assert_eq!(batches.len(), expected.len());
                for (batch, rows) in batches.iter().zip(expected) {
                    let expected = examples.select(&rows).unwrap();
                    let noise = noise.map(|noise| noise.of_batch(step, &rows));
                    assert_eq!(
                        *batch,
                        Batch::new(&expected).with_example_indices(&rows).with_noise(noise)
                    );
                }
            }
        }
    }
}
