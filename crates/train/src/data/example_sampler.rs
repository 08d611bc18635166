//! Which examples each step takes: a pure function of the seed and the step.

use std::collections::HashMap;
use std::sync::Arc;

use ::data::Mixture;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The examples of each step of a training run.
#[derive(Debug, Clone, PartialEq)]
pub struct ExampleSampler {
    /// Examples of an epoch.
    pub n_examples: usize,
    /// Examples of a batch.
    pub batch_size: usize,
    /// Batches of a step.
    pub gradient_accumulation_steps: usize,
    /// Random seed of the shuffling.
    pub seed: u64,
    /// Whether each epoch is shuffled; otherwise every epoch keeps the order of the examples.
    pub shuffle: bool,
    /// The shares of several sources in each epoch; `None`: each epoch takes every example once.
    pub mixture: Option<Arc<Mixture>>,
}

impl ExampleSampler {
    /// Steps of an epoch; the last one may be smaller than the others.
    pub fn steps_per_epoch(&self) -> usize {
        self.n_examples.div_ceil(self.batch_size.saturating_mul(self.gradient_accumulation_steps))
    }

    /// Indices of the examples of one step, batch by batch. Each epoch takes every example once, in
    /// a new order if `shuffle` is set.
    pub fn step_batches(&self, step: usize) -> Vec<Vec<usize>> {
        self.clone().steps_from(step, &[]).next().expect("there is always another epoch")
    }

    /// The batches of `step` and of all steps after it, without end. Shuffles once per epoch.
    ///
    /// `groups` has one number per example: examples with the same number are consecutive, at the
    /// position of the first of them. An empty slice makes no groups.
    pub(crate) fn steps_from(
        self,
        step: usize,
        groups: &[usize],
    ) -> impl Iterator<Item = Vec<Vec<usize>>> {
        let steps = self.steps_per_epoch();
        let size = self.batch_size.saturating_mul(self.gradient_accumulation_steps);
        let (first, within) = (step / steps, step % steps);
        let epochs = (first..).flat_map(move |epoch| {
            let order = group_together(self.epoch_order(epoch), groups);
            (0..steps).map(move |step| {
                let start = step.saturating_mul(size).min(order.len());
                let step_examples = &order[start..order.len().min(start.saturating_add(size))];
                step_examples.chunks(self.batch_size).map(<[usize]>::to_vec).collect()
            })
        });
        epochs.skip(within)
    }

    /// The examples of an epoch in order.
    fn epoch_order(&self, epoch: usize) -> Vec<usize> {
        if let Some(mixture) = &self.mixture {
            return mixture.epoch_order(self.seed, epoch, self.shuffle);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        // One stream per epoch, so that no epoch depends on the ones before.
        rng.set_stream(epoch as u64 + 1);
        let _ = rng.next_u32();
        let mut order = (0..self.n_examples).collect::<Vec<_>>();
        if self.shuffle {
            order.shuffle(&mut rng);
        }
        order
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
            n_examples,
            batch_size,
            gradient_accumulation_steps: 1,
            seed: 3,
            shuffle: true,
            mixture: None,
        }
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
}
