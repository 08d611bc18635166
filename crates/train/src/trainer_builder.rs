//! Settings ─► [`Trainer`].

use std::path::PathBuf;
use std::sync::Arc;

use ::data::Mixture;
use burn::optim::Optimizer;
use communicator::{Alone, Communicator};
use llama::Llama;

use crate::config::{TrainConfig, TrainLength};
use crate::data::{Batching, Dealer, EmbeddingNoise, ExampleSampler, ExampleStore, group_by_image};
use crate::error::{Error, Result};
use crate::images::ImageFeatureCache;
use crate::moving_average::MovingAverage;
use crate::optim::{
    GroupLearningRates, LearningRateDecay, LearningRateSchedule, ParameterOptimizer,
};
use crate::prefix_cache::{FrozenPrefixCache, PrefixCacheConfig, PrefixFacts};
use crate::step_exchange::ExchangeStatistics;
use crate::trainable::TrainableWeights;
use crate::trainer::{Trainer, input_lens};

/// Settings of a [`Trainer`]. The defaults are those of [`TrainConfig`].
#[must_use]
pub struct TrainerBuilder<'a> {
    llama: &'a Llama,
    trainable: TrainableWeights,
    examples: ExampleStore,
    image_features: Option<&'a ImageFeatureCache>,
    config: TrainConfig,
    schedule: Option<LearningRateSchedule>,
    optimizer: Option<ParameterOptimizer>,
    prefix_cache_file: Option<PathBuf>,
    mixture: Option<Mixture>,
    ranks: &'a dyn Communicator,
}

impl<'a> Trainer<'a> {
    /// Starts a builder. `llama` is on a plain device, `trainable` on the same device with autodiff.
    ///
    /// ```no_run
    /// use burn::optim::SgdConfig;
    /// use train::{Example, TrainLength, TrainableWeights, Trainer};
    ///
    /// # fn train(llama: &llama::Llama, adapter: TrainableWeights, examples: Vec<Example>) -> train::Result<()> {
    /// let mut trainer = Trainer::builder(llama, adapter, examples)
    ///     .length(TrainLength::Steps(100))
    ///     .learning_rate(0.02)
    ///     .optimizer(SgdConfig::new().build())
    ///     .build()?;
    /// while !trainer.is_done() {
    ///     trainer.step()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(
        llama: &'a Llama,
        trainable: impl Into<TrainableWeights>,
        examples: impl Into<ExampleStore>,
    ) -> TrainerBuilder<'a> {
        TrainerBuilder {
            llama,
            trainable: trainable.into(),
            examples: examples.into(),
            image_features: None,
            config: TrainConfig::default(),
            schedule: None,
            optimizer: None,
            prefix_cache_file: None,
            mixture: None,
            ranks: &Alone,
        }
    }
}

impl<'a> TrainerBuilder<'a> {
    /// Sets everything that a config determines: batches, gradient accumulation, length, learning
    /// rates, AdamW, gradient clipping, moving average, noise, seed, order of examples, activation
    /// checkpointing and the frozen-prefix cache.
    pub fn config(mut self, config: &TrainConfig) -> Self {
        self.config = config.clone();
        (self.schedule, self.optimizer) = (None, None);
        self
    }

    /// Examples of a batch. Default: 8.
    pub fn batch_size(mut self, examples: usize) -> Self {
        self.config.batch_size = examples;
        self
    }

    /// Batches of similar length with at most some number of tokens, padding included, instead of
    /// batches of [`batch_size`](Self::batch_size) examples. Default: none.
    pub fn batch_tokens(mut self, tokens: Option<usize>) -> Self {
        self.config.batch_tokens = tokens;
        self
    }

    /// Batches of a step. Default: 1.
    pub fn gradient_accumulation_steps(mut self, batches: usize) -> Self {
        self.config.gradient_accumulation_steps = batches;
        self
    }

    /// Length of the training. Default: 3 epochs.
    pub fn length(mut self, length: TrainLength) -> Self {
        self.config.length = length;
        self
    }

    /// Peak learning rate. Default: 0.01.
    pub fn learning_rate(mut self, peak: f64) -> Self {
        self.config.learning_rate = peak;
        self
    }

    /// Fraction of all steps in which the learning rate warms up. Default: 0.1.
    pub fn warmup_ratio(mut self, ratio: f64) -> Self {
        self.config.warmup_ratio = ratio;
        self
    }

    /// The course of the learning rate after the warmup. Default: cosine.
    pub fn decay(mut self, decay: LearningRateDecay) -> Self {
        self.config.decay = decay;
        self
    }

    /// Learning rates of parameter groups. Default: none.
    pub fn group_learning_rates(mut self, rates: GroupLearningRates) -> Self {
        self.config.group_learning_rates = rates;
        self
    }

    /// Learning rate and number of steps, instead of [`length`](Self::length),
    /// [`learning_rate`](Self::learning_rate), [`warmup_ratio`](Self::warmup_ratio) and
    /// [`decay`](Self::decay).
    pub fn schedule(mut self, schedule: LearningRateSchedule) -> Self {
        self.schedule = Some(schedule);
        self
    }

    /// One of Burn's optimizers, from its config's `build()`, or your own. Default: AdamW with
    /// [`OptimizerConfig::default`](crate::OptimizerConfig).
    ///
    /// Parameters are flattened to one dimension: optimizers that need matrices, such as Muon or a
    /// factored Adafactor, do not work.
    pub fn optimizer<O: Optimizer>(mut self, optimizer: O) -> Self {
        self.optimizer = Some(ParameterOptimizer::new(optimizer));
        self
    }

