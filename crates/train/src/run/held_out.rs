//! The evaluation of a run: the loss on the held-out rows, and the exact match on some of them.

use eval::Accuracy;
use llama::Llama;

use super::events::Event;
use super::progress::Evaluation;
use super::training_run::TrainingRun;
use crate::data::Example;
use crate::error::Result;
use crate::eval::{LabelLoss, evaluate_loss, exact_match, generate_responses};
use crate::images::BatchAdapter;

/// Batches of an evaluation between two checks of the stop flag.
const BATCHES_BETWEEN_CHECKS: usize = 4;

impl TrainingRun<'_> {
    /// Evaluates a model and an adapter; `None` if the run was told to stop. `examples` are sorted by length.
    pub(super) fn evaluate(
        &self,
        llama: &Llama,
        adapter: &dyn BatchAdapter,
        examples: &[Example],
        with_exact_match: bool,
        observer: &mut dyn FnMut(Event),
    ) -> Result<Option<Evaluation>> {
        let Self { tokenizer, config, .. } = *self;
        let count = match with_exact_match {
            true => config.exact_match_rows.min(self.eval_rows.len()),
            false => 0,
        };
        let rows = examples.len() + count;
        let mut done = 0;
        let mut progress = |more: usize| {
            done += more;
            observer(Event::Evaluating { done, rows });
        };
        let batch_size = config.batch_size.max(8);
        let (mut labels, mut sum) = (0, 0.0);
        for examples in examples.chunks(batch_size * BATCHES_BETWEEN_CHECKS) {
            if self.stop_requested() {
                return Ok(None);
            }
            let loss = evaluate_loss(llama, adapter, examples, batch_size, &mut progress)?;
            labels += loss.labels;
            sum += loss.loss * loss.labels as f64;
        }
        let loss = LabelLoss { labels, loss: sum / labels.max(1) as f64 };
        // Batches of prompts of similar length.
        let mut answered = self.eval_rows[..count].to_vec();
        answered.sort_by_key(|row| row.instruction.len() + row.input.len());
        let mut correct = Vec::with_capacity(count);
        for rows in answered.chunks(batch_size.saturating_mul(4)) {
            if self.stop_requested() {
                return Ok(None);
            }
            let responses =
                generate_responses(llama, adapter, tokenizer, rows, rows.len(), &mut progress)?;
            correct.extend(exact_match(rows, &responses));
        }
        Ok(Some((loss, (count > 0).then(|| Accuracy::from_correct(&correct)))))
    }
}
