//! batch ─► lower layers (no graph) ─► adapted layers ─► loss ─► gradients ─► optimizer
//!
//! The trainer performs steps; files, evaluation and events are part of
//! [`TrainingRun`](crate::TrainingRun).
//!
//! A step queues its work on the device and does not wait for it: the loss stays on the device until
//! [`reports`](Trainer::reports) reads it.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;
use communicator::Communicator;
use llama::{Llama, read_back};
use serde::{Deserialize, Serialize};

use crate::activation_checkpointing::checkpointed_adapter_backward_from;
use crate::data::{
    Batch, BatchPrefetcher, Dealer, EmbeddingNoise, ExampleSampler, ExampleStore, StepBatches,
};
use crate::error::Result;
use crate::images::ImageFeatureCache;
use crate::loss::{label_loss_from, loss_scale};
use crate::moving_average::MovingAverage;
use crate::optim::{LearningRateSchedule, ModuleGradients, ParameterOptimizer};
use crate::prefix_cache::{FrozenPrefixCache, PassInput, PrefixCacheDecision};
use crate::step_exchange::{ExchangeStatistics, StepResult, StepSignals};
use crate::trainable::TrainableWeights;

/// Trains step by step; made by [`Trainer::builder`].
///
/// Its state is the trainable weights, their moving average if there is one, the optimizer state and
/// the number of completed steps. The order of examples and the noise are functions of the seed and the
/// step.
pub struct Trainer<'a> {
    pub(crate) llama: &'a Llama,
    pub(crate) examples: ExampleStore,
    pub(crate) trainable: TrainableWeights,
    pub(crate) average: Option<MovingAverage>,
    pub(crate) optimizer: ParameterOptimizer,
    pub(crate) completed_steps: usize,
    pub(crate) sampler: ExampleSampler,
    pub(crate) schedule: LearningRateSchedule,
    pub(crate) noise: Option<EmbeddingNoise>,
    pub(crate) activation_checkpointing: bool,
    pub(crate) image_features: Option<&'a ImageFeatureCache>,
    /// The group of each example, if examples about the same image are consecutive; or empty.
    pub(crate) example_groups: Arc<[usize]>,
    pub(crate) prefix_cache: FrozenPrefixCache,
    /// Started by the first step.
    pub(crate) prefetcher: Option<BatchPrefetcher>,
    pub(crate) pending: Vec<PendingReport>,
    pub(crate) ranks: &'a dyn Communicator,
    pub(crate) exchanges: ExchangeStatistics,
    /// Tokens of the rank with most of them, summed over steps.
    pub(crate) most_tokens: usize,
    /// Tokens of all ranks in all steps.
    pub(crate) all_tokens: usize,
}

/// The report of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// Completed steps, this one included.
    pub step: usize,
    /// Mean loss of a label before the step, in nats. NaN or infinite: see
    /// [`is_skipped`](Self::is_skipped).
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Norm of all gradients together, before clipping. NaN or infinite: see
    /// [`is_skipped`](Self::is_skipped).
    pub gradient_norm: f64,
    /// Number of labels, of all ranks.
    pub labels: usize,
    /// Number of tokens that the model processed, padding included, of all ranks.
    pub processed_tokens: usize,
}

impl StepReport {
    /// Whether the step was skipped, because its loss or a gradient is NaN or infinite: the weights and
    /// the optimizer state are those before the step.
    pub fn is_skipped(&self) -> bool {
        !(self.loss.is_finite() && self.gradient_norm.is_finite())
    }
}

/// How the work of a training was divided among its ranks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkDivision {
    /// Number of ranks.
    pub ranks: usize,
    /// Tokens of the busiest rank of each step divided by the mean over ranks: 1 is perfect.
    pub imbalance: f64,
    /// Bytes that each rank gives to the sum of a step.
    pub all_reduce_bytes: usize,
    /// Seconds that this rank has spent in sums, waiting for others included.
    pub all_reduce_seconds: f64,
    /// The same for a step.
    pub all_reduce_seconds_per_step: f64,
}

/// The number of tokens that the model gets of each example.
pub(crate) fn input_lens(examples: &ExampleStore) -> impl ExactSizeIterator<Item = usize> {
    (0..examples.len()).map(|index| examples.n_tokens(index).saturating_sub(1).max(1))
}

/// A step whose loss and norm are still on the device.
pub(crate) struct PendingReport {
    /// Without loss and norm.
    report: StepReport,
    loss: Tensor<1>,
    norm: Tensor<1>,
}

