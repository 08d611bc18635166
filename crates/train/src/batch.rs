//! Examples ─► batches; the order is a pure function of the seed and the step.

use std::collections::HashMap;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use llama::Llama;
use llama::model::PrefixSharing;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::example::Example;

/// Texts of one pass through the model, of any lengths: [`Llama::pack`] decides where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Token ids of each row.
    pub texts: Vec<Vec<u32>>,
    /// The picture that each row sees, if any.
    pub images: Vec<Option<Arc<str>>>,
    /// Labels: their text and their position in it.
    labels: Vec<(usize, usize)>,
}

impl Batch {
    /// The rows of some examples.
    ///
    /// # Panics
    /// If there are no examples.
    pub fn new(examples: &[&Example]) -> Self {
        assert!(!examples.is_empty(), "no examples");
        let labels = examples.iter().enumerate().flat_map(|(row, example)| {
            let positions = example.labels_from.max(1)..example.tokens.len();
            positions.map(move |position| (row, position))
        });
        Self {
            texts: examples.iter().map(|example| example.tokens.clone()).collect(),
            images: examples.iter().map(|example| example.image.clone()).collect(),
            labels: labels.collect(),
        }
    }

    /// The text of each label, in the order of the labels.
    pub(crate) fn label_rows(&self) -> impl Iterator<Item = usize> {
        self.labels.iter().map(|(text, _position)| *text)
    }

    /// What the rows call their pictures.
    pub fn image_names(&self) -> Vec<Option<&str>> {
        self.images.iter().map(|image| image.as_deref()).collect()
    }

    /// Which rows can be worked on together: those that see the same picture.
    pub(crate) fn sharing(&self) -> PrefixSharing {
        let first = |image| self.images.iter().position(|other| other == image).unwrap_or(0);
        let groups = self.images.iter().map(first).collect::<Vec<_>>();
        if groups.iter().all(|&group| group == 0) {
            PrefixSharing::All
        } else {
            PrefixSharing::Groups(groups)
        }
    }

    /// Labels in the batch.
    pub fn n_labels(&self) -> usize {
        self.labels.len()
    }

    /// Tokens that a model works on: without those that texts share, or with padding, as
    /// [`Llama::pack`] has them.
    pub fn n_processed_tokens(&self, llama: &Llama) -> usize {
        llama.packed_rows(&self.inputs(), &self.sharing())
    }

    /// What a model reads: the texts without their last tokens, behind which nothing is predicted.
    pub fn inputs(&self) -> Vec<&[u32]> {
        self.texts.iter().map(|text| &text[..text.len().saturating_sub(1).max(1)]).collect()
    }

    /// Where each label is predicted, one position before its own, by the rows of each text's tokens;
    /// and the labels themselves. `[labels]` each.
    pub(crate) fn labels(
        &self,
        rows: &[Vec<usize>],
        device: &Device,
    ) -> (Tensor<1, Int>, Tensor<1, Int>) {
        let tensor = |values: Vec<i64>| {
            let len = values.len();
            Tensor::from_data(TensorData::new(values, [len]), device)
        };
        let labels = self.labels.iter();
        let place = |&(text, position): &(usize, usize)| rows[text][position - 1] as i64;
        let label = |&(text, position): &(usize, usize)| i64::from(self.texts[text][position]);
        (tensor(labels.clone().map(place).collect()), tensor(labels.map(label).collect()))
    }
}

/// Which examples each step takes, for a whole training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExampleSampler {
    /// Examples of an epoch.
    pub n_examples: usize,
    /// Examples of a batch.
    pub batch_size: usize,
    /// Batches of a step.
    pub gradient_accumulation_steps: usize,
    /// Seed of the shuffling.
    pub seed: u64,
    /// Whether each epoch has an order of its own; without it all have that of the examples.
    pub shuffle: bool,
}

impl ExampleSampler {
    /// Steps of an epoch; the last may be smaller than the others.
    pub fn steps_per_epoch(&self) -> usize {
        self.n_examples.div_ceil(self.batch_size.saturating_mul(self.gradient_accumulation_steps))
    }

    /// Indices of the examples of one step, batch by batch. Each epoch shuffles anew, and takes
    /// every example once.
    pub fn step_batches(&self, step: usize) -> Vec<Vec<usize>> {
        self.steps_from(step, &[]).next().expect("there is always another epoch")
    }

