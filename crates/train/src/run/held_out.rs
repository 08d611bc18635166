//! The evaluation of a run: the loss on the held-out rows, and the exact match on some of them.

use std::borrow::Cow;

use eval::Accuracy;
use llama::Llama;

use super::events::Event;
use super::progress::Evaluation;
use super::training_run::TrainingRun;
use crate::data::{ExampleStore, RowEncoder};
use crate::error::Result;
use crate::eval::{LabelLoss, evaluate_loss, exact_match, generate_responses};
use crate::images::BatchAdapter;

/// Batches of an evaluation between two checks of the stop flag.
const BATCHES_BETWEEN_CHECKS: usize = 4;

impl TrainingRun<'_> {
    /// Evaluates a model and an adapter; `None` if the run was told to stop. Batches have examples of similar length.
    pub(super) fn evaluate(
        &self,
        llama: &Llama,
        adapter: &dyn BatchAdapter,
        examples: &ExampleStore,
        with_exact_match: bool,
        observer: &mut dyn FnMut(Event),
    ) -> Result<Option<Evaluation>> {
        let Self { tokenizer, config, .. } = *self;
        let answered = config.exact_match_rows.min(self.eval_rows.len());
        let count = if with_exact_match { answered } else { 0 };
        let rows = examples.len() + count;
        let mut done = 0;
        let mut progress = |more: usize| {
            done += more;
            observer(Event::Evaluating { done, rows });
        };
        let batch_size = config.batch_size.max(8);
        let (mut labels, mut sum) = (0, 0.0);
        let mut order = (0..examples.len()).collect::<Vec<_>>();
        order.sort_by_key(|&index| examples.n_tokens(index));
        for indices in order.chunks(batch_size * BATCHES_BETWEEN_CHECKS) {
            if self.stop_requested() {
                return Ok(None);
            }
            let examples = examples.select(indices)?.into_iter().map(Cow::into_owned);
            let examples = examples.collect::<Vec<_>>();
            let loss = evaluate_loss(llama, adapter, &examples, batch_size, &mut progress)?;
            labels += loss.labels;
            sum += loss.loss * loss.labels as f64;
        }
        let loss = LabelLoss { labels, loss: sum / labels.max(1) as f64 };
        // Batches of prompts of similar length.
        let mut answered = self.eval_rows.first(count)?;
        answered.sort_by_key(|row| row.instruction.len() + row.input.len());
        let mut correct = Vec::with_capacity(count);
        let encoder = RowEncoder::new(tokenizer, &config.prompt, config.loss_on)?;
        for rows in answered.chunks(batch_size.saturating_mul(4)) {
            if self.stop_requested() {
                return Ok(None);
            }
            let responses =
                generate_responses(llama, adapter, &encoder, rows, rows.len(), &mut progress)?;
            correct.extend(exact_match(rows, &responses));
        }
        Ok(Some((loss, (count > 0).then(|| Accuracy::from_correct(&correct)))))
    }
}
