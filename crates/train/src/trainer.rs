//! batch ─► lower layers (no graph) ─► adapted layers ─► loss ─► gradients ─► AdamW
//!
//! The trainer knows steps; files, evaluation and reports are the business of
//! [`TrainingRun`](crate::TrainingRun).
//!
//! A step tells the device what to do and does not wait for it: its loss stays there until somebody
//! asks for [`reports`](Trainer::reports).

use std::collections::HashMap;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;
use llama::{Llama, read_back};

use crate::activation_checkpointing::checkpointed_adapter_backward;
use crate::data::BatchPrefetcher;
use crate::data::Example;
use crate::data::{Batch, ExampleSampler};
use crate::error::{Error, Result};
use crate::images::ImageFeatureCache;
use crate::loss::{label_loss, loss_scale};
use crate::optim::LearningRateSchedule;
use crate::optim::{ModuleGradients, OptimizerConfig, ParameterOptimizer};
use crate::trainable::TrainableWeights;

/// Trains step by step. Its whole state is what learns, the optimizer's moments and the number of
/// steps done: what is drawn at random is a function of the seed and the step.
pub struct Trainer<'a> {
    pub(crate) llama: &'a Llama,
    examples: Arc<[Example]>,
    pub(crate) trainable: TrainableWeights,
    pub(crate) optimizer: ParameterOptimizer,
    pub(crate) done: usize,
    order: ExampleSampler,
    schedule: LearningRateSchedule,
    activation_checkpointing: bool,
    image_features: Option<&'a ImageFeatureCache>,
    /// A number for each example, if those that are about one picture come together.
    example_groups: Arc<[usize]>,
    /// From the first step on.
    prefetcher: Option<BatchPrefetcher>,
    unread: Vec<PendingReport>,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: usize,
    /// Mean loss of a label before the step.
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Labels learned from.
    pub labels: usize,
    /// Tokens worked on, padding included.
    pub processed_tokens: usize,
}

/// A step whose numbers are still on the device.
struct PendingReport {
    /// All but the loss and the norm.
    report: StepReport,
    loss: Tensor<1>,
    norm: Tensor<1>,
}

/// For each example the number of the first one about the same picture.
fn groups_by_image(examples: &[Example]) -> Arc<[usize]> {
    let mut known = HashMap::new();
    let groups = examples.iter().enumerate().map(|(index, example)| {
        example.image.as_deref().map_or(index, |image| *known.entry(image).or_insert(index))
    });
    groups.collect()
}

impl<'a> Trainer<'a> {
    /// A trainer at its first step. The model lives on a plain device, what learns on the same
    /// device with autodiff.
    pub fn new(
        llama: &'a Llama,
        learner: impl Into<TrainableWeights>,
        examples: impl Into<Arc<[Example]>>,
        order: ExampleSampler,
        schedule: LearningRateSchedule,
        optimizer: &OptimizerConfig,
    ) -> Self {
        Self {
            llama,
            examples: examples.into(),
            trainable: learner.into(),
            optimizer: ParameterOptimizer::new(optimizer),
            done: 0,
            order,
            schedule,
            activation_checkpointing: llama.precision().bits().is_some(),
            image_features: None,
            example_groups: Arc::default(),
            prefetcher: None,
            unread: Vec::new(),
        }
    }

    /// With the pictures that examples name.
    pub fn with_image_features(mut self, pictures: Option<&'a ImageFeatureCache>) -> Self {
        self.image_features = pictures;
        self
    }

    /// Whether examples about one picture come one behind the other: what their texts have in common
    /// at the beginning is worked on once then, and steps see fewer pictures.
    pub fn with_group_by_image(mut self, together: bool) -> Self {
        self.example_groups =
            if together { groups_by_image(&self.examples) } else { Arc::default() };
        self
    }

    /// Whether to compute the layers twice and keep one layer's graph at a time
    /// ([`recompute`](crate::recompute())): less memory for about a third more time. With a quantised
    /// base that is always so; where the whole model learns it never is.
    pub fn with_activation_checkpointing(mut self, recompute: bool) -> Self {
        self.activation_checkpointing |= recompute;
        self
    }

    /// Steps done.
    pub fn completed_steps(&self) -> usize {
        self.done
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.order.steps_per_epoch()
    }

    /// Whether every step of the schedule is done.
    pub fn is_done(&self) -> bool {
        self.done >= self.schedule.total_steps
    }

    /// What was learned until now, without autodiff.
    pub fn trainable(&self) -> TrainableWeights {
        self.trainable.valid()
    }

