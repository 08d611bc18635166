//! batch ─► lower layers (no graph) ─► upper layers + prompts ─► loss ─► gradients ─► AdamW
//!
//! The trainer knows steps; files, evaluation and reports are the business of
//! [`Job`](crate::Job).

use adaption_prompt::AdaptionPrompt;
use burn::module::Module;
use llama::Llama;

use crate::batch::{Batch, Order};
use crate::error::{Error, Result};
use crate::example::Example;
use crate::loss::label_loss;
use crate::optimizer::{AdapterGradients, AdapterOptimizer, OptimizerConfig};
use crate::schedule::Schedule;

/// Trains an adapter step by step. Its whole state is the adapter, the optimizer's moments and the
/// number of steps done: what is drawn at random is a function of the seed and the step.
pub struct Trainer<'a> {
    llama: &'a Llama,
    examples: &'a [Example],
    pub(crate) adapter: AdaptionPrompt,
    pub(crate) optimizer: AdapterOptimizer,
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
    /// A trainer at its first step. The model lives on a plain device, the adapter on the same
    /// device with autodiff.
    pub fn new(
        llama: &'a Llama,
        adapter: AdaptionPrompt,
        examples: &'a [Example],
        order: Order,
        schedule: Schedule,
        optimizer: &OptimizerConfig,
    ) -> Self {
        let optimizer = AdapterOptimizer::new(optimizer, adapter.layers.len());
        let recompute = llama.precision().bits().is_some();
        Self { llama, examples, adapter, optimizer, done: 0, order, schedule, recompute }
    }

    /// Whether to compute the layers twice and keep one layer's graph at a time
    /// ([`recompute`](crate::recompute())): less memory for about a third more time. With a quantised
    /// base that is always so.
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

    /// The adapter as it is now, without autodiff.
    pub fn adapter(&self) -> AdaptionPrompt {
        self.adapter.valid()
    }

    /// One step: the gradients of its batches, weighted by their labels, then AdamW.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the loss or the gradients are no numbers any more; the adapter stays
    /// as it was before the step.
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
        let mut gradients: Option<AdapterGradients> = None;
        for batch in &batches {
            let (batch_loss, new) = self.gradients(batch, labels)?;
            loss += batch_loss;
            gradients = Some(match gradients {
                Some(sum) => sum.plus(new),
                None => new,
            });
        }
        let gradients = gradients.expect("a step has batches");
        let gradient_norm = gradients.norm();
        for (what, value) in [("loss", loss), ("gradient", gradient_norm)] {
            if !value.is_finite() {
                return Err(Error::Diverged { what, value, step: self.done + 1 });
            }
        }
        let rate = self.schedule.rate(self.done);
        let adapter = self.adapter.clone();
        self.adapter = self.optimizer.step(adapter, gradients, gradient_norm, rate);
        self.done += 1;
        let slots = batches.iter().map(Batch::n_slots).sum();
        Ok(StepReport { step: self.done, loss, rate, gradient_norm, labels, slots })
    }

    /// Loss and gradients of a batch, divided by the labels of the whole step: summing batches then
    /// gives the mean.
    fn gradients(&self, batch: &Batch, labels: usize) -> Result<(f64, AdapterGradients)> {
        if self.recompute {
            return AdapterGradients::recompute(self.llama, &self.adapter, batch, labels);
        }
        let prompts = self.adapter.project(self.llama);
        let loss = label_loss(self.llama, &prompts, batch)? / labels.max(1) as f64;
        let value = f64::from(loss.clone().inner().into_scalar::<f32>());
        Ok((value, AdapterGradients::take(&self.adapter, loss.backward())))
    }
}
