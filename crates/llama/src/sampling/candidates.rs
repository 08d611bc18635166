//! Candidate tokens ─► top-k ─► top-p ─► min-p ─► a sampled token.
//!
//! The order of the filters is that of Hugging Face. The candidates may be a part of the vocabulary
//! together with bounds on the rest. If the result could be a token that is not listed, sampling returns
//! `None` instead of an approximation.

use super::config::SamplingConfig;

/// Scores of candidate tokens, and bounds on the tokens that are not listed.
#[derive(Debug, Clone)]
pub(super) struct Candidates {
    /// Ids in ascending order, with scores.
    pub(super) tokens: Vec<(u32, f32)>,
    /// `None` if every token that can be sampled is listed.
    pub(super) unlisted: Option<UnlistedTokens>,
}

/// Bounds on the tokens that are not listed.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnlistedTokens {
    /// Upper bound of their scores.
    pub(super) max_score: f32,
    /// Sum of the [`softmax_weight`]s of all tokens, listed or not; used by top-p only.
    pub(super) total_weight: f64,
}

/// Unnormalized probability of a token; 1 for the highest score.
fn softmax_weight(score: f32, max_score: f32, temperature: f64) -> f64 {
    (f64::from(score - max_score) / temperature).exp()
}

/// Samples by inverse CDF: the first token at which the cumulative weight exceeds `target`.
///
/// # Panics
/// If there are no tokens.
pub(super) fn sample_cdf(
    tokens: &[(u32, f32)],
    target: f64,
    max_score: f32,
    temperature: f64,
) -> u32 {
    let weight = |score| softmax_weight(score, max_score, temperature);
    let mut remaining = target;
    let sampled = tokens.iter().find(|(_token, score)| {
        remaining -= weight(*score);
        remaining < 0.0
    });
    // Rounding may leave a remainder after the last token.
    let last = || tokens.iter().rfind(|(_token, score)| weight(*score) > 0.0);
    sampled.or_else(last).unwrap_or(&tokens[tokens.len() - 1]).0
}

/// The first of the highest scores.
pub(super) fn argmax(scores: &[f32]) -> u32 {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    best as u32
}

impl Candidates {
    /// All tokens of the vocabulary.
    pub(super) fn full_vocab(scores: &[f32]) -> Self {
        Self { tokens: (0..).zip(scores.iter().copied()).collect(), unlisted: None }
    }

    /// Samples with a random number, 0 <= uniform < 1; `None` if the result could be a token that is
    /// not listed.
    pub(super) fn sample(mut self, config: &SamplingConfig, uniform: f64) -> Option<u32> {
        let temperature = f64::from(config.temperature);
        self.keep_top_k(config.top_k)?;
        let scores = self.tokens.iter().map(|(_token, score)| *score);
        let max_score = scores.fold(f32::MIN, f32::max);
        let weight = |score| softmax_weight(score, max_score, temperature);
        self.keep_top_p(f64::from(config.top_p), weight)?;
        self.keep_min_p(f64::from(config.min_p), weight)?;
        if self.unlisted.is_some() {
            return None;
        }
        let total = self.tokens.iter().map(|(_token, score)| weight(*score)).sum::<f64>();
        Some(sample_cdf(&self.tokens, uniform * total, max_score, temperature))
    }

    /// Keeps the `top_k` likeliest tokens, and ties with the last of them.
    fn keep_top_k(&mut self, top_k: usize) -> Option<()> {
        let keeps_all = self.unlisted.is_none() && top_k >= self.tokens.len();
        if top_k == 0 || keeps_all {
            return Some(());
        }
        if top_k > self.tokens.len() {
            return None;
        }
        let mut sorted = self.tokens.iter().map(|(_token, score)| *score).collect::<Vec<_>>();
        let (_above, last, _below) =
            sorted.select_nth_unstable_by(top_k - 1, |a, b| b.total_cmp(a));
        let last = *last;
        // An unlisted token may be a tie.
        if self.unlisted.take().is_some_and(|unlisted| unlisted.max_score >= last) {
            return None;
        }
        self.tokens.retain(|(_token, score)| *score >= last);
        Some(())
    }

