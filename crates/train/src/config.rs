//! Settings of a run, as `run.json` keeps them.

use std::path::PathBuf;

use adaption_prompt::PartKind;
use serde::{Deserialize, Serialize};

use crate::batch::ExampleSampler;
use crate::error::{Error, Result};
use crate::learner::FineTuningMethod;
use crate::optimizer::OptimizerConfig;
use crate::schedule::LearningRateSchedule;

/// Everything that decides what a run learns, but for the model and the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// What learns.
    pub method: FineTuningMethod,
    /// Text whose embeddings prompts start from, instead of random numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "prompt_text")]
    pub prompt_init_text: Option<String>,
    /// Folder or file of an adapter that training starts from; what it lacks of the method starts
    /// anew.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "crate::lossy::serialize_optional_path"
    )]
    #[serde(rename = "start")]
    pub initial_adapter: Option<PathBuf>,
    /// The parts that learn; all of them without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "parts")]
    pub trainable_groups: Option<Vec<PartKind>>,
    /// AdamW and clipping.
    pub optimizer: OptimizerConfig,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Share of all steps in which the learning rate rises, 0 to 1.
    #[serde(rename = "warmup")]
    pub warmup_ratio: f64,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Batches of a step.
    #[serde(rename = "accumulate")]
    pub gradient_accumulation_steps: usize,
    /// How long to train.
    pub length: TrainLength,
    /// Longest row in tokens; longer ones lose their end.
    pub max_len: usize,
    /// Whether to keep one layer's graph at a time, which a quantised base asks for in any case.
    #[serde(rename = "recompute")]
    pub activation_checkpointing: bool,
    /// Seed of the adapter's start and of the order of the rows.
    pub seed: u64,
    /// Whether each epoch takes the rows in an order of its own, or all of them in the file's.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub shuffle: bool,
    /// Whether rows about one picture come one behind the other: faster, with fewer pictures in a
    /// step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "pictures_together")]
    pub group_by_image: bool,
    /// Steps between two checkpoints; the end of an epoch always makes one.
    pub checkpoint_every: usize,
    /// Held-out rows that are answered before and after, for the exact match; 0: none.
    pub exact_match_rows: usize,
}

/// What `shuffle` is in settings that do not speak of it.
fn yes() -> bool {
    true
}

/// How long to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainLength {
    /// Times through the data.
    Epochs(usize),
    /// Steps of the optimizer.
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
            seed: 0,
            shuffle: true,
            group_by_image: false,
            checkpoint_every: 50,
            exact_match_rows: 128,
        }
    }
}

impl TrainConfig {
    /// Checks every number against its range.
    ///
    /// # Errors
    /// [`Error::Config`]
    pub fn validate(&self) -> Result<()> {
        let (TrainLength::Epochs(length) | TrainLength::Steps(length)) = self.length;
        for (field, value) in [
            ("the batch size", self.batch_size),
            ("the number of accumulated batches", self.gradient_accumulation_steps),
            ("the length of the training", length),
            ("the longest row", self.max_len),
            ("the distance of checkpoints", self.checkpoint_every),
        ] {
            if value == 0 {
                return Err(Error::Config { field, found: "0".into(), expected: "at least 1" });
            }
        }
        let OptimizerConfig { beta_1, beta_2, epsilon, weight_decay, max_gradient_norm: clip } =
            self.optimizer;
        let share = |x: f64| (0.0..1.0).contains(&x);
        let not_negative = |x: f64| x.is_finite() && x >= 0.0;
        let positive = |x: f64| x.is_finite() && x > 0.0;
        for (field, value, fits, expected) in [
            ("the learning rate", self.learning_rate, positive(self.learning_rate), "above 0"),
            ("the warm-up", self.warmup_ratio, (0.0..=1.0).contains(&self.warmup_ratio), "0 to 1"),
            ("beta 1", beta_1.into(), share(beta_1.into()), "at least 0, below 1"),
            ("beta 2", beta_2.into(), share(beta_2.into()), "at least 0, below 1"),
            ("epsilon", epsilon.into(), positive(epsilon.into()), "above 0"),
            ("weight decay", weight_decay.into(), not_negative(weight_decay.into()), "at least 0"),
            ("the clip", clip.unwrap_or(1.0), clip.is_none_or(positive), "above 0"),
        ] {
            if !fits {
                return Err(Error::Config { field, found: value.to_string(), expected });
            }
        }
        Ok(())
    }

    /// Which examples each step takes.
    pub fn order(&self, n_examples: usize) -> ExampleSampler {
        let Self { batch_size, gradient_accumulation_steps: accumulate, seed, shuffle, .. } = *self;
        ExampleSampler {
            n_examples,
            batch_size,
            gradient_accumulation_steps: accumulate,
            seed,
            shuffle,
        }
    }

    /// Learning rate of each step.
    pub fn schedule(&self, n_examples: usize) -> LearningRateSchedule {
        let total = match self.length {
            TrainLength::Epochs(epochs) => {
                epochs.saturating_mul(self.order(n_examples).steps_per_epoch())
            }
            TrainLength::Steps(steps) => steps,
        };
        let warmup = (self.warmup_ratio * total as f64).round() as usize;
        LearningRateSchedule {
            peak_learning_rate: self.learning_rate,
            warmup_steps: warmup,
            total_steps: total,
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
        // Thirteen rows make three steps of six rows, the last smaller.
        let LearningRateSchedule { warmup_steps: warmup, total_steps: total, .. } =
            config.schedule(13);
        assert_eq!((warmup, total), (3, 12));
    }
}
