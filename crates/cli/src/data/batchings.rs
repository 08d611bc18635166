//! Examples ─► what each way to batch them wastes or shares.

use data::statistics::BatchCost;
use serde::Serialize;
use train::Example;
use train::data::{Batching, ExampleSampler};

/// A way to batch rows, and its cost in an epoch.
#[derive(Debug, Serialize)]
pub struct BatchingCost {
    /// As the options of `train` say it.
    pub batching: String,
    #[serde(flatten)]
    pub cost: BatchCost,
    /// Fraction of the slots that is padding, on devices that pad.
    pub padding_fraction: f64,
    /// Fraction of the tokens in shared prefixes, on devices that pack.
    pub shared_fraction: f64,
}

impl BatchingCost {
    /// The costs of single rows, and of batches of `batch_size` rows in the order of training.
    pub fn of_all(examples: &[Example], batch_size: usize, seed: u64) -> Vec<Self> {
        let mut sizes = vec![1, batch_size];
        sizes.dedup();
        sizes.into_iter().map(|size| Self::of_size(examples, size, seed)).collect()
    }

    fn of_size(examples: &[Example], batch_size: usize, seed: u64) -> Self {
        let sampler = ExampleSampler {
            batching: Batching::Examples { n_examples: examples.len(), batch_size },
            gradient_accumulation_steps: 1,
            seed,
            shuffle: true,
        };
        let mut cost = BatchCost::default();
        // Step by step, so that only one batch is collected at a time.
        for batch in (0..sampler.steps_per_epoch()).flat_map(|step| sampler.step_batches(step)) {
            cost.add(batch.iter().map(|&index| examples[index].tokens.as_slice()).collect());
        }
        Self {
            batching: format!("--batch-size {batch_size}"),
            cost,
            padding_fraction: cost.padding_fraction(),
            shared_fraction: cost.shared_fraction(),
        }
    }
}
