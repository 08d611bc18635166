//! Which examples each step takes: a pure function of the seed and the step.

use std::collections::HashMap;
use std::sync::Arc;

use ::data::Mixture;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::token_batches::TokenBatches;

/// The examples of each step of a training run.
#[derive(Debug, Clone, PartialEq)]
pub struct ExampleSampler {
    /// How an epoch is divided into batches.
    pub batching: Batching,
    /// Batches of a step.
    pub gradient_accumulation_steps: usize,
    /// Random seed of the shuffling.
    pub seed: u64,
    /// Whether each epoch is shuffled. Otherwise every epoch keeps the order of the examples, or
    /// begins with the longest if batches are of similar length.
    pub shuffle: bool,
    /// The shares of several sources in each epoch; `None`: each epoch takes every example once.
    pub mixture: Option<Arc<Mixture>>,
}

/// How an epoch is divided into batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batching {
    /// By number of examples.
    Examples {
        /// Examples of an epoch.
        n_examples: usize,
        /// Examples of a batch.
        batch_size: usize,
    },
    /// By number of tokens.
    Tokens(TokenBatches),
}

impl Batching {
    /// Examples of an epoch.
    pub fn n_examples(&self) -> usize {
        match self {
            Self::Examples { n_examples, .. } => *n_examples,
            Self::Tokens(batches) => batches.n_examples(),
        }
    }

    /// Batches of an epoch; the last one may be smaller than the others.
    pub fn n_batches(&self) -> usize {
        match self {
            Self::Examples { n_examples, batch_size } => n_examples.div_ceil(*batch_size),
            Self::Tokens(batches) => batches.n_batches(),
        }
    }
}

impl ExampleSampler {
    /// Steps of an epoch; the last one may be smaller than the others.
    pub fn steps_per_epoch(&self) -> usize {
        self.batching.n_batches().div_ceil(self.gradient_accumulation_steps)
    }

    /// Indices of the examples of one step, batch by batch. Each epoch takes every example once, in
    /// a new order if `shuffle` is set.
    pub fn step_batches(&self, step: usize) -> Vec<Vec<usize>> {
        self.clone().steps_from(step, &[]).next().expect("there is always another epoch")
    }

    /// Indices of the examples of each step of an epoch, batch by batch: a function of the seed, the
    /// number of the epoch and the lengths of the examples.
    ///
    /// `groups` has one number per example: examples with the same number are consecutive, at the
    /// position of the first of them. An empty slice makes no groups. Batches of similar length ignore
    /// it.
    pub fn epoch_steps(&self, epoch: usize, groups: &[usize]) -> Vec<Vec<Vec<usize>>> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        // One stream per epoch, so that no epoch depends on the ones before.
        rng.set_stream(epoch as u64 + 1);
        let _ = rng.next_u32();
        let mut order = (0..self.batching.n_examples()).collect::<Vec<_>>();
        if let Some(mixture) = &self.mixture {
            order = mixture.epoch_order(self.seed, epoch, self.shuffle);
        } else if self.shuffle {
            order.shuffle(&mut rng);
        }
        let batches = match &self.batching {
            Batching::Examples { batch_size, .. } => {
                let order = group_together(order, groups);
                order.chunks(*batch_size).map(<[usize]>::to_vec).collect()
            }
            Batching::Tokens(batches) => {
                let mut batches = batches.divide(order);
                if self.shuffle {
                    batches.shuffle(&mut rng);
                }
                batches
            }
        };
        batches.chunks(self.gradient_accumulation_steps).map(<[Vec<usize>]>::to_vec).collect()
    }

    /// The batches of `step` and of all steps after it, without end. Plans one epoch at a time;
    /// `groups` as in [`epoch_steps`](Self::epoch_steps).
    pub(crate) fn steps_from(
        self,
        step: usize,
        groups: &[usize],
    ) -> impl Iterator<Item = Vec<Vec<usize>>> {
        let steps = self.steps_per_epoch();
        let (first, within) = (step / steps, step % steps);
        (first..).flat_map(move |epoch| self.epoch_steps(epoch, groups)).skip(within)
    }
}

