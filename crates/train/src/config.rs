//! Hyperparameters of a training run.

use std::path::PathBuf;

use adaption_prompt::PartKind;
use serde::{Deserialize, Serialize};
use text::{LossOn, PromptFormat};

use crate::data::{Batching, ExampleSampler, TokenBatches};
use crate::error::{Error, Result};
use crate::optim::{GroupLearningRates, LearningRateDecay, LearningRateSchedule, OptimizerConfig};
use crate::prefix_cache::PrefixCacheConfig;
use crate::trainable::FineTuningMethod;

/// Hyperparameters of a training run: with the model and the data they determine its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct TrainConfig {
    /// What is fine-tuned.
    pub method: FineTuningMethod,
    /// Text whose token embeddings initialize the prompts, instead of random values.
    #[serde(rename = "prompt_text", default, skip_serializing_if = "Option::is_none")]
    pub prompt_init_text: Option<String>,
    /// Folder or file of an adapter to start from; parts of the method that it lacks are fresh.
    #[serde(
        rename = "start",
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "crate::json::serialize_optional_path"
    )]
    pub initial_adapter: Option<PathBuf>,
    /// The parameter groups to train; `None`: all of them.
    #[serde(rename = "parts", default, skip_serializing_if = "Option::is_none")]
    pub trainable_groups: Option<Vec<PartKind>>,
    /// AdamW and gradient clipping.
    pub optimizer: OptimizerConfig,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Fraction of all steps in which the learning rate warms up, 0 to 1.
    #[serde(rename = "warmup")]
    pub warmup_ratio: f64,
    /// The course of the learning rate after the warmup.
    #[serde(rename = "schedule", default, skip_serializing_if = "LearningRateDecay::is_default")]
    pub decay: LearningRateDecay,
    /// Learning rates of parameter groups.
    #[serde(default, skip_serializing_if = "GroupLearningRates::is_empty")]
    pub group_learning_rates: GroupLearningRates,
    /// Examples of a batch.
    pub batch_size: usize,
    /// Tokens of a batch, padding included: batches of similar length, instead of `batch_size`
    /// examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Batches of a step.
    #[serde(rename = "accumulate")]
    pub gradient_accumulation_steps: usize,
    /// Length of the training.
    pub length: TrainLength,
    /// Maximum length of a row in tokens; longer rows are truncated.
    pub max_len: usize,
    /// Whether to use activation checkpointing; a quantized base always uses it.
    #[serde(rename = "recompute")]
    pub activation_checkpointing: bool,
    /// How rows become prompts; the adapter's folder stores it.
    #[serde(default, skip_serializing_if = "PromptFormat::is_default")]
    pub prompt: PromptFormat,
    /// Which tokens of a row are labels.
    #[serde(default, skip_serializing_if = "is_default_loss")]
    pub loss_on: LossOn,
    /// Whether the hidden states below the first adapted layer are computed once for all epochs.
    #[serde(default, skip_serializing_if = "PrefixCacheConfig::is_default")]
    pub prefix_cache: PrefixCacheConfig,
    /// NEFTune's alpha: the strength of noise on the token embeddings in training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_alpha: Option<f64>,
    /// Decay of an exponential moving average of the weights, which is evaluated and saved instead of
    /// the latest weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
    /// Evaluations without a lower held-out loss after which the training stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<usize>,
    /// Whether to keep the adapter with the lowest held-out loss, instead of the last one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_best: bool,
    /// Random seed of the initialization, the order of examples and the noise.
    pub seed: u64,
    /// Whether each epoch shuffles the examples; otherwise all epochs keep the order of the data.
    #[serde(default = "default_true", skip_serializing_if = "Clone::clone")]
    pub shuffle: bool,
    /// Whether rows about the same image are consecutive: faster, with fewer images in a step.
    #[serde(rename = "pictures_together", default, skip_serializing_if = "std::ops::Not::not")]
    pub group_by_image: bool,
    /// Steps between two checkpoints; each epoch also ends with one.
    pub checkpoint_every: usize,
    /// Number of held-out rows that are answered before and after training for the exact match.
    pub exact_match_rows: usize,
    /// Minutes after which a checkpoint is saved, in addition to those of `checkpoint_every`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_minutes: Option<f64>,
    /// How many checkpoints are kept, the latest included.
    #[serde(rename = "keep", default = "default_kept", skip_serializing_if = "is_default_kept")]
    pub kept_checkpoints: usize,
    /// Consecutive steps with a NaN or infinite loss or gradient after which the run ends.
    #[serde(default = "default_max_skipped", skip_serializing_if = "is_default_max_skipped")]
    pub max_skipped_steps: usize,
}

