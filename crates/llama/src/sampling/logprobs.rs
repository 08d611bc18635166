//! Log-probabilities of tokens under the model's own distribution: raw logits ─► log-softmax.
//!
//! Temperature, penalties and filters have no effect on them.

/// Log-probabilities, in nats, of a token and of the likeliest tokens in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Of the token itself. Minus infinity where its logit is.
    pub token: f32,
    /// The likeliest tokens, likeliest first; of equal ones, the lower id first.
    pub top: Vec<(u32, f32)>,
}

impl Logprobs {
    /// Log-probabilities of `token` and of the `top` likeliest tokens, or of all if there are fewer.
    ///
    /// `logits` holds one value per token of the vocabulary, none of them NaN or positive infinity.
    ///
    /// # Panics
    /// If `token` is outside the vocabulary.
    pub fn new(logits: &[f32], token: u32, top: usize) -> Self {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // In f64 and in the order of ids: the same on every device and for any number of threads.
        let total = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum::<f64>();
        let log_total = f64::from(max) + total.ln();
        let logprob = |logit: f32| {
            // If all logits are minus infinity, so is the total.
            if logit == f32::NEG_INFINITY { logit } else { (f64::from(logit) - log_total) as f32 }
        };
        let top = likeliest(logits, top);
        Self {
            token: logprob(logits[token as usize]),
            top: top.into_iter().map(|id| (id, logprob(logits[id as usize]))).collect(),
        }
    }
}

/// Ids of the `count` highest logits, highest first.
fn likeliest(logits: &[f32], count: usize) -> Vec<u32> {
    let count = count.min(logits.len());
    if count == 0 {
        return Vec::new();
    }
    let order =
        |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let mut ids = (0..logits.len() as u32).collect::<Vec<_>>();
    ids.select_nth_unstable_by(count - 1, order);
    ids.truncate(count);
    ids.sort_unstable_by(order);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logprobs_are_the_log_softmax_of_the_logits() {
        let logits = [0.4_f32, 0.3, 0.2, 0.1].map(|probability| probability.ln() + 5.0);
        let found = Logprobs::new(&logits, 2, 2);
        let values = [found.token, found.top[0].1, found.top[1].1];
        let expected = [0.2_f32.ln(), 0.4_f32.ln(), 0.3_f32.ln()];
        testing::assert_values_close("logprobs", &values, &expected, &[3], 1e-6);
    }

    #[test]
    fn the_likeliest_come_first_and_ties_in_the_order_of_ids() {
        let found = Logprobs::new(&[1.0, 3.0, 2.0, 3.0, 1.0], 0, 4);
        let ids = found.top.iter().map(|(id, _logprob)| *id).collect::<Vec<_>>();
        assert_eq!(ids, [1, 3, 2, 0]);
    }

    #[test]
    fn more_than_the_vocabulary_gives_all_tokens() {
        assert_eq!(Logprobs::new(&[0.0, 1.0], 0, 20).top.len(), 2);
    }

    #[test]
    fn impossible_tokens_have_minus_infinity() {
        let impossible = f32::NEG_INFINITY;
        assert_eq!(Logprobs::new(&[0.0, impossible], 1, 2).top, [(0, 0.0), (1, impossible)]);
        assert_eq!(Logprobs::new(&[impossible; 2], 1, 1).token, impossible);
    }
}
