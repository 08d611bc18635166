//! logits ─► repetition penalty ─► the best, or a draw from the row's own random numbers
//!
//! What a row draws depends on its own seed and logits and on nothing else in its batch. Here are
//! the settings and the random numbers of a row, and the choice from logits on the host; for those
//! on a device there is [`BatchSampler`](crate::BatchSampler), which chooses the same.

use std::collections::HashSet;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::draw::{Scores, argmax};
use crate::error::{Error, Result};

/// How the next token is chosen.
///
/// The default is greedy: always the likeliest token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// Divides the logits; 0 takes the likeliest token, 1 draws as the model says. At least 0.
    pub temperature: f32,
    /// Draws among the likeliest tokens that together reach this probability, 0 < p <= 1.
    pub top_p: f32,
    /// Draws among this many of the likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Weakens tokens that the prompt or the answer already has; 1 is off, above 0.
    pub repetition_penalty: f32,
    /// Start of the random numbers.
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
    /// [`Error::Sampling`] names the first setting out of range.
    pub fn validate(&self) -> Result<()> {
        let check = |name, value: f32, good: bool, expected| {
            if value.is_finite() && good {
                return Ok(());
            }
            Err(Error::Sampling { name, found: value.to_string(), expected })
        };
        let Self { temperature, top_p, repetition_penalty, .. } = *self;
        check("temperature", temperature, temperature >= 0.0, "at least 0")?;
        check("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "above 0 and at most 1")?;
        let good = (0.01..=100.0).contains(&repetition_penalty);
        check("repetition_penalty", repetition_penalty, good, "0.01 to 100")
    }
}

