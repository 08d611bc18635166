//! Images of a batch: their features, and the tokens that an image condition makes of them.

use burn::tensor::{Tensor, TensorData};

/// Features of images, and the image of each row of a batch.
#[derive(Debug, Clone)]
pub struct ImageBatch {
    /// `[images, tokens per image, features]`
    pub features: Tensor<3>,
    /// For each row the index of its image, or `None`.
    pub rows: Vec<Option<usize>>,
}

impl ImageBatch {
    /// One image for every row of a batch.
    pub fn single(features: Tensor<3>) -> Self {
        Self { features, rows: vec![Some(0)] }
    }
}

/// Image tokens of the model's width, and the image of each row of a batch.
#[derive(Debug, Clone)]
pub struct ImageFeatures {
    tokens: Tensor<3>,
    rows: Vec<Option<usize>>,
    added_to_prompts: bool,
}

impl ImageFeatures {
    /// `added_to_prompts`: whether the tokens are added to the prompts of the adapted layers.
    ///
    /// # Panics
    /// If the image index of a row is out of range.
    pub(crate) fn new(tokens: Tensor<3>, rows: Vec<Option<usize>>, added_to_prompts: bool) -> Self {
        let [images, _tokens, _d_model] = tokens.dims();
        assert!(rows.iter().flatten().all(|&image| image < images), "{rows:?}");
        Self { tokens, rows, added_to_prompts }
    }

    /// `[images, 1 or queries, d_model]`
    pub fn tokens(&self) -> Tensor<3> {
        self.tokens.clone()
    }

    /// The same rows with other tokens, such as a leaf of the autodiff graph.
    #[must_use]
    pub fn with_tokens(&self, tokens: Tensor<3>) -> Self {
        Self::new(tokens, self.rows.clone(), self.added_to_prompts)
    }

    /// Whether the tokens are added to the prompts of the adapted layers.
    pub(crate) fn added_to_prompts(&self) -> bool {
        self.added_to_prompts
    }

    /// The prompt plus the tokens of each image, then the prompt itself if a row has no image:
    /// `[1, prompt, d_model] -> [images (+ 1), prompt, d_model]`.
    pub(crate) fn add_to_prompt(&self, prompt: Tensor<3>) -> Tensor<3> {
        let [images, _tokens, _d_model] = self.tokens.dims();
        let [_one, len, d_model] = prompt.dims();
        let tokens = self.tokens.clone().expand([images, len, d_model]);
        let with_image = prompt.clone().expand([images, len, d_model]) + tokens;
        if self.rows.iter().all(Option::is_some) {
            return with_image;
        }
        Tensor::cat(vec![with_image, prompt], 0)
    }

    /// Values per image, and after them the value without an image, gathered by row:
    /// `[images (+ 1), ...] -> [rows, ...]`, or `[1, ...]` if all rows have the same image. Without a
    /// value for rows without an image, such a row gets the first image's.
    pub(crate) fn gather_rows(&self, per_image: Tensor<4>) -> Tensor<4> {
        let [count, _, _, _] = per_image.dims();
        let [images, _tokens, _d_model] = self.tokens.dims();
        let none = if count > images { images } else { 0 };
        let index = self.rows.iter().map(|row| row.unwrap_or(none)).collect::<Vec<_>>();
        if index.iter().copied().eq(0..count) {
            return per_image;
        }
        if self.rows.iter().all(|row| *row == self.rows[0]) {
            return per_image.narrow(0, index[0], 1);
        }
        let index = index.into_iter().map(|row| row as i64).collect::<Vec<_>>();
        let rows = index.len();
        let device = per_image.device().without_autodiff();
        per_image.select(0, Tensor::from_data(TensorData::new(index, [rows]), &device))
    }

    /// Gates by row, 0 for rows without an image: `[1, gates, 1, 1] -> [1 or rows, gates, 1, 1]`.
    pub(crate) fn mask_gates(&self, gate: Tensor<4>) -> Tensor<4> {
        if self.rows.iter().all(Option::is_some) {
            return gate;
        }
        let has_image = self.rows.iter().map(|row| if row.is_some() { 1.0_f32 } else { 0.0 });
        let has_image = TensorData::new(has_image.collect::<Vec<_>>(), [self.rows.len(), 1, 1, 1]);
        let device = gate.device().without_autodiff();
        gate * Tensor::from_data(has_image, &device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::values;

    fn features(rows: Vec<Option<usize>>) -> ImageFeatures {
        let tokens = Tensor::from_floats([[[1.0, 2.0]], [[10.0, 20.0]]], &testing::flex());
        ImageFeatures::new(tokens, rows, true)
    }

    #[test]
    fn image_is_added_to_every_prompt_token_of_its_rows() {
        let features = features(vec![Some(1), None, Some(1), Some(0)]);
        let prompt = Tensor::from_floats([[[0.5, 0.0], [0.0, 0.5]]], &testing::flex());
        let prompts = features.add_to_prompt(prompt);
        assert_eq!(prompts.dims(), [3, 2, 2]);
        let rows = features.gather_rows(prompts.unsqueeze_dim(1));
        let expected = [
            [10.5, 20.0, 10.0, 20.5],
            [0.5, 0.0, 0.0, 0.5],
            [10.5, 20.0, 10.0, 20.5],
            [1.5, 2.0, 1.0, 2.5],
        ];
        assert_eq!(values(rows), expected.concat());
    }

    #[test]
    fn rows_with_the_same_image_share_one_prompt() {
        let features = features(vec![Some(1), Some(1)]);
        let prompts = features.add_to_prompt(Tensor::zeros([1, 1, 2], &testing::flex()));
        assert_eq!(values(features.gather_rows(prompts.unsqueeze_dim(1))), [10.0, 20.0]);
    }

    #[test]
    fn gate_of_a_row_without_image_is_zero() {
        let gate = || Tensor::<4>::from_floats([[[[3.0]], [[4.0]]]], &testing::flex());
        let some = features(vec![Some(1), None]);
        assert_eq!(values(some.mask_gates(gate())), [3.0, 4.0, 0.0, 0.0]);
        let all = features(vec![Some(1), Some(1)]);
        assert_eq!(values(all.mask_gates(gate())), [3.0, 4.0]);
    }

    #[test]
    #[should_panic(expected = "Some(2)")]
    fn image_index_out_of_range_panics() {
        let _ = features(vec![Some(2)]);
    }
}
