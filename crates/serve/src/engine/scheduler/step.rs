//! One step: which rows compute how many tokens, the pass, and what becomes of its results.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use llama::FinishReason;

use super::Scheduler;
use crate::engine::answer_text::Piece;
use crate::engine::blocks::BlockAllocator;
use crate::engine::observer::StepReport;
use crate::engine::panic_message;
use crate::engine::request::{Event, Token};
use crate::engine::row::Row;
use crate::engine::stats::add;
use crate::engine::step_model::{PassRow, RowOutput, StepModel};
use crate::error::RequestError;

/// A pass failed. All rows that had blocks have failed with it, and the cache is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepFailed;

impl<M: StepModel> Scheduler<'_, M> {
    /// Runs a step.
    ///
    /// # Errors
    /// [`StepFailed`], after which further steps may be run.
    pub(crate) fn step(&mut self) -> Result<(), StepFailed> {
        let started = Instant::now();
        let preempted = self.make_room();
        self.admit();
        self.end_empty_answers();
        let decoding = self.running.iter().filter(|row| row.is_decoding()).count();
        let plan = self.plan(decoding);
        let computed = plan.iter().sum::<usize>();
        if computed == 0 {
            return Ok(());
        }
        let outputs = match self.pass(&plan) {
            Ok(outputs) => outputs,
            Err(reason) => {
                self.recover(reason);
                return Err(StepFailed);
            }
        };
        let generated = self.take_outputs(&plan, outputs);
        let time = started.elapsed();
        // Rows that repeat their own tokens count as prompts: nobody sees a token of them.
        let prefill_tokens = computed - decoding;
        self.budget.learn(decoding, prefill_tokens, time.as_secs_f64());
        self.observer.step(&StepReport { time, decoding, prefill_tokens, generated, preempted });
        Ok(())
    }

    /// Tokens that each running row computes in this step, in order; `decoding` of them wait for their next
    /// token.
    fn plan(&self, decoding: usize) -> Vec<usize> {
        let mut budget = self.budget.tokens(decoding);
        let mut chunk_is_free = true;
        let tokens = |row: &Row<'_, M::Adapter>| match self.spec.fixed_chunk {
            _ if row.is_decoding() => 1,
            None => {
                let tokens = row.missing().min(budget);
                budget -= tokens;
                tokens
            }
            Some(_) if row.computed >= row.prompt_len => 1,
            Some(chunk) if std::mem::take(&mut chunk_is_free) => {
                let end = (row.computed / chunk + 1) * chunk;
                end.min(row.prompt_len) - row.computed
            }
            Some(_) => 0,
        };
        self.running.iter().map(tokens).collect()
    }

    /// Runs the model; the reason if the whole pass failed.
    fn pass(&mut self, plan: &[usize]) -> Result<Vec<llama::Result<RowOutput>>, String> {
        let rows = self.running.iter_mut().zip(plan).filter(|(_, count)| **count > 0);
        let mut rows = rows.map(|(row, &count)| pass_row(row, count)).collect::<Vec<_>>();
        let count = rows.len();
        let model = &mut self.model;
        // What a panic may leave behind is thrown away: the cache, and the rows that were in the pass.
        let result = catch_unwind(AssertUnwindSafe(|| model.pass(&mut rows)));
        match result {
            Ok(Ok(outputs)) => {
                assert_eq!(outputs.len(), count, "one output for each row");
                Ok(outputs)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(panic) => Err(panic_message(&*panic)),
        }
    }

    /// Fails the requests of all running rows and starts with an empty cache.
    fn recover(&mut self, reason: String) {
        add(&self.shared.stats.errors, 1);
        tracing::error!(%reason, rows = self.running.len(), "a pass of the model failed");
        for row in std::mem::take(&mut self.running) {
            let error = RequestError::Internal { reason: reason.clone() };
            self.requests.fail(row.request, error);
        }
        self.blocks = BlockAllocator::new(self.spec.blocks);
        self.drop_ended();
        self.model.reset();
    }

    /// Adds the results to the rows and sends them; the number of new tokens.
    fn take_outputs(&mut self, plan: &[usize], outputs: Vec<llama::Result<RowOutput>>) -> usize {
        let now = Instant::now();
        let mut generated = 0;
        let mut failed = Vec::new();
        let rows = self.running.iter_mut().zip(plan).filter(|(_, count)| **count > 0);
        for ((row, &count), output) in rows.zip(outputs) {
            row.computed += count;
            if self.config.prefix_cache {
                row.publish(&mut self.blocks, self.spec.fixed_chunk);
            }
            let RowOutput { next, targets } = match output {
                Ok(output) => output,
                Err(error) => {
                    failed.push((row.request, error));
                    continue;
                }
            };
            if let Some(tokens) = row.take_prompt_scores(targets) {
                self.requests.send(row.request, Event::Prompt { tokens });
            }
            if let Some(token) = next {
                generated += 1;
                self.requests.generated(row.request, row.last_token.replace(now), now);
                match row.accept(token) {
                    Ok(Some(event)) => self.requests.send(row.request, event),
                    Ok(None) => {}
                    Err(error) => failed.push((row.request, error.into())),
                }
            } else if row.missing() == 0 {
                // Only the prompt was asked for.
                row.finished = Some(FinishReason::Length);
            }
        }
        for (request, error) in failed {
            self.requests.fail(request, RequestError::Model(Arc::new(error)));
        }
        self.end_finished();
        self.drop_ended();
        generated
    }

    /// Ends rows of which neither a token nor the prompt is wanted.
    fn end_empty_answers(&mut self) {
        for row in &mut self.running {
            if row.room == 0 && row.prompt_scores.is_none() {
                row.finished = Some(FinishReason::Length);
            }
        }
        self.end_finished();
    }

    fn end_finished(&mut self) {
        for mut row in self.running.extract_if(.., |row| row.finished.is_some()) {
            row.release(&mut self.blocks);
            let reason = row.finished.expect("only such rows were taken out");
            self.requests.finished(row.request, row.choice, reason, row.generated);
        }
    }
}