/// Chooses the tokens of one row.
///
/// ```
/// use llama::{Sampler, SamplingConfig};
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
    /// A sampler whose random numbers are fixed by the config's seed and by `stream`, which keeps
    /// the rows of one batch apart.
    ///
    /// # Errors
    /// [`Error::Sampling`] for a setting out of range.
    pub fn new(config: SamplingConfig, stream: u64) -> Result<Self> {
        config.validate()?;
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        rng.set_stream(stream);
        Ok(Self { config, rng, seen: HashSet::new() })
    }

    /// Notes tokens of the prompt, for the repetition penalty.
    pub fn observe(&mut self, tokens: &[u32]) {
        if self.config.repetition_penalty != 1.0 {
            self.seen.extend(tokens);
        }
    }

    /// Chooses a token and notes it.
    ///
    /// `logits` holds one number a token of the vocabulary; equal ones are won by the lowest id.
    ///
    /// # Errors
    /// [`Error::NonFiniteLogits`] if a logit is NaN or infinite upwards, as a broken model gives.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        if let Some(bad) = logits.iter().find(|logit| logit.is_nan() || **logit == f32::INFINITY) {
            return Err(Error::NonFiniteLogits { found: *bad });
        }
        let scores = self.penalised(logits);
        let token = if self.is_greedy() {
            argmax(&scores)
        } else {
            let uniform = self.uniform();
            self.draw(Scores::all(&scores), uniform).expect("all scores are there")
        };
        self.observe(&[token]);
        Ok(token)
    }

    pub(crate) fn config(&self) -> &SamplingConfig {
        &self.config
    }

    /// Whether it takes the best token, without a draw.
    pub(crate) fn is_greedy(&self) -> bool {
        self.config.temperature == 0.0
    }

    /// The row's next random number, 0 <= u < 1: one for each token that is drawn.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.rng.random()
    }

    /// Tokens that the repetition penalty weakens.
    pub(crate) fn seen(&self) -> impl Iterator<Item = u32> {
        self.seen.iter().copied()
    }

    /// Draws with a random number; `None` where the choice may be one that is not listed.
    pub(crate) fn draw(&self, scores: Scores, uniform: f64) -> Option<u32> {
        let SamplingConfig { temperature, top_p, top_k, .. } = self.config;
        scores.draw(f64::from(temperature), top_k, f64::from(top_p), uniform)
    }

    /// Source: arXiv 1909.05858, section 4.1; negative logits are multiplied, as in
    /// `transformers`' `RepetitionPenaltyLogitsProcessor`.
    fn penalised(&self, logits: &[f32]) -> Vec<f32> {
        let mut scores = logits.to_vec();
        let penalty = self.config.repetition_penalty;
        for &token in &self.seen {
            if let Some(score) = scores.get_mut(token as usize) {
                *score = if *score < 0.0 { *score * penalty } else { *score / penalty };
            }
        }
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(config: SamplingConfig) -> Sampler {
        Sampler::new(config, 0).unwrap()
    }

    fn drawing() -> SamplingConfig {
        SamplingConfig { temperature: 1.0, seed: 7, ..SamplingConfig::default() }
    }

    /// How often each token was drawn in 20 000 draws.
    fn shares(config: SamplingConfig, logits: &[f32]) -> Vec<f64> {
        let mut sampler = sampler(config);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.sample(logits).unwrap() as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    /// Compares shares; 0.02 is more than five standard deviations of 20 000 draws.
    fn assert_shares(found: &[f64], expected: &[f64]) {
        let far = found.iter().zip(expected).any(|(found, expected)| {
            (found - expected).abs() > 0.02 || (*expected == 0.0 && *found > 0.0)
        });
        assert!(!far, "found {found:?}, expected {expected:?}");
    }

    /// Logits of the probabilities 0.4, 0.3, 0.2, 0.1.
    fn four() -> [f32; 4] {
        [0.4_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln(), 0.1_f32.ln()]
    }

    #[test]
    fn greedy_takes_the_highest_and_of_equals_the_first() {
        let mut sampler = sampler(SamplingConfig::default());
        assert_eq!(sampler.sample(&[0.0, 2.0, 1.0, 2.0]).unwrap(), 1);
        assert_eq!(sampler.sample(&[f32::NEG_INFINITY, -3.0]).unwrap(), 1);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        assert_shares(&shares(drawing(), &four()), &[0.4, 0.3, 0.2, 0.1]);
    }

    #[test]
    fn temperature_divides_the_logits() {
        // Half the temperature squares the probabilities.
        let config = SamplingConfig { temperature: 0.5, ..drawing() };
        let expected = [0.16 / 0.3, 0.09 / 0.3, 0.04 / 0.3, 0.01 / 0.3];
        assert_shares(&shares(config, &four()), &expected);
    }

    #[test]
    fn top_k_draws_among_the_k_likeliest() {
        let config = SamplingConfig { top_k: 2, ..drawing() };
        assert_shares(&shares(config, &four()), &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
    }

    #[test]
    fn top_k_keeps_what_is_as_likely_as_the_last() {
        let config = SamplingConfig { top_k: 1, ..drawing() };
        assert_shares(&shares(config, &[1.0, 1.0, 0.0]), &[0.5, 0.5, 0.0]);
    }

    #[test]
    fn top_p_draws_among_the_fewest_that_reach_p() {
        let config = SamplingConfig { top_p: 0.6, ..drawing() };
        assert_shares(&shares(config, &four()), &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
        let config = SamplingConfig { top_p: 0.001, ..drawing() };
        assert_shares(&shares(config, &four()), &[1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn top_p_is_measured_after_top_k() {
        // Among three tokens the first two have 7/9 of the weight, below 0.8: all three stay.
        let config = SamplingConfig { top_k: 3, top_p: 0.8, ..drawing() };
        assert_shares(&shares(config, &four()), &[4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0, 0.0]);
    }

    #[test]
    fn the_penalty_weakens_prompt_and_answer_tokens_of_either_sign() {
        let config = SamplingConfig { repetition_penalty: 2.0, ..SamplingConfig::default() };
        let mut sampler = sampler(config);
        sampler.observe(&[0, 0, 99]);
        assert_eq!(sampler.penalised(&[3.0, -1.0]), [1.5, -1.0]);
        assert_eq!(sampler.sample(&[3.0, 2.0, -5.0]).unwrap(), 1);
        assert_eq!(sampler.penalised(&[3.0, -1.0]), [1.5, -2.0]);
    }

    #[test]
    fn streams_of_one_seed_differ_and_each_can_be_repeated() {
        let row = |stream| {
            let mut sampler = Sampler::new(drawing(), stream).unwrap();
            (0..32).map(|_| sampler.sample(&four()).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(row(3), row(3));
        assert_ne!(row(0), row(1));
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
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
    fn a_broken_models_logits_are_refused() {
        let error = sampler(drawing()).sample(&[0.0, f32::NAN]).unwrap_err();
        assert_eq!(error.to_string(), "the model gave NaN as the score of a token");
    }
}
