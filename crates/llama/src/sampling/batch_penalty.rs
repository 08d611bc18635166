//! Repetition penalties of a batch on a device, by the rule of [`penalties`](super::penalties);
//! `tests/inference` compares the two.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

/// Repetition penalties of a batch on a device.
#[derive(Debug, Clone)]
pub(super) struct BatchPenalty {
    /// `[batch, 1]`
    penalty: Tensor<2>,
    /// `[batch, vocab]`: the penalty for tokens that were seen, 1 for others.
    factors: Tensor<2>,
}

impl BatchPenalty {
    /// `rows` holds each row's penalty and the tokens it has seen.
    pub(super) fn new(rows: &[(f32, Vec<u32>)], vocab: usize, device: &Device) -> Self {
        let batch = rows.len();
        let mut factors = vec![1.0; batch * vocab];
        for (row, (penalty, seen)) in rows.iter().enumerate() {
            for token in seen.iter().filter(|token| (**token as usize) < vocab) {
                factors[row * vocab + *token as usize] = *penalty;
            }
        }
        let penalty = rows.iter().map(|(penalty, _seen)| *penalty).collect::<Vec<_>>();
        Self {
            penalty: Tensor::from_data(TensorData::new(penalty, [batch, 1]), device),
            factors: Tensor::from_data(TensorData::new(factors, [batch, vocab]), device),
        }
    }

    /// Logits after the penalty, `[batch, vocab]`.
    pub(super) fn apply(&self, logits: Tensor<2>) -> Tensor<2> {
        let negative = logits.clone().lower_elem(0.0);
        let divided = logits.clone() / self.factors.clone();
        divided.mask_where(negative, logits * self.factors.clone())
    }

    /// Adds one token per row to those seen.
    pub(super) fn record(&mut self, tokens: &[u32], device: &Device) {
        let ids = tokens.iter().map(|token| i64::from(*token)).collect::<Vec<_>>();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [tokens.len(), 1]), device);
        let penalty = self.penalty.clone();
        self.factors.inplace(|all| all.scatter(1, ids, penalty, IndexingUpdateOp::Assign));
    }
}