/// The next tokens of a row.
fn pass_row<'a, A>(row: &'a mut Row<'_, A>, count: usize) -> PassRow<'a, A> {
    let (past, end) = (row.computed, row.computed + count);
    let targets = match row.prompt_scores {
        Some(_) => &row.tokens[past + 1..(end + 1).min(row.prompt_len)],
        None => &[],
    };
    let draws = end == row.tokens.len() && row.room > 0;
    PassRow {
        prompt_len: row.prompt_len,
        tokens: &row.tokens[past..end],
        past,
        blocks: &row.blocks,
        adapter: row.adapter.as_ref().map(|own| &own.prepared),
        sampler: draws.then_some(&mut row.sampler),
        targets,
        top: row.top,
    }
}

impl<A> Row<'_, A> {
    /// Adds log-probabilities of the prompt; all of them once they are complete.
    fn take_prompt_scores(&mut self, targets: Vec<Token>) -> Option<Vec<Token>> {
        let scores = self.prompt_scores.as_mut()?;
        scores.extend(targets);
        if scores.len() + 1 < self.prompt_len {
            return None;
        }
        let first = Token { id: self.tokens[0], logprob: None, top: Vec::new() };
        let rest = self.prompt_scores.take()?;
        Some(std::iter::once(first).chain(rest).collect())
    }

    /// Adds a drawn token; the text that it makes final.
    fn accept(&mut self, token: Token) -> text::Result<Option<Event>> {
        self.generated += 1;
        let mut piece = Piece::default();
        if self.stop_tokens.contains(&token.id) {
            self.finished = Some(FinishReason::Stop);
        } else {
            self.room -= 1;
            self.tokens.push(token.id);
            piece = self.text.push(token)?;
            if self.text.is_stopped() {
                self.finished = Some(FinishReason::Stop);
            } else if self.room == 0 {
                self.finished = Some(FinishReason::Length);
            }
        }
        if self.finished.is_some() {
            let rest = self.text.finish()?;
            piece.text += &rest.text;
            piece.tokens.extend(rest.tokens);
            if self.text.is_stopped() {
                self.finished = Some(FinishReason::Stop);
            }
        }
        if piece.text.is_empty() && piece.tokens.is_empty() {
            return Ok(None);
        }
        Ok(Some(Event::Text { choice: self.choice, text: piece.text, tokens: piece.tokens }))
    }
}
