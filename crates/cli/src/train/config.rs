//! Options of `train` and defaults ─► [`TrainConfig`]

use train::{GroupLearningRates, TrainConfig, TrainLength};

use super::Args;
use super::learning_rate::LearningRateChoice;
use crate::defaults;

impl Args {
    /// The training config of a model with `n_layers` layers; options replace the defaults.
    pub(super) fn config(&self, n_layers: usize) -> TrainConfig {
        let built_in = self.model.model.is_none();
        let fusion_layers = self.image_conditioning.early_fusion_layers();
        let method = self.method.method(defaults::prompt_config(n_layers, built_in, fusion_layers));
        let learning_rate = defaults::learning_rate(&method, built_in);
        let mut config = TrainConfig { method, learning_rate, ..TrainConfig::default() };
        config.prompt_init_text.clone_from(&self.method.prompt_init_text);
        let set = |field: &mut usize, value: Option<usize>| {
            if let Some(value) = value {
                *field = value;
            }
        };
        set(&mut config.batch_size, self.batch_size);
        set(&mut config.gradient_accumulation_steps, self.gradient_accumulation_steps);
        set(&mut config.max_len, self.max_len);
        set(&mut config.checkpoint_every, self.checkpoint_every);
        set(&mut config.exact_match_rows, self.exact_match_rows);
        set(&mut config.kept_checkpoints, self.keep);
        set(&mut config.max_skipped_steps, self.max_skipped_steps);
        config.checkpoint_minutes = self.checkpoint_minutes;
        if let Some(epochs) = self.epochs {
            config.length = TrainLength::Epochs(epochs);
        }
        if let Some(steps) = self.max_steps {
            config.length = TrainLength::Steps(steps);
        }
        if let Some(LearningRateChoice::Rate(rate)) = self.learning_rate {
            config.learning_rate = rate;
        }
        let decay = self.schedule.map(Into::into);
        config.decay = decay.unwrap_or(config.decay);
        config.group_learning_rates = GroupLearningRates {
            gates: self.lr_gate,
            parts: self.lr_part.iter().copied().collect(),
        };
        config.batch_tokens = self.batch_tokens;
        config.ema_decay = self.ema;
        config.noise_alpha = self.noise;
        config.early_stop = self.early_stop;
        config.keep_best = self.keep_best;
        config.warmup_ratio = self.warmup_ratio.unwrap_or(config.warmup_ratio);
        config.shuffle = !self.no_shuffle;
        config.group_by_image = self.group_by_image;
        config.loss_on = self.prompt.loss_on();
        config.initial_adapter.clone_from(&self.from_adapter);
        config.trainable_groups = (!self.trainable.is_empty()).then(|| self.trainable.clone());
        config.seed = self.seed.unwrap_or(config.seed);
        config.activation_checkpointing = self.activation_checkpointing
            || self.model.precision.is_some_and(|precision| precision.bits().is_some());
        config.prefix_cache = self.cache.config();
        config.optimizer.weight_decay = self.weight_decay.unwrap_or(config.optimizer.weight_decay);
        config.optimizer.max_gradient_norm =
            self.max_gradient_norm.or(config.optimizer.max_gradient_norm);
        config
    }
}
