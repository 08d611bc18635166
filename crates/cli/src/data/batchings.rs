//! Examples ─► what each way to batch them wastes or shares.

use data::statistics::BatchCost;
use serde::Serialize;
use train::Example;
use train::data::{Batching, ExampleSampler, TokenBatches};

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
    /// The costs of single rows, of batches of `batch_size` rows, and of batches of similar rows with at
    /// most `batch_tokens` tokens.
    pub fn of_all(
        examples: &[Example],
        batch_size: usize,
        batch_tokens: usize,
        seed: u64,
    ) -> Vec<Self> {
        let mut sizes = vec![1, batch_size];
        sizes.dedup();
        let by_rows = sizes.into_iter().map(|batch_size| {
            let batching = Batching::Examples { n_examples: examples.len(), batch_size };
            (format!("--batch-size {batch_size}"), batching)
        });
        let lengths = examples.iter().map(|example| example.tokens.len());
        let by_tokens = Batching::Tokens(TokenBatches::new(lengths, batch_tokens));
        let by_tokens = (format!("--batch-tokens {batch_tokens}"), by_tokens);
        let all = by_rows.chain([by_tokens]);
        all.map(|(name, batching)| Self::of(name, examples, batching, seed)).collect()
    }

    /// The cost of the first epoch of a training.
    fn of(name: String, examples: &[Example], batching: Batching, seed: u64) -> Self {
        let sampler = ExampleSampler {
            batching,
            gradient_accumulation_steps: 1,
            seed,
            shuffle: true,
            mixture: None,
        };
        let mut cost = BatchCost::default();
        for batch in sampler.epoch_steps(0, &[]).into_iter().flatten() {
            cost.add(batch.iter().map(|&index| examples[index].tokens.as_slice()).collect());
        }
        Self {
            batching: name,
            cost,
            padding_fraction: cost.padding_fraction(),
            shared_fraction: cost.shared_fraction(),
        }
    }
}
