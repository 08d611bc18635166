//! Hyperparameters of a training run.

use std::path::PathBuf;

use adaption_prompt::PartKind;
use serde::{Deserialize, Serialize};
use text::{LossOn, PromptFormat};

use crate::data::ExampleSampler;
use crate::error::{Error, Result};
use crate::optim::{LearningRateSchedule, OptimizerConfig};
use crate::trainable::FineTuningMethod;

/// Hyperparameters of a training run: with the model and the data they determine its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Examples of a batch.
    pub batch_size: usize,
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
    /// Random seed of the initialization and of the order of examples.
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
}

fn default_true() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "has the signature that serde calls")]
fn is_default_loss(loss_on: &LossOn) -> bool {
    *loss_on == LossOn::default()
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
            batch_size: 8,
            gradient_accumulation_steps: 1,
            length: TrainLength::Epochs(3),
            max_len: 512,
            activation_checkpointing: false,
            prompt: PromptFormat::default(),
            loss_on: LossOn::default(),
            seed: 0,
            shuffle: true,
            group_by_image: false,
            checkpoint_every: 50,
            exact_match_rows: 128,
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
        ] {
            if value == 0 {
                return Err(Error::Config { field, found: "0".into(), expected: "at least 1" });
            }
        }
        let OptimizerConfig { beta_1, beta_2, epsilon, weight_decay, max_gradient_norm } =
            self.optimizer;
        let (beta_1, beta_2) = (f64::from(beta_1), f64::from(beta_2));
        let (epsilon, weight_decay) = (f64::from(epsilon), f64::from(weight_decay));
        let is_decay_rate = |x: f64| (0.0..1.0).contains(&x);
        let not_negative = |x: f64| x.is_finite() && x >= 0.0;
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let max_norm = max_gradient_norm.unwrap_or(1.0);
        let warmup_is_valid = (0.0..=1.0).contains(&self.warmup_ratio);
        for (field, value, is_valid, expected) in [
            ("the learning rate", self.learning_rate, positive(self.learning_rate), "above 0"),
            ("the warmup ratio", self.warmup_ratio, warmup_is_valid, "0 to 1"),
            ("beta 1", beta_1, is_decay_rate(beta_1), "at least 0, below 1"),
            ("beta 2", beta_2, is_decay_rate(beta_2), "at least 0, below 1"),
            ("epsilon", epsilon, positive(epsilon), "above 0"),
            ("weight decay", weight_decay, not_negative(weight_decay), "at least 0"),
            ("the maximum gradient norm", max_norm, positive(max_norm), "above 0"),
        ] {
            if !is_valid {
                return Err(Error::Config { field, found: value.to_string(), expected });
            }
        }
        Ok(())
    }

    /// Which examples each step takes.
    pub fn sampler(&self, n_examples: usize) -> ExampleSampler {
        let Self { batch_size, gradient_accumulation_steps, seed, shuffle, .. } = *self;
        ExampleSampler { n_examples, batch_size, gradient_accumulation_steps, seed, shuffle }
    }

    /// The learning rate of each step.
    pub fn schedule(&self, n_examples: usize) -> LearningRateSchedule {
        let total_steps = match self.length {
            TrainLength::Epochs(epochs) => {
                epochs.saturating_mul(self.sampler(n_examples).steps_per_epoch())
            }
            TrainLength::Steps(steps) => steps,
        };
        LearningRateSchedule {
            peak_learning_rate: self.learning_rate,
            warmup_steps: (self.warmup_ratio * total_steps as f64).round() as usize,
            total_steps,
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
        let LearningRateSchedule { warmup_steps, total_steps, .. } = config.schedule(13);
        assert_eq!((warmup_steps, total_steps), (3, 12));
    }
}
