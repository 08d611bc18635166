//! What changes a row's logits before sampling: logits ─► + bias ─► repetition penalty ─► frequency and
//! presence penalties ─► scores.
//!
//! - The repetition penalty divides positive logits of seen tokens and multiplies negative ones. Tokens of
//!   the prompt and of the completion are seen.
//! - Frequency and presence penalties are subtracted; they look at the completion alone.
//!
//! Source: arXiv 1909.05858, section 4.1; negative logits as in `transformers`'
//! `RepetitionPenaltyLogitsProcessor`; frequency and presence penalties, and the bias, as OpenAI's API
//! defines them; the order is vLLM's.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::config::SamplingConfig;

/// The tokens of a row that its penalties apply to. Only what the config needs is kept.
#[derive(Debug, Clone, Default)]
pub(super) struct SeenTokens {
    /// Of the prompt and the completion, for the repetition penalty.
    all: HashSet<u32>,
    /// How often each token is in the completion, for frequency and presence penalties.
    sampled: HashMap<u32, u32>,
}

impl SeenTokens {
    /// Adds tokens of the prompt.
    pub(super) fn observe(&mut self, tokens: &[u32], config: &SamplingConfig) {
        if config.repetition_penalty != 1.0 {
            self.all.extend(tokens);
        }
    }

    /// Adds a token of the completion.
    pub(super) fn record(&mut self, token: u32, config: &SamplingConfig) {
        self.observe(&[token], config);
        if config.counts_tokens() {
            *self.sampled.entry(token).or_default() += 1;
        }
    }

    /// Tokens that the repetition penalty applies to.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        self.all.iter().copied()
    }

    /// The logits with bias and penalties.
    pub(super) fn scores<'a>(&self, logits: &'a [f32], config: &SamplingConfig) -> Cow<'a, [f32]> {
        let SamplingConfig { repetition_penalty, frequency_penalty, presence_penalty, .. } =
            *config;
        let mut scores = Cow::Borrowed(logits);
        let mut change = |token: u32, change: &dyn Fn(f32) -> f32| {
            if (token as usize) < logits.len() {
                let score = &mut scores.to_mut()[token as usize];
                *score = change(*score);
            }
        };
        for (&token, bias) in &config.logit_bias {
            change(token, &|score| score + bias);
        }
        for &token in &self.all {
            change(token, &|score| {
                if score < 0.0 { score * repetition_penalty } else { score / repetition_penalty }
            });
        }
        for (&token, &count) in &self.sampled {
            let penalty = count as f32 * frequency_penalty + presence_penalty;
            change(token, &|score| score - penalty);
        }
        scores
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn seen(prompt: &[u32], completion: &[u32], config: &SamplingConfig) -> SeenTokens {
        let mut seen = SeenTokens::default();
        seen.observe(prompt, config);
        for &token in completion {
            seen.record(token, config);
        }
        seen
    }

    #[test]
    fn repetition_penalty_applies_to_prompt_and_completion_tokens() {
        let config = SamplingConfig { repetition_penalty: 2.0, ..SamplingConfig::default() };
        let scores = |prompt, completion: &[u32]| {
            seen(prompt, completion, &config).scores(&[3.0, -1.0, 1.0], &config).into_owned()
        };
        assert_eq!(scores(&[0, 0, 99], &[]), [1.5, -1.0, 1.0]);
        assert_eq!(scores(&[0, 0, 99], &[1]), [1.5, -2.0, 1.0]);
    }

    #[test]
    fn frequency_penalty_counts_the_tokens_of_the_completion() {
        let config = SamplingConfig { frequency_penalty: 0.5, ..SamplingConfig::default() };
        let seen = seen(&[0, 0], &[1, 2, 1], &config);
        assert_eq!(*seen.scores(&[3.0, 3.0, 3.0], &config), [3.0, 2.0, 2.5]);
    }

    #[test]
    fn presence_penalty_applies_once_to_each_token_of_the_completion() {
        let config = SamplingConfig { presence_penalty: 0.5, ..SamplingConfig::default() };
        let seen = seen(&[0, 0], &[1, 2, 1], &config);
        assert_eq!(*seen.scores(&[3.0, 3.0, 3.0], &config), [3.0, 2.5, 2.5]);
    }

    #[test]
    fn bias_is_added_before_the_penalties() {
        let config = SamplingConfig {
            logit_bias: BTreeMap::from([(0, 5.0), (1, -100.0), (99, 1.0)]),
            repetition_penalty: 2.0,
            ..SamplingConfig::default()
        };
        let seen = seen(&[0], &[], &config);
        assert_eq!(*seen.scores(&[1.0, 2.0, 3.0], &config), [3.0, -98.0, 3.0]);
    }

    #[test]
    fn logits_without_penalties_are_not_copied() {
        let config = SamplingConfig::default();
        let seen = seen(&[0], &[1], &config);
        assert!(matches!(seen.scores(&[1.0, 2.0], &config), Cow::Borrowed(_)));
    }
}
