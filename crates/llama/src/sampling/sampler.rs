//! Random numbers and seen tokens of one row, and sampling from logits on the host.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::candidates::{Candidates, argmax};
use super::config::SamplingConfig;
use super::logprobs::Logprobs;
use super::penalties::SeenTokens;
use crate::error::{Error, Result};

/// Samples the tokens of one row.
///
/// ```
/// use llama::sampling::{Sampler, SamplingConfig};
///
/// let mut greedy = Sampler::new(SamplingConfig::default(), 0)?;
/// assert_eq!(greedy.sample(&[0.1, 2.5, -1.0])?, 1);
/// # Ok::<(), llama::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    config: SamplingConfig,
    rng: ChaCha8Rng,
    seen: SeenTokens,
}

/// A token, with its log-probabilities if they were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The token.
    pub token: u32,
    /// Of the model's own distribution, which the sampling settings do not change.
    pub logprobs: Option<Logprobs>,
}

impl Sampler {
    /// A sampler. The config's seed and `stream` determine its random numbers; rows of one batch use
    /// different streams.
    ///
    /// # Errors
    /// [`Error::SamplingSetting`] for a setting out of range.
    pub fn new(config: SamplingConfig, stream: u64) -> Result<Self> {
        config.validate()?;
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        rng.set_stream(stream);
        Ok(Self { config, rng, seen: SeenTokens::default() })
    }

    /// Adds tokens of the prompt to those that the repetition penalty applies to.
    pub fn observe(&mut self, tokens: &[u32]) {
        self.seen.observe(tokens, &self.config);
    }

    /// Samples a token, to which the penalties apply from then on.
    ///
    /// `logits` holds one value per token of the vocabulary. Greedy decoding takes the lowest id of equal
    /// maxima.
    ///
    /// # Errors
    /// [`Error::NonFiniteLogits`] if a logit is NaN or positive infinity.
    ///
    /// # Panics
    /// If `logits` is empty.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        Ok(self.choose(logits, None)?.token)
    }

    /// As [`sample`](Self::sample), with log-probabilities of the token and of the `top` likeliest ones
    /// if `top` is given.
    ///
    /// # Errors
    /// As [`sample`](Self::sample).
    ///
    /// # Panics
    /// If `logits` is empty.
    pub fn choose(&mut self, logits: &[f32], top: Option<usize>) -> Result<Choice> {
        check_logits(logits)?;
        let uniform = self.next_uniform();
        let token = self.token(logits, uniform);
        self.record(token);
        Ok(Choice { token, logprobs: top.map(|top| Logprobs::new(logits, token, top)) })
    }

    /// The token that a random number samples from a row's logits.
    pub(super) fn token(&self, logits: &[f32], uniform: f64) -> u32 {
        let scores = self.seen.scores(logits, &self.config);
        if self.config.is_greedy() {
            return argmax(&scores);
        }
        let candidates = Candidates::full_vocab(&scores);
        self.sample_candidates(candidates, uniform).expect("no token is unlisted")
    }

    /// Samples with a random number; `None` if the result could be a token that is not listed.
    pub(super) fn sample_candidates(&self, candidates: Candidates, uniform: f64) -> Option<u32> {
        candidates.sample(&self.config, uniform)
    }

    /// The next random number, 0 <= u < 1. Each sampled token takes one, and greedy rows take none: 0.
    pub(super) fn next_uniform(&mut self) -> f64 {
        if self.config.is_greedy() { 0.0 } else { self.rng.random() }
    }

    /// Adds a sampled token to those that the penalties apply to.
    pub(super) fn record(&mut self, token: u32) {
        self.seen.record(token, &self.config);
    }

    pub(super) fn config(&self) -> &SamplingConfig {
        &self.config
    }

    /// Tokens that the repetition penalty applies to.
    pub(super) fn seen_tokens(&self) -> impl Iterator<Item = u32> {
        self.seen.all()
    }
}