    /// The same for one step after the other, without end; an epoch is shuffled once. `groups` has a
    /// number for each example: those with the same come one behind the other, where the first of
    /// them would. Without numbers every example is for itself.
    pub(crate) fn steps_from(
        self,
        step: usize,
        groups: &[usize],
    ) -> impl Iterator<Item = Vec<Vec<usize>>> {
        let steps = self.steps_per_epoch();
        let size = self.batch_size.saturating_mul(self.gradient_accumulation_steps);
        let (first, within) = (step / steps, step % steps);
        let epochs = (first..).flat_map(move |epoch| {
            let order = together(self.epoch(epoch), groups);
            (0..steps).map(move |step| {
                let start = step.saturating_mul(size).min(order.len());
                let taken = &order[start..order.len().min(start.saturating_add(size))];
                taken.chunks(self.batch_size).map(<[usize]>::to_vec).collect()
            })
        });
        epochs.skip(within)
    }

    /// All examples in the order of an epoch.
    fn epoch(&self, epoch: usize) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        // A stream of its own for each epoch: no epoch needs the ones before.
        rng.set_stream(epoch as u64 + 1);
        let _ = rng.next_u32();
        let mut order = (0..self.n_examples).collect::<Vec<_>>();
        if self.shuffle {
            order.shuffle(&mut rng);
        }
        order
    }
}

/// Moves examples of the same group to the first of them.
fn together(mut order: Vec<usize>, groups: &[usize]) -> Vec<usize> {
    if groups.is_empty() {
        return order;
    }
    let mut first = HashMap::new();
    for (place, &example) in order.iter().enumerate() {
        first.entry(groups[example]).or_insert(place);
    }
    order.sort_by_key(|&example| first[&groups[example]]);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_a_group_come_one_behind_the_other() {
        assert_eq!(together(vec![4, 0, 3, 1, 2], &[7, 5, 7, 5, 6]), [4, 0, 2, 3, 1]);
        let order = ExampleSampler {
            n_examples: 6,
            batch_size: 2,
            gradient_accumulation_steps: 1,
            seed: 5,
            shuffle: true,
        };
        let groups = [0, 1, 2, 0, 1, 2];
        let steps = order.steps_from(0, &groups).take(6).collect::<Vec<_>>();
        let from_step =
            |step: &Vec<Vec<usize>>| step[0].iter().map(|&row| groups[row]).collect::<Vec<_>>();
        assert!(steps.iter().map(from_step).all(|groups| groups[0] == groups[1]));
        // The second epoch has an order of its own.
        assert_ne!(steps[..3], steps[3..]);
    }

    fn example(tokens: &[u32], labels_from: usize) -> Example {
        Example { tokens: tokens.to_vec(), labels_from, image: None }
    }

    #[test]
    fn labels_are_predicted_from_the_position_before() {
        let batch = Batch::new(&[&example(&[5, 6, 7], 1), &example(&[8, 9], 1)]);
        let (places, labels) = batch.labels(&[vec![0, 1], vec![2]], &testing::flex());
        assert_eq!(batch.inputs(), [&[5, 6][..], &[8]]);
        assert_eq!(testing::int_values(places), [0, 1, 2]);
        assert_eq!(testing::int_values(labels), [6, 7, 9]);
        assert_eq!(batch.n_labels(), 3);
    }

    #[test]
    fn without_shuffling_every_epoch_has_the_order_of_the_examples() {
        let order = ExampleSampler {
            n_examples: 4,
            batch_size: 3,
            gradient_accumulation_steps: 1,
            seed: 3,
            shuffle: false,
        };
        let steps = (0..4).map(|step| order.step_batches(step).concat()).collect::<Vec<_>>();
        assert_eq!(steps, [vec![0, 1, 2], vec![3], vec![0, 1, 2], vec![3]]);
    }

    #[test]
    fn a_step_may_be_larger_than_all_there_is() {
        let order = ExampleSampler {
            n_examples: 3,
            batch_size: usize::MAX / 2 + 1,
            gradient_accumulation_steps: 2,
            seed: 0,
            shuffle: true,
        };
        assert_eq!(order.steps_per_epoch(), 1);
        assert_eq!(order.step_batches(1).concat().len(), 3);
    }

    #[test]
    fn an_epoch_takes_every_example_once_and_the_next_shuffles_anew() {
        let order = ExampleSampler {
            n_examples: 10,
            batch_size: 2,
            gradient_accumulation_steps: 2,
            seed: 3,
            shuffle: true,
        };
        assert_eq!(order.steps_per_epoch(), 3);
        let epoch = |number: usize| {
            (0..3)
                .flat_map(|step| order.step_batches(number * 3 + step))
                .flatten()
                .collect::<Vec<_>>()
        };
        let (first, second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        assert_eq!(first, epoch(0));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        assert_eq!(order.step_batches(2), [first[8..10].to_vec()]);
    }
}
