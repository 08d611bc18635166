//! Sampling settings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
    /// Samples from tokens that are at least this many times as likely as the likeliest one, 0 to 1;
    /// 0 is off.
    pub min_p: f32,
    /// Divides the logits of tokens that are already in the prompt or the completion, 0.01 to 100;
    /// 1 is off.
    pub repetition_penalty: f32,
    /// Is subtracted from the logit of a token once for each time that the token is in the completion,
    /// -2 to 2; 0 is off.
    pub frequency_penalty: f32,
    /// Is subtracted from the logits of tokens that are in the completion, -2 to 2; 0 is off.
    pub presence_penalty: f32,
    /// Is added to the logits of single tokens, -100 to 100. Ids outside the vocabulary have no effect.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Random seed.
    pub seed: u64,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
        }
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
        let Self { temperature, top_p, min_p, repetition_penalty, .. } = *self;
        check("temperature", temperature, temperature >= 0.0, "at least 0")?;
        check("top_p", top_p, top_p > 0.0 && top_p <= 1.0, "above 0 and at most 1")?;
        check("min_p", min_p, (0.0..=1.0).contains(&min_p), "0 to 1")?;
        let in_range = (0.01..=100.0).contains(&repetition_penalty);
        check("repetition_penalty", repetition_penalty, in_range, "0.01 to 100")?;
        for (name, penalty) in [
            ("frequency_penalty", self.frequency_penalty),
            ("presence_penalty", self.presence_penalty),
        ] {
            check(name, penalty, (-2.0..=2.0).contains(&penalty), "-2 to 2")?;
        }
        self.logit_bias.values().try_for_each(|&bias| {
            check("logit_bias", bias, (-100.0..=100.0).contains(&bias), "-100 to 100")
        })
    }

    /// Whether decoding is greedy, without random numbers.
    pub(super) fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Whether logits change with the tokens of the completion, other than by the repetition penalty, or
    /// by a bias.
    pub(super) fn has_bias_or_counts(&self) -> bool {
        self.counts_tokens() || !self.logit_bias.is_empty()
    }

    /// Whether the number of times that a token was sampled has an effect.
    pub(super) fn counts_tokens(&self) -> bool {
        self.frequency_penalty != 0.0 || self.presence_penalty != 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_range_settings_are_errors() {
        let message = |config: SamplingConfig| config.validate().unwrap_err().to_string();
        let base = SamplingConfig::default;
        for (config, expected) in [
            (
                SamplingConfig { temperature: -1.0, ..base() },
                "temperature is -1, expected at least 0",
            ),
            (SamplingConfig { top_p: 0.0, ..base() }, "top_p is 0, expected above 0 and at most 1"),
            (SamplingConfig { min_p: 1.5, ..base() }, "min_p is 1.5, expected 0 to 1"),
            (
                SamplingConfig { repetition_penalty: f32::NAN, ..base() },
                "repetition_penalty is NaN, expected 0.01 to 100",
            ),
            (
                SamplingConfig { frequency_penalty: 2.5, ..base() },
                "frequency_penalty is 2.5, expected -2 to 2",
            ),
            (
                SamplingConfig { presence_penalty: -3.0, ..base() },
                "presence_penalty is -3, expected -2 to 2",
            ),
            (
                SamplingConfig { logit_bias: BTreeMap::from([(1, 0.0), (7, 101.0)]), ..base() },
                "logit_bias is 101, expected -100 to 100",
            ),
        ] {
            assert_eq!(message(config), expected);
        }
    }

    #[test]
    fn files_without_the_newer_settings_are_read() {
        let json = r#"{"temperature":0.5,"top_p":0.9,"top_k":3,"repetition_penalty":1.1,"seed":7}"#;
        let expected = SamplingConfig {
            temperature: 0.5,
            top_p: 0.9,
            top_k: 3,
            repetition_penalty: 1.1,
            seed: 7,
            ..SamplingConfig::default()
        };
        assert_eq!(serde_json::from_str::<SamplingConfig>(json).unwrap(), expected);
    }

    #[test]
    fn settings_round_trip_through_json() {
        let config = SamplingConfig {
            min_p: 0.25,
            logit_bias: BTreeMap::from([(3, -100.0), (40_000, 0.5)]),
            ..SamplingConfig::default()
        };
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<SamplingConfig>(&json).unwrap(), config);
    }
}