/// # Errors
/// [`Error::NonFiniteLogits`] if a logit is NaN or positive infinity.
pub(super) fn check_logits(logits: &[f32]) -> Result<()> {
    match logits.iter().find(|logit| logit.is_nan() || **logit == f32::INFINITY) {
        Some(bad) => Err(Error::NonFiniteLogits { found: *bad }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn sampler(config: SamplingConfig) -> Sampler {
        Sampler::new(config, 0).unwrap()
    }

    fn stochastic() -> SamplingConfig {
        SamplingConfig { temperature: 1.0, seed: 7, ..SamplingConfig::default() }
    }

    /// Frequency of each token in 20 000 samples.
    fn frequencies(config: SamplingConfig, logits: &[f32]) -> Vec<f64> {
        let mut sampler = sampler(config);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.sample(logits).unwrap() as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    /// Compares frequencies; 0.02 is more than five standard deviations of 20 000 samples.
    fn assert_frequencies(found: &[f64], expected: &[f64]) {
        let differs = found.iter().zip(expected).any(|(found, expected)| {
            (found - expected).abs() > 0.02 || (*expected == 0.0 && *found > 0.0)
        });
        assert!(!differs, "found {found:?}, expected {expected:?}");
    }

    /// Logits with the probabilities 0.4, 0.3, 0.2, 0.1.
    fn four_logits() -> [f32; 4] {
        [0.4_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln(), 0.1_f32.ln()]
    }

    #[test]
    fn greedy_takes_the_first_maximum() {
        let mut sampler = sampler(SamplingConfig::default());
        assert_eq!(sampler.sample(&[0.0, 2.0, 1.0, 2.0]).unwrap(), 1);
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY, -3.0]).unwrap(), 1);
    }

    #[test]
    fn sampling_follows_the_probabilities() {
        assert_frequencies(&frequencies(stochastic(), &four_logits()), &[0.4, 0.3, 0.2, 0.1]);
    }

    #[test]
    fn temperature_divides_the_logits() {
        // Half the temperature squares the probabilities.
        let config = SamplingConfig { temperature: 0.5, ..stochastic() };
        let expected = [0.16 / 0.3, 0.09 / 0.3, 0.04 / 0.3, 0.01 / 0.3];
        assert_frequencies(&frequencies(config, &four_logits()), &expected);
    }

    #[test]
    fn top_k_samples_from_the_k_likeliest() {
        let config = SamplingConfig { top_k: 2, ..stochastic() };
        assert_frequencies(&frequencies(config, &four_logits()), &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
    }

    #[test]
    fn top_k_keeps_ties() {
        let config = SamplingConfig { top_k: 1, ..stochastic() };
        assert_frequencies(&frequencies(config, &[1.0, 1.0, 0.0]), &[0.5, 0.5, 0.0]);
    }

    #[test]
    fn top_p_samples_from_the_smallest_set_reaching_p() {
        let config = SamplingConfig { top_p: 0.6, ..stochastic() };
        assert_frequencies(&frequencies(config, &four_logits()), &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
        let config = SamplingConfig { top_p: 0.001, ..stochastic() };
        assert_frequencies(&frequencies(config, &four_logits()), &[1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn top_p_applies_after_top_k() {
        // Among three tokens the first two have 7/9 of the weight, below 0.8: all three stay.
        let config = SamplingConfig { top_k: 3, top_p: 0.8, ..stochastic() };
        assert_frequencies(
            &frequencies(config, &four_logits()),
            &[4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0, 0.0],
        );
    }

    #[test]
    fn min_p_samples_from_tokens_nearly_as_likely_as_the_likeliest() {
        // 0.2 is half of 0.4, 0.1 a quarter.
        let config = SamplingConfig { min_p: 0.45, ..stochastic() };
        let expected = [4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0, 0.0];
        assert_frequencies(&frequencies(config, &four_logits()), &expected);
    }

    #[test]
    fn impossible_tokens_still_give_a_token() {
        let config = SamplingConfig { min_p: 0.5, top_p: 0.5, ..stochastic() };
        assert!(sampler(config).sample(&[f32::NEG_INFINITY; 3]).unwrap() < 3);
    }

    #[test]
    fn penalties_apply_to_sampled_tokens() {
        let mut repetition =
            sampler(SamplingConfig { repetition_penalty: 2.0, ..SamplingConfig::default() });
        repetition.observe(&[0]);
        assert_eq!(repetition.sample(&[3.0, 2.0, -5.0]).unwrap(), 1);
        let mut frequency =
            sampler(SamplingConfig { frequency_penalty: 1.0, ..SamplingConfig::default() });
        frequency.observe(&[0]);
        let tokens = [(); 4].map(|()| frequency.sample(&[3.0, 2.5, 1.0]).unwrap());
        assert_eq!(tokens, [0, 1, 0, 1], "the prompt has no effect");
    }

    #[test]
    fn a_bias_can_ban_and_force_tokens() {
        let config = |bias| SamplingConfig { logit_bias: BTreeMap::from(bias), ..stochastic() };
        assert_frequencies(
            &frequencies(config([(0, -100.0)]), &four_logits()),
            &[0.0, 3.0 / 6.0, 2.0 / 6.0, 1.0 / 6.0],
        );
        assert_frequencies(
            &frequencies(config([(3, 100.0)]), &four_logits()),
            &[0.0, 0.0, 0.0, 1.0],
        );
    }

    #[test]
    fn logprobs_are_those_of_the_model_whatever_the_settings() {
        let config = SamplingConfig {
            temperature: 0.1,
            top_k: 1,
            logit_bias: BTreeMap::from([(2, 100.0)]),
            ..stochastic()
        };
        let choice = sampler(config).choose(&four_logits(), Some(1)).unwrap();
        let Choice { token, logprobs: Some(logprobs) } = choice else { panic!("{choice:?}") };
        assert_eq!((token, logprobs.top[0].0), (2, 0));
        let values = [logprobs.token, logprobs.top[0].1];
        testing::assert_values_close(
            "logprobs",
            &values,
            &[0.2_f32.ln(), 0.4_f32.ln()],
            &[2],
            1e-6,
        );
    }

    #[test]
    fn asking_for_logprobs_changes_no_token() {
        let (mut plain, mut with_logprobs) = (sampler(stochastic()), sampler(stochastic()));
        for _ in 0..32 {
            let expected = plain.choose(&four_logits(), None).unwrap();
            assert_eq!(expected.logprobs, None);
            let found = with_logprobs.choose(&four_logits(), Some(3)).unwrap();
            assert_eq!(found.token, expected.token);
        }
    }

    #[test]
    fn streams_of_one_seed_differ_and_are_reproducible() {
        let row = |stream| {
            let mut sampler = Sampler::new(stochastic(), stream).unwrap();
            (0..32).map(|_| sampler.sample(&four_logits()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(row(3), row(3));
        assert_ne!(row(0), row(1));
    }

    #[test]
    fn nan_logits_are_an_error() {
        let error = sampler(stochastic()).sample(&[0.0, f32::NAN]).unwrap_err();
        assert_eq!(error.to_string(), "a logit of the model is NaN");
    }
}