    /// Maximum norm of all gradients together; larger gradients are scaled down. Default: none.
    pub fn max_gradient_norm(mut self, norm: Option<f64>) -> Self {
        self.config.optimizer.max_gradient_norm = norm;
        self
    }

    /// Decay of an exponential moving average of the weights, see
    /// [`Trainer::averaged`](Trainer::averaged). Default: none.
    pub fn ema_decay(mut self, decay: Option<f64>) -> Self {
        self.config.ema_decay = decay;
        self
    }

    /// NEFTune's alpha: the strength of noise on the token embeddings. Rows share no prefix then.
    /// Default: none.
    pub fn noise_alpha(mut self, alpha: Option<f64>) -> Self {
        self.config.noise_alpha = alpha;
        self
    }

    /// Random seed of the order of examples and of the noise. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    /// Whether each epoch shuffles the examples. Default: true.
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.config.shuffle = shuffle;
        self
    }

    /// Features of the images that examples name.
    pub fn image_features(mut self, features: impl Into<Option<&'a ImageFeatureCache>>) -> Self {
        self.image_features = features.into();
        self
    }

    /// Whether examples about the same image are consecutive: their common prefix is computed once,
    /// and a step has fewer images. Default: false.
    pub fn group_by_image(mut self, group: bool) -> Self {
        self.config.group_by_image = group;
        self
    }

    /// The shares of several sources in each epoch. Default: each epoch takes every example once.
    pub fn mixture(mut self, mixture: impl Into<Option<Mixture>>) -> Self {
        self.mixture = mixture.into();
        self
    }

    /// Whether to use [activation checkpointing](crate::activation_checkpointing): less memory, and
    /// about a third more time. Default: false. Always on with a quantized base, never for
    /// [`TrainableWeights::Full`].
    pub fn activation_checkpointing(mut self, on: bool) -> Self {
        self.config.activation_checkpointing = on;
        self
    }

    /// Settings of the frozen-prefix cache: the hidden states below the first adapted layer are computed
    /// once for all epochs. Default: off, because no limit of its size is known.
    ///
    /// On devices with fused kernels a cache in f32 changes no bit of the result; on others the result
    /// differs by rounding.
    pub fn prefix_cache(mut self, config: PrefixCacheConfig) -> Self {
        self.config.prefix_cache = config;
        self
    }

    /// The file of a frozen-prefix cache on disk. It is created by the first step; one that holds
    /// something else, or is damaged, is replaced.
    pub fn prefix_cache_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.prefix_cache_file = Some(path.into());
        self
    }

    /// The ranks that train together, each with the same model, weights, examples and settings: the rows of
    /// every step are divided among them. Default: [`Alone`].
    pub fn ranks(mut self, ranks: &'a dyn Communicator) -> Self {
        self.ranks = ranks;
        self
    }

    /// A trainer before its first step.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting out of range, a learning rate of a group that is not trained or a
    /// cache on disk without a file,
    /// [`Error::NoRows`] without examples.
    pub fn build(self) -> Result<Trainer<'a>> {
        let Self {
            llama,
            trainable,
            examples,
            image_features,
            config,
            schedule,
            optimizer,
            prefix_cache_file,
            mixture,
            ranks,
        } = self;
        config.validate()?;
        if examples.is_empty() {
            return Err(Error::NoRows {
                name: "examples".into(),
                purpose: "train on",
                reason: "there are none".into(),
            });
        }
        let example_groups = if config.group_by_image {
            group_by_image(examples.images()?.iter().map(Option::as_deref)).into()
        } else {
            Arc::default()
        };
        config.group_learning_rates.check(&trainable)?;
        let lengths = (0..examples.len()).map(|index| examples.n_tokens(index));
        let sampler = config.sampler(lengths);
        if mixture.is_some() && matches!(sampler.batching, Batching::Tokens(_)) {
            return Err(Error::Config {
                field: "the batch size",
                found: "a number of tokens, and the data is a mixture with weights".into(),
                expected: "a number of examples",
            });
        }
        let sampler = ExampleSampler { mixture: mixture.map(Arc::new), ..sampler };
        let schedule = schedule.unwrap_or_else(|| config.schedule(sampler.steps_per_epoch()));
        let optimizer = optimizer
            .unwrap_or_else(|| config.optimizer.init())
            .with_max_gradient_norm(config.optimizer.max_gradient_norm)
            .with_group_learning_rates(&config.group_learning_rates, schedule.peak_learning_rate);
        let seed = config.seed;
        let facts = PrefixFacts {
            first_layer: trainable.first_layer(),
            d_model: llama.config().d_model,
            repeats_examples: schedule.total_steps > sampler.steps_per_epoch(),
            noisy_embeddings: config.noise_alpha.is_some(),
        };
        let dealer = Dealer { rank: ranks.rank(), world: ranks.world(), prefers_owner: true };
        let prefix_cache = FrozenPrefixCache::new(
            facts,
            config.prefix_cache,
            prefix_cache_file,
            dealer,
            input_lens(&examples),
        )?;
        Ok(Trainer {
            llama,
            average: config.ema_decay.map(|decay| MovingAverage::new(decay, &trainable)),
            trainable,
            optimizer,
            completed_steps: 0,
            sampler,
            schedule,
            noise: config.noise_alpha.map(|alpha| EmbeddingNoise { alpha, seed }),
            activation_checkpointing: config.activation_checkpointing
                || llama.precision().bits().is_some(),
            image_features,
            example_groups,
            prefix_cache,
            prefetcher: None,
            pending: Vec::new(),
            ranks,
            exchanges: ExchangeStatistics::default(),
            most_tokens: 0,
            all_tokens: 0,
            examples,
        })
    }
}
