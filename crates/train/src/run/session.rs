//! A run in progress: step, step, ... checkpoint ─► evaluation ─► ... until all steps are complete.
//!
//! The checkpoint of a step is saved before the evaluation of its weights, which may take long, and once more
//! after it. So an interruption at any moment repeats only steps since the last checkpoint, or an evaluation.

use std::time::{Duration, Instant};

use adaption_prompt::{AdaptionPrompt, LayerGates};
use llama::{Llama, NoAdapter};

use super::events::{Event, RunSummary};
use super::learning_rate_curve::lower_learning_rate;
use super::log::LogEntry;
use super::progress::RunProgress;
use super::rank_agreement::check_equal_weights;
use super::run_folder::RunFolder;
use super::training_run::TrainingRun;
use crate::data::{ExampleStore, RunRowCounts, TruncationCounts};
use crate::error::{Error, Result};
use crate::images::BatchAdapter;
use crate::step_exchange::StepSignals;
use crate::trainer::{StepReport, Trainer};

/// Limits after which losses are read from the device: often enough to show progress, rarely enough to
/// keep the device busy.
const MAX_PENDING_REPORTS: usize = 16;
const MAX_REPORT_DELAY: Duration = Duration::from_secs(1);
/// The gates are logged at this many steps, which depend on nothing but the number of steps: the log of a
/// resumed run is that of an uninterrupted one.
const MAX_GATE_ENTRIES: usize = 100;

/// A run in progress.
pub(super) struct Session<'a, 'o> {
    run: &'o TrainingRun<'a>,
    trainer: Trainer<'a>,
    eval: ExampleStore,
    folder: RunFolder,
    progress: RunProgress,
    observer: &'o mut dyn FnMut(Event),
    begin: Instant,
    seconds_before_resume: f64,
    reported_at: Instant,
    saved_at: Instant,
    saved_step: usize,
    /// What the ranks agreed on with the last step.
    agreed: StepSignals,
}

impl<'a, 'o> Session<'a, 'o> {
    /// A run whose current state is saved in its folder.
    pub fn new(
        run: &'o TrainingRun<'a>,
        trainer: Trainer<'a>,
        eval: ExampleStore,
        folder: RunFolder,
        progress: RunProgress,
        begin: Instant,
        observer: &'o mut dyn FnMut(Event),
    ) -> Self {
        let now = Instant::now();
        Self {
            run,
            seconds_before_resume: progress.seconds,
            saved_step: trainer.completed_steps(),
            reported_at: now,
            saved_at: now,
            agreed: StepSignals::default(),
            trainer,
            eval,
            folder,
            progress,
            observer,
            begin,
        }
    }

    /// Begins the log with the size of the run and the gates before the first step.
    pub fn log_start(
        &mut self,
        train: TruncationCounts,
        eval: TruncationCounts,
        trainable_parameters: usize,
    ) -> Result<()> {
        let step = self.trainer.completed_steps();
        if step > 0 || !self.folder.is_log_empty() {
            return Ok(());
        }
        let start = LogEntry::Start {
            step,
            total_steps: self.trainer.total_steps(),
            steps_per_epoch: self.trainer.steps_per_epoch(),
            trainable_parameters,
            train,
            eval,
        };
        match self.gates()? {
            None => self.folder.log(&start),
            Some(layers) => {
                let gates = LogEntry::Gates { step, layers: layers.clone() };
                self.folder.log_all(&[start, gates])?;
                (self.observer)(Event::Gates { step, layers });
                Ok(())
            }
        }
    }

