//! scores of tokens ─► top-k ─► top-p ─► a draw
//!
//! The order is Hugging Face's. The tokens may be a few of the vocabulary, with what is known of
//! the others: a draw that could fall on one of those is refused, not guessed.

/// Scores of tokens, and what is known of the tokens that are not listed.
#[derive(Debug, Clone)]
pub(crate) struct Scores {
    /// In rising order of ids.
    pub(crate) tokens: Vec<(u32, f32)>,
    /// `None` where every token that may be drawn is listed.
    pub(crate) rest: Option<UnlistedTokens>,
}

/// Tokens that are not listed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnlistedTokens {
    /// None of them scores more.
    pub(crate) bound: f32,
    /// Sum of the [`weight`]s of all tokens, listed or not; for top-p alone.
    pub(crate) total: f64,
}

/// What a token's probability is in proportion to; 1 for the highest score there is.
pub(crate) fn weight(score: f32, highest: f32, temperature: f64) -> f64 {
    (f64::from(score - highest) / temperature).exp()
}

/// The first token at which the weights, added up, exceed `left`.
///
/// # Panics
/// If there are no tokens.
pub(crate) fn pick(tokens: &[(u32, f32)], mut left: f64, highest: f32, temperature: f64) -> u32 {
    let weight = |score| weight(score, highest, temperature);
    let drawn = tokens.iter().find(|(_token, score)| {
        left -= weight(*score);
        left < 0.0
    });
    // Rounding may leave a crumb behind the last token.
    let last = || tokens.iter().rfind(|(_token, score)| weight(*score) > 0.0);
    drawn.or_else(last).unwrap_or(&tokens[tokens.len() - 1]).0
}

/// The first of the highest scores.
pub(crate) fn argmax(scores: &[f32]) -> u32 {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    best as u32
}

impl Scores {
    /// Of a whole vocabulary.
    pub(crate) fn all(scores: &[f32]) -> Self {
        Self { tokens: (0..).zip(scores.iter().copied()).collect(), rest: None }
    }

    /// Draws with a random number, 0 <= uniform < 1; `None` where a token that is not listed might
    /// have been drawn.
    pub(crate) fn draw(
        mut self,
        temperature: f64,
        top_k: usize,
        top_p: f64,
        uniform: f64,
    ) -> Option<u32> {
        self.keep_top_k(top_k)?;
        let scores = self.tokens.iter().map(|(_token, score)| *score);
        let highest = scores.fold(f32::MIN, f32::max);
        self.keep_top_p(top_p, |score| weight(score, highest, temperature))?;
        if self.rest.is_some() {
            return None;
        }
        let weights =
            self.tokens.iter().map(|(_token, score)| weight(*score, highest, temperature));
        let total = weights.sum::<f64>();
        Some(pick(&self.tokens, uniform * total, highest, temperature))
    }

    /// Keeps the `top_k` likeliest tokens, and those as likely as the last of them.
    fn keep_top_k(&mut self, top_k: usize) -> Option<()> {
        let all = self.rest.is_none() && top_k >= self.tokens.len();
        if top_k == 0 || all {
            return Some(());
        }
        if top_k > self.tokens.len() {
            return None;
        }
        let mut sorted = self.tokens.iter().map(|(_token, score)| *score).collect::<Vec<_>>();
        let (_above, last, _below) =
            sorted.select_nth_unstable_by(top_k - 1, |a, b| b.total_cmp(a));
        let last = *last;
        // One of the rest may be as likely.
        if self.rest.take().is_some_and(|rest| rest.bound >= last) {
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
        let rest = self.rest.take();
        let enough = top_p * rest.map_or_else(listed, |rest| rest.total);
        let order =
            |(id, a): &(u32, f32), (other, b): &(u32, f32)| b.total_cmp(a).then(id.cmp(other));
        let (mut reached, mut kept, mut sorted) = (0.0, 0, 0);
        while kept < self.tokens.len() && (reached < enough || kept == 0) {
            if kept == sorted {
                // Most often a few are enough: sorting a whole vocabulary takes longer than to find
                // its upper end.
                let tail = &mut self.tokens[sorted..];
                let len = tail.len().min(1024.max(sorted * 8));
                tail.select_nth_unstable_by(len - 1, order);
                tail[..len].sort_unstable_by(order);
                sorted += len;
            }
            let (_token, score) = self.tokens[kept];
            // One of the rest may come before it.
            if rest.is_some_and(|rest| rest.bound >= score) {
                return None;
            }
            reached += weight(score);
            kept += 1;
        }
        if rest.is_some() && reached < enough {
            return None;
        }
        self.tokens.truncate(kept);
        // Back in the order of ids, so that tokens of nearly equal scores can't swap places.
        self.tokens.sort_unstable_by_key(|(token, _score)| *token);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities 0.4, 0.3, 0.2, 0.1, of which the two highest are listed.
    fn some() -> Scores {
        let rest = UnlistedTokens { bound: 0.2_f32.ln(), total: 1.0 / 0.4 };
        Scores { tokens: vec![(1, 0.3_f32.ln()), (7, 0.4_f32.ln())], rest: Some(rest) }
    }

    #[test]
    fn what_the_rest_cannot_change_is_drawn_without_it() {
        assert_eq!(some().draw(1.0, 1, 1.0, 0.5), Some(7));
        assert_eq!(some().draw(1.0, 2, 1.0, 0.4), Some(1));
        assert_eq!(some().draw(1.0, 2, 1.0, 0.5), Some(7));
        assert_eq!(some().draw(1.0, 0, 0.6, 0.4), Some(1));
        assert_eq!(some().draw(1.0, 0, 0.3, 0.0), Some(7));
    }

    #[test]
    fn what_the_rest_could_change_is_refused() {
        for (top_k, top_p) in [(0, 1.0), (3, 1.0), (0, 0.8), (4, 0.3)] {
            assert_eq!(some().draw(1.0, top_k, top_p, 0.0), None, "{top_k} {top_p}");
        }
        let mut as_likely = some();
        as_likely.rest = Some(UnlistedTokens { bound: 0.3_f32.ln(), total: 1.0 / 0.3 });
        assert_eq!(as_likely.clone().draw(1.0, 1, 1.0, 0.0), Some(7));
        assert_eq!(as_likely.draw(1.0, 2, 1.0, 0.0), None);
    }

    #[test]
    fn a_crumb_behind_the_last_token_falls_to_one_that_can_be_drawn() {
        let tokens = [(3, 0.0), (5, f32::NEG_INFINITY)];
        assert_eq!(pick(&tokens, 1.0, 0.0, 1.0), 3);
    }
}
