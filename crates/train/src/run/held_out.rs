//! The evaluation of a run: the loss on the held-out rows, and the exact match on some of them.

use std::borrow::Cow;

use eval::Accuracy;
use llama::Llama;

use super::events::Event;
use super::progress::Evaluation;
use super::training_run::TrainingRun;
use crate::data::{ExampleStore, RowEncoder};
use crate::error::Result;
use crate::eval::{LabelLoss, evaluate_row_losses, exact_match, generate_responses};
use crate::images::BatchAdapter;

/// Batches of an evaluation between two checks of the stop flag.
const BATCHES_BETWEEN_CHECKS: usize = 4;

impl TrainingRun<'_> {
    /// Evaluates a model and an adapter; `None` if the run was told to stop. Batches have examples of similar
    /// length; each rank evaluates a share of them, and all get the result.
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
        let (rank, world) = (self.ranks.rank(), self.ranks.world());
        let mut done = 0;
        let mut progress = |more: usize| {
            done = rows.min(done + more * world);
            observer(Event::Evaluating { done, rows });
        };
        let batch_size = config.batch_size.max(8);
        let (mut labels, mut sum) = (0, 0.0);
        let mut order = (0..examples.len()).collect::<Vec<_>>();
        order.sort_by_key(|&index| examples.n_tokens(index));
        for indices in order.chunks(batch_size.saturating_mul(BATCHES_BETWEEN_CHECKS * world)) {
            if self.any_stop_requested() {
                return Ok(None);
            }
            // Each rank takes every so many-th one, so that all have rows of the same lengths.
            let own = indices.iter().copied().skip(rank).step_by(world).collect::<Vec<_>>();
            let own = examples.select(&own)?.into_iter().map(Cow::into_owned).collect::<Vec<_>>();
            let losses = evaluate_row_losses(llama, adapter, &own, batch_size, &mut progress)?;
            let losses = losses.into_iter().map(f64::to_le_bytes).collect::<Vec<_>>();
            let losses = self.of_all_ranks(&losses).into_iter().map(f64::from_le_bytes);
            let mut count = 0;
            for &index in indices {
                count += examples.get(index)?.n_labels();
            }
            let loss = losses.sum::<f64>() / count.max(1) as f64;
            labels += count;
            sum += loss * count as f64;
        }
        let loss = LabelLoss { labels, loss: sum / labels.max(1) as f64 };
        // Batches of prompts of similar length.
        let mut answered = self.eval_rows.first(count)?;
        answered.sort_by_key(|row| row.instruction.len() + row.input.len());
        let mut correct = Vec::with_capacity(count);
        let encoder = RowEncoder::new(tokenizer, &config.prompt, config.loss_on)?;
        for rows in answered.chunks(batch_size.saturating_mul(4 * world)) {
            if self.any_stop_requested() {
                return Ok(None);
            }
            let own = rows.iter().skip(rank).step_by(world).cloned().collect::<Vec<_>>();
            let responses =
                generate_responses(llama, adapter, &encoder, &own, own.len(), &mut progress)?;
            let own = exact_match(&own, &responses).into_iter().map(|correct| [u8::from(correct)]);
            let all = self.of_all_ranks(&own.collect::<Vec<_>>());
            correct.extend(all.into_iter().map(|[correct]| correct > 0));
        }
        Ok(Some((loss, (count > 0).then(|| Accuracy::from_correct(&correct)))))
    }

    /// Whether any rank was told to stop.
    fn any_stop_requested(&self) -> bool {
        let mut stops = [f32::from(u8::from(self.stop_requested()))];
        self.ranks.all_reduce_sum(&mut stops);
        stops[0] > 0.0
    }

    /// The values of all ranks, dealt in turn: those of rank 0 are the first, the one after the number of
    /// ranks, and so on.
    fn of_all_ranks<const N: usize>(&self, own: &[[u8; N]]) -> Vec<[u8; N]> {
        let parts = self.ranks.all_gather(own.as_flattened());
        let parts = parts.iter().map(|part| part.as_chunks::<N>().0).collect::<Vec<_>>();
        let longest = parts.first().map_or(0, |part| part.len());
        let dealt =
            (0..longest).flat_map(|index| parts.iter().filter_map(move |part| part.get(index)));
        dealt.copied().collect()
    }
}
