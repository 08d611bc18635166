//! Log-probabilities of tokens from a row of logits.

use super::request::Token;

/// A token with its log-probability under the model, and the `top` likeliest tokens with theirs. Of equally
/// likely ones the lowest id is first.
///
/// # Panics
/// If the token is outside the logits.
pub(crate) fn token_logprob(logits: &[f32], id: u32, top: usize) -> Token {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // In order of ids and with 64 bits: the same on every machine, for 100,000 tokens too.
    let total = logits.iter().map(|logit| f64::from(logit - max).exp()).sum::<f64>().ln();
    let logprob = |id: u32| (f64::from(logits[id as usize] - max) - total) as f32;
    let mut ids = (0..logits.len() as u32).collect::<Vec<_>>();
    let order =
        |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let top = top.min(ids.len());
    if top > 0 {
        ids.select_nth_unstable_by(top - 1, order);
    }
    ids.truncate(top);
    ids.sort_unstable_by(order);
    let top = ids.into_iter().map(|id| (id, logprob(id))).collect();
    Token { id, logprob: Some(logprob(id)), top }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logprobs_are_those_of_the_softmax() {
        let logits = [0.1_f32, 0.4, 0.2, 0.3].map(f32::ln);
        let token = token_logprob(&logits, 2, 2);
        let close = |found: f32, probability: f32| (found - probability.ln()).abs() < 1e-6;
        assert!(close(token.logprob.unwrap(), 0.2), "{token:?}");
        assert_eq!(token.top.iter().map(|own| own.0).collect::<Vec<_>>(), [1, 3]);
        assert!(close(token.top[0].1, 0.4) && close(token.top[1].1, 0.3), "{token:?}");
    }

    #[test]
    fn equally_likely_tokens_are_in_order_of_ids() {
        let token = token_logprob(&[0.0, 1.0, 1.0, 1.0], 0, 2);
        assert_eq!(token.top.iter().map(|own| own.0).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn no_more_tokens_are_listed_than_there_are() {
        assert_eq!(token_logprob(&[0.0, f32::NEG_INFINITY], 0, 5).top.len(), 2);
        assert_eq!(token_logprob(&[0.0], 0, 0).top, []);
    }
}