fn default_true() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_default_loss(loss_on: &LossOn) -> bool {
    *loss_on == LossOn::default()
}

fn default_kept() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_default_kept(kept: &usize) -> bool {
    *kept == default_kept()
}

fn default_max_skipped() -> usize {
    10
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_default_max_skipped(steps: &usize) -> bool {
    *steps == default_max_skipped()
}

/// Length of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainLength {
    /// Number of epochs.
    Epochs(usize),
    /// Number of optimizer steps.
    Steps(usize),
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            method: FineTuningMethod::default(),
            prompt_init_text: None,
            initial_adapter: None,
            trainable_groups: None,
            optimizer: OptimizerConfig::default(),
            learning_rate: 1e-2,
            warmup_ratio: 0.1,
            decay: LearningRateDecay::default(),
            group_learning_rates: GroupLearningRates::default(),
            batch_size: 8,
            batch_tokens: None,
            gradient_accumulation_steps: 1,
            length: TrainLength::Epochs(3),
            max_len: 512,
            activation_checkpointing: false,
            prompt: PromptFormat::default(),
            loss_on: LossOn::default(),
            prefix_cache: PrefixCacheConfig::default(),
            noise_alpha: None,
            ema_decay: None,
            early_stop: None,
            keep_best: false,
            seed: 0,
            shuffle: true,
            group_by_image: false,
            checkpoint_every: 50,
            exact_match_rows: 128,
            checkpoint_minutes: None,
            kept_checkpoints: default_kept(),
            max_skipped_steps: default_max_skipped(),
        }
    }
}

impl TrainConfig {
    /// Checks the range of every number.
    ///
    /// # Errors
    /// [`Error::Config`]
    pub fn validate(&self) -> Result<()> {
        let (TrainLength::Epochs(length) | TrainLength::Steps(length)) = self.length;
        for (field, value) in [
            ("the batch size", self.batch_size),
            ("the number of gradient accumulation steps", self.gradient_accumulation_steps),
            ("the length of the training", length),
            ("the maximum length", self.max_len),
            ("the checkpoint interval", self.checkpoint_every),
            ("the number of kept checkpoints", self.kept_checkpoints),
            ("the maximum number of skipped steps", self.max_skipped_steps),
            ("the number of tokens of a batch", self.batch_tokens.unwrap_or(1)),
            ("the number of evaluations without improvement", self.early_stop.unwrap_or(1)),
        ] {
            if value == 0 {
                return Err(Error::Config { field, found: "0".into(), expected: "at least 1" });
            }
        }
        if let (Some(tokens), true) = (self.batch_tokens, self.group_by_image) {
            return Err(Error::Config {
                field: "the number of tokens of a batch",
                found: tokens.to_string(),
                expected: "none: rows about the same image are consecutive",
            });
        }
        let OptimizerConfig { beta_1, beta_2, epsilon, weight_decay, max_gradient_norm } =
            self.optimizer;
        let (beta_1, beta_2) = (f64::from(beta_1), f64::from(beta_2));
        let (epsilon, weight_decay) = (f64::from(epsilon), f64::from(weight_decay));
        let is_decay_rate = |x: f64| (0.0..1.0).contains(&x);
        let not_negative = |x: f64| x.is_finite() && x >= 0.0;
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let max_norm = max_gradient_norm.unwrap_or(1.0);
        let minutes = self.checkpoint_minutes.unwrap_or(1.0);
        let warmup_is_valid = (0.0..=1.0).contains(&self.warmup_ratio);
        let noise_alpha = self.noise_alpha.unwrap_or(1.0);
        let ema_decay = self.ema_decay.unwrap_or(0.5);
        let ema_is_valid = ema_decay > 0.0 && ema_decay < 1.0;
        let group_rates = self.group_learning_rates.values();
        let group_rates = group_rates
            .map(|rate| ("the learning rate of a group", rate, not_negative(rate), "at least 0"));
        for (field, value, is_valid, expected) in [
            ("the learning rate", self.learning_rate, positive(self.learning_rate), "above 0"),
            ("the warmup ratio", self.warmup_ratio, warmup_is_valid, "0 to 1"),
            ("beta 1", beta_1, is_decay_rate(beta_1), "at least 0, below 1"),
            ("beta 2", beta_2, is_decay_rate(beta_2), "at least 0, below 1"),
            ("epsilon", epsilon, positive(epsilon), "above 0"),
            ("weight decay", weight_decay, not_negative(weight_decay), "at least 0"),
            ("the maximum gradient norm", max_norm, positive(max_norm), "above 0"),
            ("the checkpoint interval in minutes", minutes, positive(minutes), "above 0"),
            ("the strength of the noise", noise_alpha, positive(noise_alpha), "above 0"),
            ("the decay of the moving average", ema_decay, ema_is_valid, "between 0 and 1"),
        ]
        .into_iter()
        .chain(group_rates)
        {
            if !is_valid {
                return Err(Error::Config { field, found: value.to_string(), expected });
            }
        }
        Ok(())
    }

