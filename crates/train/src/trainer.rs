//! batch ─► lower layers (no graph) ─► adapted layers ─► loss ─► gradients ─► AdamW
//!
//! The trainer knows steps; files, evaluation and reports are the business of
//! [`Job`](crate::Job).

use burn::module::Module;
use llama::Llama;

use crate::batch::{Batch, Order};
use crate::error::{Error, Result};
use crate::example::Example;
use crate::learner::Learner;
use crate::loss::label_loss;
use crate::optimizer::{ModuleGradients, Optimizer, OptimizerConfig};
use crate::recompute::recompute_adapter;
use crate::schedule::Schedule;

/// Trains step by step. Its whole state is what learns, the optimizer's moments and the number of
/// steps done: what is drawn at random is a function of the seed and the step.
pub struct Trainer<'a> {
    pub(crate) llama: &'a Llama,
    examples: &'a [Example],
    pub(crate) learner: Learner,
    pub(crate) optimizer: Optimizer,
    pub(crate) done: usize,
    order: Order,
    schedule: Schedule,
    recompute: bool,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: usize,
    /// Mean loss of a label before the step.
    pub loss: f64,
    /// Learning rate of the step.
    pub rate: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Labels learned from.
    pub labels: usize,
    /// Tokens worked on, padding included.
    pub slots: usize,
}

impl<'a> Trainer<'a> {
    /// A trainer at its first step. The model lives on a plain device, what learns on the same
    /// device with autodiff.
    pub fn new(
        llama: &'a Llama,
        learner: impl Into<Learner>,
        examples: &'a [Example],
        order: Order,
        schedule: Schedule,
        optimizer: &OptimizerConfig,
    ) -> Self {
        let (learner, optimizer) = (learner.into(), Optimizer::new(optimizer));
        let recompute = llama.precision().bits().is_some();
        Self { llama, examples, learner, optimizer, done: 0, order, schedule, recompute }
    }

    /// Whether to compute the layers twice and keep one layer's graph at a time
    /// ([`recompute`](crate::recompute())): less memory for about a third more time. With a quantised
    /// base that is always so; where the whole model learns it never is.
    pub fn with_recompute(mut self, recompute: bool) -> Self {
        self.recompute |= recompute;
        self
    }

    /// Steps done.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.order.steps_per_epoch()
    }

    /// Whether every step of the schedule is done.
    pub fn is_done(&self) -> bool {
        self.done >= self.schedule.total
    }

    /// What was learned until now, without autodiff.
    pub fn learner(&self) -> Learner {
        self.learner.valid()
    }

    /// One step: the gradients of its batches, weighted by their labels, then AdamW.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the loss or the gradients are no numbers any more; what was learned
    /// stays as it was before the step.
    pub fn step(&mut self) -> Result<StepReport> {
        let batches = self.order.step(self.done);
        let batches = batches
            .iter()
            .map(|indices| {
                Batch::new(&indices.iter().map(|&index| &self.examples[index]).collect::<Vec<_>>())
            })
            .collect::<Vec<_>>();
        let labels: usize = batches.iter().map(Batch::n_labels).sum();
        let mut loss = 0.0;
        let mut gradients = ModuleGradients::none(&self.learner);
        for batch in &batches {
            loss += self.add_gradients(batch, labels, &mut gradients)?;
        }
        let gradient_norm = gradients.norm();
        for (what, value) in [("loss", loss), ("gradient", gradient_norm)] {
            if !value.is_finite() {
                return Err(Error::Diverged { what, value, step: self.done + 1 });
            }
        }
        let rate = self.schedule.rate(self.done);
        let learner = self.learner.clone();
        self.learner = self.optimizer.step(learner, gradients, gradient_norm, rate);
        self.done += 1;
        let slots = batches.iter().map(Batch::n_slots).sum();
        Ok(StepReport { step: self.done, loss, rate, gradient_norm, labels, slots })
    }

    /// Adds the gradients of a batch and gives its loss, both divided by the labels of the whole
    /// step: summing batches then gives the mean.
    fn add_gradients(
        &self,
        batch: &Batch,
        labels: usize,
        gradients: &mut ModuleGradients,
    ) -> Result<f64> {
        let llama = self.llama;
        if let (true, Learner::Adapter(adapter)) = (self.recompute, &self.learner) {
            return recompute_adapter(llama, adapter, batch, labels, gradients);
        }
        let sum = self.learner.with(llama, |llama, adapter| label_loss(llama, adapter, batch))?;
        let loss = sum / labels.max(1) as f64;
        let value = f64::from(loss.clone().inner().into_scalar::<f32>());
        gradients.add(&self.learner, &mut loss.backward());
        Ok(value)
    }
}
