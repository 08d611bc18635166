//! Sampling settings and random numbers of one row, and sampling from logits on the host.

use std::collections::HashSet;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::candidates::{Candidates, argmax};
use super::repetition_penalty;
use crate::error::{Error, Result};

/// Sampling settings.
///
/// The default is greedy decoding: always the token with the highest logit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// Divides the logits, at least 0. 0 is greedy, 1 samples from the model's distribution, higher
    /// values are more random.
    pub temperature: f32,
    /// Samples from the smallest set of the likeliest tokens whose probabilities sum to at least this,
    /// 0 < p <= 1; 1 is off.
    pub top_p: f32,
    /// Samples from this many of the likeliest tokens; 0 is off.
    pub top_k: usize,
    /// Divides the logits of tokens that are already in the prompt or the completion, 0.01 to 100;
    /// 1 is off.
    pub repetition_penalty: f32,
    /// Random seed.
    pub seed: u64,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, top_k: 0, repetition_penalty: 1.0, seed: 0 }
    }
}

impl SamplingConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::SamplingSetting`] for the first setting that is out of range.
    pub fn validate(&self) -> Result<()> {
        let check = |name, value: f32, in_range: bool, expected| {
            if value.is_finite() && in_range {
                return Ok(());
            }
            Err(Error::SamplingSetting { name, found: value.to_string(), expected })
        };
        let Self { temperature, top_p, repetition_penalty, .. } = *self;
        check("temperature", temperature, temperature >= 0.0, "at least 0")?;
        check("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "above 0 and at most 1")?;
        let in_range = (0.01..=100.0).contains(&repetition_penalty);
        check("repetition_penalty", repetition_penalty, in_range, "0.01 to 100")
    }
}

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
    seen: HashSet<u32>,
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
        Ok(Self { config, rng, seen: HashSet::new() })
    }

    /// Adds tokens to those that the repetition penalty applies to.
    pub fn observe(&mut self, tokens: &[u32]) {
        if self.config.repetition_penalty != 1.0 {
            self.seen.extend(tokens);
        }
    }

    /// Samples a token and [observes](Self::observe) it.
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
        if let Some(bad) = logits.iter().find(|logit| logit.is_nan() || **logit == f32::INFINITY) {
            return Err(Error::NonFiniteLogits { found: *bad });
        }
        let scores = self.apply_repetition_penalty(logits);
        let token = if self.is_greedy() {
            argmax(&scores)
        } else {
            let uniform = self.next_uniform();
            let candidates = Candidates::full_vocab(&scores);
            self.sample_candidates(candidates, uniform).expect("no token is unlisted")
        };
        self.observe(&[token]);
        Ok(token)
    }

    pub(super) fn config(&self) -> &SamplingConfig {
        &self.config
    }

    /// Whether decoding is greedy, without random numbers.
    pub(super) fn is_greedy(&self) -> bool {
        self.config.temperature == 0.0
    }

    /// The next random number, 0 <= u < 1. Each sampled token takes one.
    pub(super) fn next_uniform(&mut self) -> f64 {
        self.rng.random()
    }

    /// Tokens that the repetition penalty applies to.
    pub(super) fn seen_tokens(&self) -> impl Iterator<Item = u32> {
        self.seen.iter().copied()
    }

    /// Samples with a random number; `None` if the result could be a token that is not listed.
    pub(super) fn sample_candidates(&self, candidates: Candidates, uniform: f64) -> Option<u32> {
        let SamplingConfig { temperature, top_p, top_k, .. } = self.config;
        candidates.sample(f64::from(temperature), top_k, f64::from(top_p), uniform)
    }

    fn apply_repetition_penalty(&self, logits: &[f32]) -> Vec<f32> {
        repetition_penalty::apply(logits, self.seen_tokens(), self.config.repetition_penalty)
    }
}

#[cfg(test)]
mod tests {
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
    fn repetition_penalty_applies_to_prompt_and_completion_tokens() {
        let config = SamplingConfig { repetition_penalty: 2.0, ..SamplingConfig::default() };
        let mut sampler = sampler(config);
        sampler.observe(&[0, 0, 99]);
        assert_eq!(sampler.apply_repetition_penalty(&[3.0, -1.0]), [1.5, -1.0]);
        assert_eq!(sampler.sample(&[3.0, 2.0, -5.0]).unwrap(), 1);
        assert_eq!(sampler.apply_repetition_penalty(&[3.0, -1.0]), [1.5, -2.0]);
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
    fn out_of_range_settings_are_errors() {
        let message = |config: SamplingConfig| config.validate().unwrap_err().to_string();
        let base = SamplingConfig::default;
        assert_eq!(
            message(SamplingConfig { temperature: -1.0, ..base() }),
            "temperature is -1, expected at least 0"
        );
        assert_eq!(
            message(SamplingConfig { top_p: 0.0, ..base() }),
            "top_p is 0, expected above 0 and at most 1"
        );
        assert_eq!(
            message(SamplingConfig { repetition_penalty: f32::NAN, ..base() }),
            "repetition_penalty is NaN, expected 0.01 to 100"
        );
    }

    #[test]
    fn nan_logits_are_an_error() {
        let error = sampler(stochastic()).sample(&[0.0, f32::NAN]).unwrap_err();
        assert_eq!(error.to_string(), "a logit of the model is NaN");
    }
}