    /// One step: the gradients of its batches, weighted by their labels, then AdamW. It does not
    /// wait for the device.
    ///
    /// # Errors
    /// [`Error::Model`] if a batch is longer than the model's context, or the device fails.
    pub fn step(&mut self) -> Result<()> {
        let _span = tracing::trace_span!("step").entered();
        let feed = self.prefetcher.get_or_insert_with(|| {
            BatchPrefetcher::new(
                self.examples.clone(),
                self.order,
                self.done,
                self.example_groups.clone(),
            )
        });
        let batches = feed.next_step();
        let labels: usize = batches.iter().map(Batch::n_labels).sum();
        let mut gradients = ModuleGradients::empty(&self.trainable);
        let mut loss: Option<Tensor<1>> = None;
        for batch in &batches {
            let own = self.accumulate_gradients(batch, labels, &mut gradients)?;
            loss = Some(match loss {
                Some(loss) => loss + own,
                None => own,
            });
        }
        if batches.iter().flat_map(|batch| &batch.images).any(Option::is_none) {
            gradients.fill_missing_with_zeros(&self.trainable);
        }
        let loss = loss.expect("a step has a batch");
        let _span = tracing::trace_span!("optimizer").entered();
        let norm = gradients.norm();
        let rate = self.schedule.learning_rate(self.done);
        let learner = self.trainable.clone();
        self.trainable = self.optimizer.step(learner, gradients, &norm, rate);
        self.done += 1;
        let slots = batches.iter().map(|batch| batch.n_processed_tokens(self.llama)).sum();
        let report = StepReport {
            step: self.done,
            loss: 0.0,
            learning_rate: rate,
            gradient_norm: 0.0,
            labels,
            processed_tokens: slots,
        };
        self.unread.push(PendingReport { report, loss, norm });
        Ok(())
    }

    /// Steps whose reports were not asked for yet.
    pub fn pending_reports(&self) -> usize {
        self.unread.len()
    }

    /// What each step since the last call did. Waits for the device, once.
    ///
    /// # Errors
    /// [`Error::Diverged`] names the first step whose loss or gradients are no numbers any more:
    /// what was learned is of no use then, go back to a checkpoint. [`Error::Model`] if the device
    /// fails.
    pub fn reports(&mut self) -> Result<Vec<StepReport>> {
        let unread = std::mem::take(&mut self.unread);
        if unread.is_empty() {
            return Ok(Vec::new());
        }
        let numbers = unread.iter().flat_map(|step| [step.loss.clone(), step.norm.clone()]);
        let numbers = read_back(Tensor::cat(numbers.collect(), 0))?;
        let numbers = numbers.iter::<f32>().map(f64::from).collect::<Vec<_>>();
        let reports = unread.into_iter().zip(numbers.chunks(2)).map(|(step, numbers)| {
            let report = StepReport { loss: numbers[0], gradient_norm: numbers[1], ..step.report };
            for (what, value) in [("loss", report.loss), ("gradient", report.gradient_norm)] {
                if !value.is_finite() {
                    return Err(Error::Diverged { what, value, step: report.step });
                }
            }
            Ok(report)
        });
        reports.collect()
    }

    /// Makes the step behind `done` the next one.
    pub(crate) fn resume_from_step(&mut self, done: usize) {
        self.done = done;
        self.prefetcher = None;
        self.unread.clear();
    }

    /// Adds the gradients of a batch and gives its loss, both divided by the labels of the whole
    /// step: summing batches then gives the mean.
    fn accumulate_gradients(
        &self,
        batch: &Batch,
        labels: usize,
        gradients: &mut ModuleGradients,
    ) -> Result<Tensor<1>> {
        let llama = self.llama;
        if let (true, TrainableWeights::Adapter(adapter)) =
            (self.activation_checkpointing, &self.trainable)
        {
            let views = self.image_features.and_then(|own| own.image_batch(&batch.image_names()));
            return checkpointed_adapter_backward(
                llama,
                adapter,
                batch,
                views.as_ref(),
                labels,
                gradients,
            );
        }
        let scale = loss_scale(llama);
        let forward = tracing::trace_span!("forward").entered();
        let sum = self.trainable.with_adapter(llama, self.image_features, |llama, adapter| {
            label_loss(llama, &*adapter.for_images(&batch.image_names()), batch)
        })?;
        drop(forward);
        let _span = tracing::trace_span!("backward").entered();
        let loss = sum / labels.max(1) as f64;
        let value = loss.clone().inner();
        if !loss.is_tracked() {
            // What sees learns alone, and no row of the batch has a picture.
            return Ok(value);
        }
        gradients.accumulate(&self.trainable, &mut (loss * scale).backward(), scale);
        Ok(value)
    }
}