    /// Keeps the smallest set of the likeliest tokens whose probabilities reach `top_p`.
    ///
    /// Source: arXiv 1904.09751, section 3.1.
    fn keep_top_p(&mut self, top_p: f64, weight: impl Fn(f32) -> f64) -> Option<()> {
        if top_p >= 1.0 {
            return Some(());
        }
        let listed = || self.tokens.iter().map(|(_token, score)| weight(*score)).sum::<f64>();
        let unlisted = self.unlisted.take();
        let threshold = top_p * unlisted.map_or_else(listed, |unlisted| unlisted.total_weight);
        let order =
            |(id, a): &(u32, f32), (other, b): &(u32, f32)| b.total_cmp(a).then(id.cmp(other));
        let (mut cumulative, mut kept, mut sorted) = (0.0, 0, 0);
        while kept < self.tokens.len() && (cumulative < threshold || kept == 0) {
            if kept == sorted {
                // A few tokens are usually enough: selecting the top of the vocabulary is faster than
                // sorting all of it.
                let tail = &mut self.tokens[sorted..];
                let len = tail.len().min(1024.max(sorted * 8));
                tail.select_nth_unstable_by(len - 1, order);
                tail[..len].sort_unstable_by(order);
                sorted += len;
            }
            let (_token, score) = self.tokens[kept];
            // An unlisted token may rank higher.
            if unlisted.is_some_and(|unlisted| unlisted.max_score >= score) {
                return None;
            }
            cumulative += weight(score);
            kept += 1;
        }
        if unlisted.is_some() && cumulative < threshold {
            return None;
        }
        self.tokens.truncate(kept);
        // In the order of ids again, so that a rounding difference between nearly equal scores does
        // not change the order of the CDF.
        self.tokens.sort_unstable_by_key(|(token, _score)| *token);
        Some(())
    }

    /// Keeps tokens whose weight is at least `min_p`, where that of the likeliest is 1.
    fn keep_min_p(&mut self, min_p: f64, weight: impl Fn(f32) -> f64) -> Option<()> {
        let is_kept = |score| weight(score) >= min_p;
        // Without a likeliest token, all scores are minus infinity.
        if min_p == 0.0 || !self.tokens.iter().any(|(_token, score)| is_kept(*score)) {
            return Some(());
        }
        if self.unlisted.take().is_some_and(|unlisted| is_kept(unlisted.max_score)) {
            return None;
        }
        self.tokens.retain(|(_token, score)| is_kept(*score));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities 0.4, 0.3, 0.2, 0.1, of which the two highest are listed.
    fn two_of_four() -> Candidates {
        let unlisted = UnlistedTokens { max_score: 0.2_f32.ln(), total_weight: 1.0 / 0.4 };
        Candidates { tokens: vec![(1, 0.3_f32.ln()), (7, 0.4_f32.ln())], unlisted: Some(unlisted) }
    }

    fn sample(candidates: Candidates, top_k: usize, top_p: f32, uniform: f64) -> Option<u32> {
        let config = SamplingConfig { temperature: 1.0, top_k, top_p, ..SamplingConfig::default() };
        candidates.sample(&config, uniform)
    }

    #[test]
    fn samples_when_unlisted_tokens_cannot_change_the_result() {
        assert_eq!(sample(two_of_four(), 1, 1.0, 0.5), Some(7));
        assert_eq!(sample(two_of_four(), 2, 1.0, 0.4), Some(1));
        assert_eq!(sample(two_of_four(), 2, 1.0, 0.5), Some(7));
        assert_eq!(sample(two_of_four(), 0, 0.6, 0.4), Some(1));
        assert_eq!(sample(two_of_four(), 0, 0.3, 0.0), Some(7));
    }

    #[test]
    fn returns_none_when_an_unlisted_token_could_be_sampled() {
        for (top_k, top_p) in [(0, 1.0), (3, 1.0), (0, 0.8), (4, 0.3)] {
            assert_eq!(sample(two_of_four(), top_k, top_p, 0.0), None, "{top_k} {top_p}");
        }
        let mut tied = two_of_four();
        tied.unlisted = Some(UnlistedTokens { max_score: 0.3_f32.ln(), total_weight: 1.0 / 0.3 });
        assert_eq!(sample(tied.clone(), 1, 1.0, 0.0), Some(7));
        assert_eq!(sample(tied, 2, 1.0, 0.0), None);
    }

    #[test]
    fn min_p_needs_the_unlisted_tokens_only_where_they_may_be_as_likely() {
        let sample = |min_p, uniform| {
            let config = SamplingConfig { temperature: 1.0, min_p, ..SamplingConfig::default() };
            two_of_four().sample(&config, uniform)
        };
        // Relative to the likeliest: 0.75, and at most 0.5 for unlisted tokens.
        assert_eq!(sample(0.6, 0.4), Some(1));
        assert_eq!(sample(0.8, 0.0), Some(7));
        assert_eq!(sample(0.4, 0.0), None);
    }

    #[test]
    fn rounding_past_the_end_samples_the_last_token_with_weight() {
        let tokens = [(3, 0.0), (5, f32::NEG_INFINITY)];
        assert_eq!(sample_cdf(&tokens, 1.0, 0.0, 1.0), 3);
    }
}
