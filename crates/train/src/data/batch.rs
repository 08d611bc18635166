//! Examples ─► a batch for one forward pass.

use std::borrow::Borrow;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use llama::Llama;
use llama::model::PrefixSharing;

use super::embedding_noise::BatchNoise;
use super::example::Example;

/// Token sequences of one forward pass, of any lengths; [`Llama::pack`] packs or pads them.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Token ids of each row.
    pub tokens: Vec<Vec<u32>>,
    /// Image name of each row, if the row has an image.
    pub images: Vec<Option<Arc<str>>>,
    /// The index of each row's example in the data, if the rows are those of a training.
    pub(crate) example_indices: Vec<usize>,
    /// Row and position of each label.
    label_positions: Vec<(usize, usize)>,
    /// Noise on the token embeddings, in training.
    pub(crate) noise: Option<BatchNoise>,
}

impl Batch {
    /// A batch with one row per example.
    ///
    /// # Panics
    /// If there are no examples.
    pub fn new<E: Borrow<Example>>(examples: &[E]) -> Self {
        let examples = examples.iter().map(Borrow::borrow).collect::<Vec<&Example>>();
        assert!(!examples.is_empty(), "no examples");
        let label_positions = examples.iter().enumerate().flat_map(|(row, example)| {
            example.label_positions().map(move |position| (row, position))
        });
        Self {
            tokens: examples.iter().map(|example| example.tokens.clone()).collect(),
            images: examples.iter().map(|example| example.image.clone()).collect(),
            label_positions: label_positions.collect(),
            example_indices: Vec::new(),
            noise: None,
        }
    }

    /// Number of labels of each row; labels are in the order of their rows.
    pub(crate) fn label_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.tokens.len()];
        for (row, _position) in &self.label_positions {
            counts[*row] += 1;
        }
        counts
    }

    /// The same batch, with noise on its token embeddings.
    pub(crate) fn with_noise(self, noise: Option<BatchNoise>) -> Self {
        Self { noise, ..self }
    }

    /// The same batch, of the examples with these indices.
    pub(crate) fn with_example_indices(self, indices: &[usize]) -> Self {
        Self { example_indices: indices.to_vec(), ..self }
    }

    /// The image name of each row.
    pub fn image_names(&self) -> Vec<Option<&str>> {
        self.images.iter().map(|image| image.as_deref()).collect()
    }

    /// Which rows may share a common prefix: those with the same image, or none if each has its own
    /// noise.
    pub(crate) fn prefix_sharing(&self) -> PrefixSharing {
        if self.noise.is_some() {
            return PrefixSharing::Groups((0..self.tokens.len()).collect());
        }
        // Rows without an image share prefixes too, unlike in `group_by_image`.
        let first = |image| self.images.iter().position(|other| other == image).unwrap_or(0);
        let groups = self.images.iter().map(first).collect::<Vec<_>>();
        if groups.iter().all(|&group| group == 0) {
            PrefixSharing::All
        } else {
            PrefixSharing::Groups(groups)
        }
    }

    /// Number of labels in the batch.
    pub fn n_labels(&self) -> usize {
        self.label_positions.len()
    }

    /// Number of tokens that the model processes: without shared prefixes where [`Llama::pack`]
    /// packs, with padding where it pads.
    pub fn n_processed_tokens(&self, llama: &Llama) -> usize {
        llama.packed_rows(&self.inputs(), &self.prefix_sharing())
    }

    /// The model's input: each row without its last token, after which nothing is predicted.
    pub fn inputs(&self) -> Vec<&[u32]> {
        self.tokens.iter().map(|row| &row[..row.len().saturating_sub(1).max(1)]).collect()
    }

    /// The row in which each label is predicted, and the labels.
    ///
    /// A label is predicted one position before its own. `token_rows` gives the row of each token of
    /// each sequence.
    ///
    /// # Shapes
    /// - outputs: `[labels]`
    pub(crate) fn label_tensors(
        &self,
        token_rows: &[Vec<usize>],
        device: &Device,
    ) -> (Tensor<1, Int>, Tensor<1, Int>) {
        let tensor = |values: Vec<i64>| {
            let len = values.len();
            Tensor::from_data(TensorData::new(values, [len]), device)
        };
        let labels = self.label_positions.iter();
        let index = |&(row, position): &(usize, usize)| token_rows[row][position - 1] as i64;
        let label = |&(row, position): &(usize, usize)| i64::from(self.tokens[row][position]);
        (tensor(labels.clone().map(index).collect()), tensor(labels.map(label).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_predicted_from_the_position_before() {
        let example = |tokens: &[u32]| Example::with_labels_from(tokens.to_vec(), 1);
        let batch = Batch::new(&[&example(&[5, 6, 7]), &example(&[8, 9])]);
        let (positions, labels) = batch.label_tensors(&[vec![0, 1], vec![2]], &testing::flex());
        assert_eq!(batch.inputs(), [&[5, 6][..], &[8]]);
        assert_eq!(testing::int_values(positions), [0, 1, 2]);
        assert_eq!(testing::int_values(labels), [6, 7, 9]);
        assert_eq!(batch.n_labels(), 3);
    }

    #[test]
    fn tokens_between_the_spans_are_no_labels() {
        let tokens = (10..20).collect();
        let example = Example { tokens, label_spans: vec![2..4, 7..8], image: None };
        let batch = Batch::new(&[&example]);
        let (positions, labels) = batch.label_tensors(&[(0..9).collect()], &testing::flex());
        assert_eq!(testing::int_values(positions), [1, 2, 6]);
        assert_eq!(testing::int_values(labels), [12, 13, 17]);
    }
}