impl Trainer<'_> {
    /// Number of completed steps.
    pub fn completed_steps(&self) -> usize {
        self.completed_steps
    }

    /// Number of steps of the whole training.
    pub fn total_steps(&self) -> usize {
        self.schedule.total_steps
    }

    /// Number of steps of an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.sampler.steps_per_epoch()
    }

    /// Whether all steps are complete.
    pub fn is_done(&self) -> bool {
        self.completed_steps >= self.schedule.total_steps
    }

    /// The current weights, without autodiff.
    pub fn trainable(&self) -> TrainableWeights {
        self.trainable.valid()
    }

    /// The moving average of the weights, or the current weights if there is none; without autodiff.
    pub fn averaged(&self) -> TrainableWeights {
        self.average.as_ref().map_or_else(|| self.trainable(), |average| average.weights.clone())
    }

    /// How the work of the steps since the start of this process was divided among the ranks; `None` if
    /// there is one rank, or no step was made.
    pub fn division(&self) -> Option<WorkDivision> {
        let ExchangeStatistics { steps, bytes, seconds } = self.exchanges;
        let ranks = self.ranks.world();
        (steps > 0).then(|| WorkDivision {
            ranks,
            imbalance: (self.most_tokens * ranks) as f64 / self.all_tokens.max(1) as f64,
            all_reduce_bytes: bytes,
            all_reduce_seconds: seconds,
            all_reduce_seconds_per_step: seconds / steps as f64,
        })
    }

    /// One step: the gradients of its batches, weighted by their labels, then the optimizer. Does not
    /// synchronize with the device, except to store hidden states in the frozen-prefix cache, and for the
    /// sum over ranks if there are several.
    ///
    /// A step whose loss or gradient is NaN or infinite is [skipped](StepReport::is_skipped). It counts
    /// as a step.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if a batch is longer than the model's context, or the device fails;
    /// [`Error::Read`](crate::Error::Read) and [`Error::File`](crate::Error::File) of a frozen-prefix cache on
    /// disk; as [`ExampleStore::get`] if an example cannot be read.
    pub fn step(&mut self) -> Result<()> {
        self.step_with_learning_rate(self.schedule.learning_rate(self.completed_steps))
    }

    /// As [`step`](Self::step), with another learning rate than that of the schedule.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_with_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        self.step_with_signals(learning_rate, StepSignals::default())?;
        Ok(())
    }

    /// As [`step`](Self::step); returns the signals that any rank has given.
    pub(crate) fn signaled_step(&mut self, signals: StepSignals) -> Result<StepSignals> {
        self.step_with_signals(self.schedule.learning_rate(self.completed_steps), signals)
    }

    fn step_with_signals(
        &mut self,
        learning_rate: f64,
        signals: StepSignals,
    ) -> Result<StepSignals> {
        let _span = tracing::trace_span!("step").entered();
        let is_alone = self.ranks.world() == 1;
        let dealer = Dealer {
            rank: self.ranks.rank(),
            world: self.ranks.world(),
            prefers_owner: matches!(self.prefix_cache.decision(), PrefixCacheDecision::On(_)),
        };
        let prefetcher = self.prefetcher.get_or_insert_with(|| {
            BatchPrefetcher::new(
                self.examples.clone(),
                self.sampler.clone(),
                self.completed_steps,
                self.example_groups.clone(),
                self.noise,
                dealer,
            )
        });
        let StepBatches { batches, most_tokens, all_tokens } = prefetcher.next_step()?;
        self.most_tokens += most_tokens;
        self.all_tokens += all_tokens;
        let labels: usize = batches.iter().map(Batch::n_labels).sum();
        let mut gradients = ModuleGradients::empty(&self.trainable);
        let mut loss: Option<Tensor<1>> = None;
        for batch in &batches {
            // Such as the share of a rank whose rows have no labels.
            if batch.n_labels() == 0 {
                continue;
            }
            let input = self.prefix_cache.pass_input(self.llama, &self.examples, batch)?;
            let batch_loss = self.accumulate_gradients(input, labels, &mut gradients);
            loss = Some(match loss {
                Some(loss) => loss + batch_loss,
                None => batch_loss,
            });
        }
        let may_lack_gradients =
            |batch: &Batch| batch.n_labels() == 0 || batch.images.iter().any(Option::is_none);
        if !is_alone || batches.iter().any(may_lack_gradients) {
            gradients.fill_missing_with_zeros(&self.trainable);
        }
        let processed_tokens =
            batches.iter().map(|batch| batch.n_processed_tokens(self.llama)).sum();
        let device = self.llama.device().without_autodiff();
        let loss = loss.unwrap_or_else(|| Tensor::zeros([1], &device));
        let mut result = StepResult { gradients, loss, labels, processed_tokens, signals };
        if !is_alone {
            result = result.sum_over_ranks(self.ranks, &device, &mut self.exchanges)?;
        }
        let StepResult { gradients, loss, labels, processed_tokens, signals } = result;
        let _span = tracing::trace_span!("optimizer").entered();
        // The optimizer skips a step whose norm is not finite; so a bad loss makes a bad norm.
        let norm = gradients.norm().mask_fill(loss.clone().is_finite().bool_not(), f32::NAN);
        let trainable = self.trainable.clone();
        self.trainable = self.optimizer.step(trainable, gradients, &norm, learning_rate);
        self.completed_steps += 1;
        if let Some(average) = &mut self.average {
            average.update(&self.trainable, self.completed_steps);
        }
        let report = StepReport {
            step: self.completed_steps,
            loss: 0.0,
            learning_rate,
            gradient_norm: 0.0,
            labels,
            processed_tokens,
        };
        self.pending.push(PendingReport { report, loss, norm });
        Ok(signals)
    }

    /// Number of steps since the last call of [`reports`](Self::reports).
    pub fn pending_reports(&self) -> usize {
        self.pending.len()
    }

    /// The reports of all steps since the last call, [skipped](StepReport::is_skipped) ones included.
    /// Synchronizes with the device once.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if the device fails.
    pub fn reports(&mut self) -> Result<Vec<StepReport>> {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(Vec::new());
        }
        let values = pending.iter().flat_map(|step| [step.loss.clone(), step.norm.clone()]);
        let values = read_back(Tensor::cat(values.collect(), 0))?;
        let values = values.iter::<f32>().map(f64::from).collect::<Vec<_>>();
        let reports = pending.into_iter().zip(values.chunks(2));
        let reports = reports.map(|(step, values)| StepReport {
            loss: values[0],
            gradient_norm: values[1],
            ..step.report
        });
        Ok(reports.collect())
    }

    /// Whether hidden states below the first adapted layer are cached.
    pub fn prefix_cache(&self) -> PrefixCacheDecision {
        self.prefix_cache.decision()
    }

    /// Continues a training whose frozen-prefix cache could use this many bytes of memory.
    ///
    /// Where cached and computed states are the same bits, what this machine can spare now counts.
    pub(crate) fn resume_prefix_cache(&mut self, spare_bytes: Option<u64>) {
        if !self.prefix_cache.is_exact(self.llama) {
            self.set_cache_spare_bytes(spare_bytes);
        }
    }

    /// Decides what is cached with this memory. Before the first step only.
    pub(crate) fn set_cache_spare_bytes(&mut self, spare_bytes: Option<u64>) {
        self.prefix_cache.set_spare_bytes(spare_bytes, input_lens(&self.examples));
    }

    /// Continues after some number of completed steps.
    pub(crate) fn resume_from_step(&mut self, completed_steps: usize) {
        self.completed_steps = completed_steps;
        self.prefetcher = None;
        self.pending.clear();
    }

    /// Adds the gradients of a batch and returns its loss. Both are divided by the labels of the whole
    /// step, so that the sum over batches is the mean over labels.
    fn accumulate_gradients(
        &self,
        input: PassInput,
        labels: usize,
        gradients: &mut ModuleGradients,
    ) -> Tensor<1> {
        let (llama, batch) = (self.llama, input.batch);
        if let (true, TrainableWeights::Adapter(adapter)) =
            (self.activation_checkpointing, &self.trainable)
        {
            let images =
                self.image_features.and_then(|cache| cache.image_batch(&batch.image_names()));
            let images = images.as_ref();
            return checkpointed_adapter_backward_from(
                llama, adapter, input, images, labels, gradients,
            );
        }
        let scale = loss_scale(llama);
        let forward = tracing::trace_span!("forward").entered();
        let sum = self.trainable.with_adapter(llama, self.image_features, |llama, adapter| {
            label_loss_from(llama, &*adapter.for_batch(batch), input)
        });
        drop(forward);
        let _span = tracing::trace_span!("backward").entered();
        let loss = sum / labels.max(1) as f64;
        let value = loss.clone().inner();
        if !loss.is_tracked() {
            // Only the image parameters are trainable, and no row of the batch has an image.
            return value;
        }
        gradients.accumulate(&self.trainable, &mut (loss * scale).backward(), scale);
        value
    }
}
