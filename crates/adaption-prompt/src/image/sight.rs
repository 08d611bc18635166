//! Which row of a batch sees which picture.

use burn::tensor::{Tensor, TensorData};

/// Features of pictures, and which row of a batch sees which.
#[derive(Debug, Clone)]
pub struct ImageBatch {
    /// `[pictures, tokens of a picture, features]`
    pub features: Tensor<3>,
    /// For each row the number of its picture, or none.
    pub rows: Vec<Option<usize>>,
}

impl ImageBatch {
    /// One picture, which every row of a pass sees.
    pub fn single(features: Tensor<3>) -> Self {
        Self { features, rows: vec![Some(0)] }
    }
}

/// What rows see: tokens of pictures, as wide as the model.
#[derive(Debug, Clone)]
pub struct ImageFeatures {
    tokens: Tensor<3>,
    rows: Vec<Option<usize>>,
}

impl ImageFeatures {
    /// # Panics
    /// If a row sees a picture that is not there.
    pub(crate) fn new(tokens: Tensor<3>, rows: Vec<Option<usize>>) -> Self {
        let [pictures, _tokens, _d_model] = tokens.dims();
        assert!(rows.iter().flatten().all(|&picture| picture < pictures), "{rows:?}");
        Self { tokens, rows }
    }

    /// `[pictures, 1 or queries, d_model]`
    pub fn tokens(&self) -> Tensor<3> {
        self.tokens.clone()
    }

    /// The same rows with other tokens in the place of these, such as a leaf whose gradient is
    /// wanted.
    pub fn with_tokens(&self, tokens: Tensor<3>) -> Self {
        Self::new(tokens, self.rows.clone())
    }

    /// A prompt as each picture changes it, and behind them as it is, if some row sees none:
    /// `[1, prompt, d_model] -> [pictures (+ 1), prompt, d_model]`.
    pub(crate) fn add_to_prompt(&self, prompt: Tensor<3>) -> Tensor<3> {
        let [pictures, _tokens, _d_model] = self.tokens.dims();
        let [_one, len, d_model] = prompt.dims();
        let tokens = self.tokens.clone().expand([pictures, len, d_model]);
        let seeing = prompt.clone().expand([pictures, len, d_model]) + tokens;
        if self.rows.iter().all(Option::is_some) {
            return seeing;
        }
        Tensor::cat(vec![seeing, prompt], 0)
    }

    /// What belongs to pictures (and, behind them, to none), row by row:
    /// `[pictures (+ 1), ...] -> [rows, ...]`, or `[1, ...]`, if all rows see the same. A row without a
    /// picture, where nothing belongs to that, gets the first picture's.
    pub(crate) fn gather_rows(&self, of_pictures: Tensor<4>) -> Tensor<4> {
        let [count, _, _, _] = of_pictures.dims();
        let [pictures, _tokens, _d_model] = self.tokens.dims();
        let none = if count > pictures { pictures } else { 0 };
        let index = self.rows.iter().map(|row| row.unwrap_or(none)).collect::<Vec<_>>();
        if index.iter().copied().eq(0..count) {
            return of_pictures;
        }
        if self.rows.iter().all(|row| *row == self.rows[0]) {
            return of_pictures.narrow(0, index[0], 1);
        }
        let index = index.into_iter().map(|row| row as i64).collect::<Vec<_>>();
        let rows = index.len();
        let device = of_pictures.device().without_autodiff();
        of_pictures.select(0, Tensor::from_data(TensorData::new(index, [rows]), &device))
    }

    /// Gates of rows, 0 for those that see nothing: `[1, gates, 1, 1] -> [1 or rows, gates, 1, 1]`.
    pub(crate) fn mask_gates(&self, gate: Tensor<4>) -> Tensor<4> {
        if self.rows.iter().all(Option::is_some) {
            return gate;
        }
        let open = self.rows.iter().map(|row| if row.is_some() { 1.0_f32 } else { 0.0 });
        let open = TensorData::new(open.collect::<Vec<_>>(), [self.rows.len(), 1, 1, 1]);
        let device = gate.device().without_autodiff();
        gate * Tensor::from_data(open, &device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::values;

    fn tokens() -> Tensor<3> {
        Tensor::from_floats([[[1.0, 2.0]], [[10.0, 20.0]]], &testing::flex())
    }

    #[test]
    fn a_picture_is_added_to_every_token_of_a_prompt_and_rows_take_theirs() {
        let sight = ImageFeatures::new(tokens(), vec![Some(1), None, Some(1), Some(0)]);
        let prompt = Tensor::from_floats([[[0.5, 0.0], [0.0, 0.5]]], &testing::flex());
        let joined = sight.add_to_prompt(prompt);
        assert_eq!(joined.dims(), [3, 2, 2]);
        let rows = sight.gather_rows(joined.unsqueeze_dim(1));
        let expected = [
            [10.5, 20.0, 10.0, 20.5],
            [0.5, 0.0, 0.0, 0.5],
            [10.5, 20.0, 10.0, 20.5],
            [1.5, 2.0, 1.0, 2.5],
        ];
        assert_eq!(values(rows), expected.concat());
    }

    #[test]
    fn rows_that_see_the_same_have_one_prompt() {
        let sight = ImageFeatures::new(tokens(), vec![Some(1), Some(1)]);
        let joined = sight.add_to_prompt(Tensor::zeros([1, 1, 2], &testing::flex()));
        assert_eq!(values(sight.gather_rows(joined.unsqueeze_dim(1))), [10.0, 20.0]);
    }

    #[test]
    fn the_gate_of_a_row_without_a_picture_is_closed() {
        let gate = || Tensor::<4>::from_floats([[[[3.0]], [[4.0]]]], &testing::flex());
        let sight = ImageFeatures::new(tokens(), vec![Some(1), None]);
        assert_eq!(values(sight.mask_gates(gate())), [3.0, 4.0, 0.0, 0.0]);
        let sight = ImageFeatures::new(tokens(), vec![Some(1), Some(1)]);
        assert_eq!(values(sight.mask_gates(gate())), [3.0, 4.0]);
    }

    #[test]
    #[should_panic(expected = "Some(2)")]
    fn a_picture_that_is_not_there_is_a_mistake() {
        let _ = ImageFeatures::new(tokens(), vec![Some(2)]);
    }
}