    /// Performs the remaining steps and evaluations.
    pub fn run_to_end(&mut self) -> Result<()> {
        // A run that was killed after it saved its checkpoint may not have kept it.
        let kept = self.folder.kept_checkpoints();
        if self.saved_step > 0 && !kept.path(self.saved_step).exists() {
            self.keep_checkpoint()?;
        }
        self.prune_checkpoints();
        self.evaluate_if_due()?;
        self.reported_at = Instant::now();
        while !self.trainer.is_done() && !self.progress.stopped_early {
            self.check_stop()?;
            let signals =
                StepSignals { stop: self.run.stop_requested(), save: self.is_checkpoint_old() };
            self.agreed = self.trainer.signaled_step(signals)?;
            let save_due = self.is_epoch_end() || self.is_checkpoint_due();
            let gates_due = self.are_gates_due();
            if save_due
                || gates_due
                || self.trainer.pending_reports() >= MAX_PENDING_REPORTS
                || self.reported_at.elapsed() >= MAX_REPORT_DELAY
            {
                self.report()?;
            }
            if gates_due {
                self.log_gates()?;
            }
            if save_due {
                self.save()?;
                self.check_stop()?;
                self.evaluate_if_due()?;
                self.reported_at = Instant::now();
            }
        }
        self.evaluate_result()?;
        self.trainer.prefix_cache.remove_file();
        Ok(())
    }

    /// The summary of a finished run.
    pub fn summary(&self, trainable_parameters: usize, rows: RunRowCounts) -> RunSummary {
        let steps = self.trainer.completed_steps();
        let (output, seconds) = (self.run.output, self.seconds());
        let keep_best = self.run.config.keep_best;
        let mut summary =
            self.progress.summary(output, steps, keep_best, trainable_parameters, seconds, rows);
        summary.division = self.trainer.division();
        summary
    }

    /// Duration of the run, its earlier parts included.
    fn seconds(&self) -> f64 {
        self.seconds_before_resume + self.begin.elapsed().as_secs_f64()
    }

    /// Whether the weights are those at the end of an epoch or of the run.
    fn is_epoch_end(&self) -> bool {
        let step = self.trainer.completed_steps();
        step.is_multiple_of(self.trainer.steps_per_epoch()) || self.trainer.is_done()
    }

    fn is_checkpoint_due(&self) -> bool {
        let config = self.run.config;
        let is_old = if self.is_alone() { self.is_checkpoint_old() } else { self.agreed.save };
        self.trainer.completed_steps().is_multiple_of(config.checkpoint_every) || is_old
    }

    /// Whether a checkpoint is due by the clock.
    fn is_checkpoint_old(&self) -> bool {
        let minutes = self.saved_at.elapsed().as_secs_f64() / 60.0;
        self.run.config.checkpoint_minutes.is_some_and(|limit| minutes >= limit)
    }

    fn is_alone(&self) -> bool {
        self.run.ranks.world() == 1
    }

    /// Whether the run was told to stop. Several ranks stop after the same step: the one with which they
    /// have told each other.
    fn stop_requested(&self) -> bool {
        if self.is_alone() { self.run.stop_requested() } else { self.agreed.stop }
    }

    /// Whether the gates after this step are logged.
    fn are_gates_due(&self) -> bool {
        let every = self.trainer.total_steps().div_ceil(MAX_GATE_ENTRIES).max(1);
        let is_step =
            self.trainer.completed_steps().is_multiple_of(every) || self.trainer.is_done();
        is_step && self.trainer.trainable.prompts().is_some()
    }

    /// The gates now; `None` for a method without gates.
    fn gates(&self) -> Result<Option<Vec<LayerGates>>> {
        let trainable = self.trainer.trainable();
        Ok(trainable.prompts().map(AdaptionPrompt::effective_gates).transpose()?)
    }

    fn log_gates(&mut self) -> Result<()> {
        if let Some(layers) = self.gates()? {
            let step = self.trainer.completed_steps();
            self.folder.log(&LogEntry::Gates { step, layers: layers.clone() })?;
            (self.observer)(Event::Gates { step, layers });
        }
        self.reported_at = Instant::now();
        Ok(())
    }

    /// Saves the state and ends the run if it was told to stop.
    fn check_stop(&mut self) -> Result<()> {
        if !self.stop_requested() {
            return Ok(());
        }
        self.report()?;
        if self.saved_step != self.trainer.completed_steps() {
            self.save()?;
        }
        Err(self.interrupted())
    }

    fn interrupted(&self) -> Error {
        Error::Interrupted {
            path: self.run.output.into(),
            step: self.trainer.completed_steps(),
            total_steps: self.trainer.total_steps(),
        }
    }

