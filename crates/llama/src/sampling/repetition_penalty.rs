//! Repetition penalty: positive logits of seen tokens are divided by it, negative ones multiplied.
//!
//! The same rule on the host ([`apply`]) and on a device ([`BatchPenalty`]); `tests/inference` compares
//! the two.
//!
//! Source: arXiv 1909.05858, section 4.1; negative logits as in `transformers`'
//! `RepetitionPenaltyLogitsProcessor`.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

/// Logits of one row after the penalty of the `seen` tokens.
pub(super) fn apply(logits: &[f32], seen: impl Iterator<Item = u32>, penalty: f32) -> Vec<f32> {
    let mut scores = logits.to_vec();
    for token in seen {
        if let Some(score) = scores.get_mut(token as usize) {
            *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
        }
    }
    scores
}

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