/// Moves the examples of each group to the position of the first of them.
fn group_together(mut order: Vec<usize>, groups: &[usize]) -> Vec<usize> {
    if groups.is_empty() {
        return order;
    }
    let mut first = HashMap::new();
    for (index, &example) in order.iter().enumerate() {
        first.entry(groups[example]).or_insert(index);
    }
    order.sort_by_key(|&example| first[&groups[example]]);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(n_examples: usize, batch_size: usize) -> ExampleSampler {
        ExampleSampler {
            batching: Batching::Examples { n_examples, batch_size },
            gradient_accumulation_steps: 1,
            seed: 3,
            shuffle: true,
            mixture: None,
        }
    }

    /// Forty examples of 5 to 24 tokens in batches of at most 60.
    fn token_sampler() -> ExampleSampler {
        let lengths = (0..40).map(|example| 5 + example * 7 % 20);
        let batching = Batching::Tokens(TokenBatches::new(lengths, 60));
        ExampleSampler { batching, gradient_accumulation_steps: 2, ..sampler(0, 1) }
    }

    #[test]
    fn examples_of_a_group_are_consecutive() {
        assert_eq!(group_together(vec![4, 0, 3, 1, 2], &[7, 5, 7, 5, 6]), [4, 0, 2, 3, 1]);
        let sampler = ExampleSampler { seed: 5, ..sampler(6, 2) };
        let groups = [0, 1, 2, 0, 1, 2];
        let steps = sampler.steps_from(0, &groups).take(6).collect::<Vec<_>>();
        let step_groups =
            |step: &Vec<Vec<usize>>| step[0].iter().map(|&row| groups[row]).collect::<Vec<_>>();
        assert!(steps.iter().map(step_groups).all(|groups| groups[0] == groups[1]));
        // The second epoch has its own order.
        assert_ne!(steps[..3], steps[3..]);
    }

    #[test]
    fn without_shuffling_every_epoch_keeps_the_dataset_order() {
        let sampler = ExampleSampler { shuffle: false, ..sampler(4, 3) };
        let steps = (0..4).map(|step| sampler.step_batches(step).concat()).collect::<Vec<_>>();
        assert_eq!(steps, [vec![0, 1, 2], vec![3], vec![0, 1, 2], vec![3]]);
    }

    #[test]
    fn a_step_may_exceed_the_dataset() {
        let sampler =
            ExampleSampler { gradient_accumulation_steps: 2, ..sampler(3, usize::MAX / 2 + 1) };
        assert_eq!(sampler.steps_per_epoch(), 1);
        assert_eq!(sampler.step_batches(1).concat().len(), 3);
    }

    #[test]
    fn an_epoch_visits_every_example_once_and_the_next_reshuffles() {
        let sampler = ExampleSampler { gradient_accumulation_steps: 2, ..sampler(10, 2) };
        assert_eq!(sampler.steps_per_epoch(), 3);
        let epoch = |number: usize| {
            (0..3)
                .flat_map(|step| sampler.step_batches(number * 3 + step))
                .flatten()
                .collect::<Vec<_>>()
        };
        let (first, second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        assert_eq!(first, epoch(0));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        assert_eq!(sampler.step_batches(2), [first[8..10].to_vec()]);
    }

    #[test]
    fn an_epoch_of_token_batches_visits_every_example_once_and_the_next_forms_other_batches() {
        let sampler = token_sampler();
        let (first, second) = (sampler.epoch_steps(0, &[]), sampler.epoch_steps(1, &[]));
        let visited = |epoch: &[Vec<Vec<usize>>]| {
            let mut examples = epoch.concat().concat();
            examples.sort_unstable();
            examples
        };
        for epoch in [&first, &second] {
            assert_eq!(visited(epoch), (0..40).collect::<Vec<_>>());
            assert_eq!(epoch.len(), sampler.steps_per_epoch());
        }
        let batches = |epoch: &[Vec<Vec<usize>>]| {
            let mut batches = epoch.concat();
            for batch in &mut batches {
                batch.sort_unstable();
            }
            batches.sort();
            batches
        };
        assert_ne!(batches(&first), batches(&second), "the same examples are together");
    }

    #[test]
    fn a_step_in_the_middle_of_an_epoch_of_token_batches_does_not_depend_on_the_start() {
        let sampler = token_sampler();
        let per_epoch = sampler.steps_per_epoch();
        let all = sampler.clone().steps_from(0, &[]).take(3 * per_epoch).collect::<Vec<_>>();
        for start in [1, per_epoch - 1, per_epoch + 2] {
            let mut resumed = sampler.clone().steps_from(start, &[]);
            assert_eq!(resumed.next().as_ref(), Some(&all[start]), "step {start}");
            assert_eq!(sampler.step_batches(start), all[start]);
        }
        let other_seed = ExampleSampler { seed: 4, ..sampler };
        assert_ne!(other_seed.epoch_steps(0, &[]), all[..per_epoch]);
    }

    #[test]
    fn without_shuffling_an_epoch_of_token_batches_begins_with_the_longest() {
        let lengths = [3, 9, 4, 8];
        let batching = Batching::Tokens(TokenBatches::new(lengths, 10));
        let sampler = ExampleSampler { batching, shuffle: false, ..sampler(0, 1) };
        let steps = sampler.epoch_steps(1, &[]).concat();
        assert_eq!(steps, [vec![1], vec![3], vec![2, 0]]);
    }
}