    /// Reads the losses of the last steps from the device and reports them.
    fn report(&mut self) -> Result<()> {
        let reports = self.trainer.reports()?;
        if !reports.is_empty() {
            self.folder.check_present()?;
        }
        // The device runs the steps as one queue; only their mean duration is known.
        let seconds = self.reported_at.elapsed().as_secs_f64() / reports.len().max(1) as f64;
        for report in reports {
            self.progress.record_step(&report, seconds, self.trainer.steps_per_epoch());
            self.folder.log(&LogEntry::from_step(&report, seconds))?;
            if report.is_skipped() {
                self.report_skipped(report)?;
                continue;
            }
            let throughput = self.progress.throughput(&report, self.trainer.total_steps());
            (self.observer)(Event::Stepped(report, throughput));
        }
        self.reported_at = Instant::now();
        Ok(())
    }

    /// Reports a skipped step; ends the run after too many in a row.
    fn report_skipped(&mut self, report: StepReport) -> Result<()> {
        let in_a_row = self.progress.skipped_in_a_row();
        (self.observer)(Event::Skipped { report, in_a_row });
        if in_a_row < self.run.config.max_skipped_steps {
            return Ok(());
        }
        let (what, value) = if report.loss.is_finite() {
            ("gradient", report.gradient_norm)
        } else {
            ("loss", report.loss)
        };
        Err(Error::Diverged {
            what,
            value,
            step: report.step + 1 - in_a_row,
            skipped: in_a_row,
            suggested_learning_rate: Some(lower_learning_rate(report.learning_rate)),
        })
    }

    /// Saves the weights and the checkpoint.
    fn save(&mut self) -> Result<()> {
        let TrainingRun { llama, tokenizer, model_name, config, output, .. } = *self.run;
        let step = self.trainer.completed_steps();
        let trainable = self.trainer.trainable();
        // A checkpoint must not contain NaN.
        if !trainable.is_finite()? {
            return Err(self.diverged("adapter or model", f64::NAN));
        }
        if !self.is_alone() {
            check_equal_weights(self.run.ranks, &self.trainer.trainable, step)?;
        }
        if !self.folder.is_writer() {
            (self.saved_at, self.saved_step) = (Instant::now(), step);
            return Ok(());
        }
        self.folder.check_present()?;
        // The best adapter is saved after its evaluation; until then any is better than none.
        if !config.keep_best || self.progress.best_eval.is_none() {
            let averaged = self.trainer.averaged();
            averaged.save_with_prompt(output, llama, tokenizer, model_name, &config.prompt)?;
        }
        self.save_checkpoint()?;
        self.keep_checkpoint()?;
        self.prune_checkpoints();
        (self.saved_at, self.saved_step) = (Instant::now(), step);
        (self.observer)(Event::Saved { step });
        Ok(())
    }

    /// Keeps the checkpoint that was just saved or loaded, with its weights, if earlier ones are kept.
    fn keep_checkpoint(&self) -> Result<()> {
        let TrainingRun { llama, tokenizer, model_name, config, .. } = *self.run;
        if config.kept_checkpoints == 1 || !self.folder.is_writer() {
            return Ok(());
        }
        let averaged = self.trainer.averaged();
        self.folder.kept_checkpoints().keep(self.trainer.completed_steps(), |folder| {
            averaged.save_with_prompt(folder, llama, tokenizer, model_name, &config.prompt)
        })
    }

    /// Removes the kept checkpoints that are neither among the last ones nor the best.
    fn prune_checkpoints(&self) {
        let (count, step) = (self.run.config.kept_checkpoints, self.trainer.completed_steps());
        if count > 1 && self.folder.is_writer() {
            let best = self.progress.best_eval.map(|best| best.step);
            self.folder.kept_checkpoints().prune(step, count, best);
        }
    }

    fn save_checkpoint(&mut self) -> Result<()> {
        if !self.folder.is_writer() {
            return Ok(());
        }
        self.folder.check_present()?;
        self.progress.seconds = self.seconds();
        self.trainer.save_checkpoint(&self.folder.checkpoint(), &self.progress)
    }