    /// Which examples each step takes. `lengths` are those of the examples, in tokens.
    pub fn sampler(&self, lengths: impl ExactSizeIterator<Item = usize>) -> ExampleSampler {
        let Self { batch_size, gradient_accumulation_steps, seed, shuffle, .. } = *self;
        let batching = match self.batch_tokens {
            Some(budget) => Batching::Tokens(TokenBatches::new(lengths, budget)),
            None => Batching::Examples { n_examples: lengths.len(), batch_size },
        };
        ExampleSampler { batching, gradient_accumulation_steps, seed, shuffle, mixture: None }
    }

    /// The learning rate of each step.
    pub fn schedule(&self, steps_per_epoch: usize) -> LearningRateSchedule {
        let total_steps = match self.length {
            TrainLength::Epochs(epochs) => epochs.saturating_mul(steps_per_epoch),
            TrainLength::Steps(steps) => steps,
        };
        LearningRateSchedule {
            peak_learning_rate: self.learning_rate,
            warmup_steps: (self.warmup_ratio * total_steps as f64).round() as usize,
            total_steps,
            decay: self.decay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        TrainConfig::default().validate().unwrap();
    }

    #[test]
    fn the_defaults_of_the_prompt_are_not_written() {
        let json = serde_json::to_string(&TrainConfig::default()).unwrap();
        assert!(!json.contains("\"prompt\"") && !json.contains("loss_on"), "{json}");
        assert_eq!(serde_json::from_str::<TrainConfig>(&json).unwrap(), TrainConfig::default());
    }

    #[test]
    fn a_number_out_of_range_is_named() {
        let message = |config: TrainConfig| config.validate().unwrap_err().to_string();
        let rate = TrainConfig { learning_rate: f64::NAN, ..Default::default() };
        assert_eq!(message(rate), "the learning rate is NaN, expected above 0");
        let batch = TrainConfig { batch_size: 0, ..Default::default() };
        assert_eq!(message(batch), "the batch size is 0, expected at least 1");
        let decay = TrainConfig { ema_decay: Some(1.0), ..Default::default() };
        let expected = "the decay of the moving average is 1, expected between 0 and 1";
        assert_eq!(message(decay), expected);
        let gates = GroupLearningRates { gates: Some(-0.5), ..Default::default() };
        let gates = TrainConfig { group_learning_rates: gates, ..Default::default() };
        assert_eq!(message(gates), "the learning rate of a group is -0.5, expected at least 0");
    }

    #[test]
    fn settings_of_older_runs_are_those_of_the_defaults() {
        let defaults = serde_json::to_value(TrainConfig::default()).unwrap();
        let names = defaults.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
        let older = [
            "method",
            "optimizer",
            "learning_rate",
            "warmup",
            "batch_size",
            "accumulate",
            "length",
            "max_len",
            "recompute",
            "seed",
            "checkpoint_every",
            "exact_match_rows",
        ];
        assert!(names.iter().all(|name| older.contains(name)), "{names:?}");
        let read: TrainConfig = serde_json::from_value(defaults).unwrap();
        assert_eq!(read, TrainConfig::default());
    }

    #[test]
    fn new_settings_survive_a_round_trip() {
        let config = TrainConfig {
            decay: LearningRateDecay::Wsd,
            group_learning_rates: GroupLearningRates {
                gates: Some(0.3),
                parts: [(PartKind::Lora, 1e-3)].into(),
            },
            batch_tokens: Some(4096),
            noise_alpha: Some(5.0),
            ema_decay: Some(0.99),
            early_stop: Some(2),
            keep_best: true,
            ..TrainConfig::default()
        };
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json["group_learning_rates"]["parts"]["lora"], 1e-3);
        assert_eq!(json["schedule"], "wsd");
        assert_eq!(serde_json::from_value::<TrainConfig>(json).unwrap(), config);
    }

    #[test]
    fn epochs_become_steps() {
        let config = TrainConfig {
            length: TrainLength::Epochs(4),
            batch_size: 2,
            gradient_accumulation_steps: 3,
            warmup_ratio: 0.25,
            ..Default::default()
        };
        // Thirteen rows make three steps of at most six rows.
        let steps_per_epoch = config.sampler([9; 13].into_iter()).steps_per_epoch();
        let LearningRateSchedule { warmup_steps, total_steps, .. } =
            config.schedule(steps_per_epoch);
        assert_eq!((warmup_steps, total_steps), (3, 12));
    }
}