    /// Evaluates the base model before the first step, and the weights after each epoch.
    fn evaluate_if_due(&mut self) -> Result<()> {
        let step = self.trainer.completed_steps();
        if self.eval.is_empty() || !self.is_epoch_end() || self.progress.is_evaluated(step) {
            return Ok(());
        }
        let with_exact_match =
            step == 0 || (self.trainer.is_done() && !self.chooses_by_evaluation());
        let run = self.run;
        let (eval, observer) = (&self.eval, &mut *self.observer);
        let mut evaluate = |llama: &Llama, adapter: &dyn BatchAdapter| {
            run.evaluate(llama, adapter, eval, with_exact_match, observer)
        };
        let evaluation = if step == 0 {
            evaluate(run.llama, &NoAdapter)?
        } else {
            self.trainer.averaged().with_adapter(run.llama, run.image_features, evaluate)?
        };
        let Some((loss, exact_match)) = evaluation else {
            return Err(self.interrupted());
        };
        if !loss.loss.is_finite() {
            return Err(self.diverged("held-out loss", loss.loss));
        }
        self.folder.check_present()?;
        self.folder.log(&LogEntry::Eval {
            step,
            loss: loss.loss,
            perplexity: loss.perplexity(),
            exact_match: exact_match.map(|accuracy| accuracy.fraction()),
        })?;
        (self.observer)(Event::Evaluated { step, loss, exact_match });
        let is_best = self.progress.record_evaluation(step, (loss, exact_match));
        let TrainingRun { llama, tokenizer, model_name, config, output, .. } = *self.run;
        if is_best && config.keep_best && self.folder.is_writer() {
            let averaged = self.trainer.averaged();
            averaged.save_with_prompt(output, llama, tokenizer, model_name, &config.prompt)?;
        }
        if let (Some(limit), Some(best)) = (config.early_stop, self.progress.best_eval)
            && best.evaluations_since >= limit
            && !self.trainer.is_done()
        {
            self.progress.stopped_early = true;
            (self.observer)(Event::StoppedEarly { step, best_step: best.step });
        }
        self.save_checkpoint()?;
        self.prune_checkpoints();
        Ok(())
    }

    /// Whether evaluations decide which adapter is the result: which one is known at the end only.
    fn chooses_by_evaluation(&self) -> bool {
        self.run.config.keep_best || self.run.config.early_stop.is_some()
    }

    /// Evaluates the saved adapter, if evaluations have chosen it.
    fn evaluate_result(&mut self) -> Result<()> {
        let (run, progress) = (self.run, &self.progress);
        let Some(best) = progress.best_eval.filter(|_| self.chooses_by_evaluation()) else {
            return Ok(());
        };
        if progress.result_eval.is_some() {
            return Ok(());
        }
        let latest = self.trainer.completed_steps();
        let step = if run.config.keep_best { best.step } else { latest };
        // Only the rank that has saved it has its files.
        if !self.folder.is_writer() {
            return Ok(());
        }
        let observer = &mut *self.observer;
        let alone = run.alone();
        let evaluation =
            run.load_trained()?.with_adapter(run.llama, run.image_features, |llama, adapter| {
                alone.evaluate(llama, adapter, &self.eval, true, observer)
            })?;
        let Some((loss, exact_match)) = evaluation else {
            return Err(self.interrupted());
        };
        self.folder.check_present()?;
        self.folder.log(&LogEntry::from_result(step, (loss, exact_match)))?;
        (self.observer)(Event::ResultEvaluated { step, loss, exact_match });
        self.progress.result_eval = Some((loss, exact_match));
        self.save_checkpoint()
    }

    /// The error of weights that are unusable; before the first step they are not the learning rate's fault.
    fn diverged(&self, what: &'static str, value: f64) -> Error {
        let step = self.trainer.completed_steps();
        let rate = lower_learning_rate(self.run.config.learning_rate);
        let suggested_learning_rate = (step > 0).then_some(rate);
        Error::Diverged { what, value, step, skipped: 0, suggested_learning_rate }
    }
}
