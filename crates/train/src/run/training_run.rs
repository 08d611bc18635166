//! evaluate ─► step, step, ... checkpoint ─► evaluate ─► adapter and report

use std::path::Path;
use std::time::{Duration, Instant};

use llama::{Llama, NoAdapter};
use text::Tokenizer;

use super::events::{Event, RunSummary};
use super::progress::{LogEntry, RunProgress};
use super::run_folder::RunFolder;
use super::run_record::RunRecord;
use crate::config::TrainConfig;
use crate::data::Instruction;
use crate::data::read::RunRowCounts;
use crate::data::{Example, TruncationCounts};
use crate::error::{Error, Result};
use crate::eval::{ExactMatch, LabelLoss, evaluate_loss, exact_match, generate_responses};
use crate::images::{BatchAdapter, ImageFeatureCache};
use crate::trainable::TrainableWeights;
use crate::trainer::Trainer;

/// Steps after which their losses are read back from the device at the latest, and the time: often
/// enough for somebody who looks on, seldom enough for a device that works while it is fed.
const MAX_PENDING_REPORTS: usize = 16;
const MAX_REPORT_DELAY: Duration = Duration::from_secs(1);

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub struct TrainingRun<'a> {
    /// The frozen model, on a plain device.
    pub llama: &'a Llama,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// What to call the model in files.
    pub model_name: &'a str,
    /// Rows to learn from.
    pub train_rows: &'a [Instruction],
    /// Rows to check with, none of them in the others; may be empty.
    pub eval_rows: &'a [Instruction],
    /// Pictures that rows name; rows whose picture is not there see none.
    pub image_features: Option<&'a ImageFeatureCache>,
    /// Settings.
    pub config: &'a TrainConfig,
    /// Folder for the results.
    pub output: &'a Path,
    /// What `run.json` shall say about the run beside its settings, such as the files' names. It
    /// does not have to be the same when the run is resumed.
    pub metadata: &'a serde_json::Value,
}

impl TrainingRun<'_> {
    /// Trains an adapter, or the model, and leaves it, with all that belongs to it, in the output folder.
    ///
    /// `resume` goes on with a run that was stopped there: the result is the same, bit for bit, as
    /// if it had not been. `observer` is told what happens.
    ///
    /// # Errors
    /// [`Error`]; in each case the folder keeps the last checkpoint.
    pub fn run(&self, resume: bool, observer: &mut dyn FnMut(Event)) -> Result<RunSummary> {
        let Self { llama, config, .. } = *self;
        let begin = Instant::now();
        config.validate()?;
        config.method.validate(llama)?;
        let max_len = config.max_len.min(llama.config().max_positions);
        let (train, train_fitted) = Example::encode_all(self.train_rows, self.tokenizer, max_len)?;
        let (eval, eval_fitted) = match self.eval_rows {
            [] => (Vec::new(), TruncationCounts::default()),
            rows => Example::encode_all(rows, self.tokenizer, max_len)?,
        };

        let learner = self.init_trainable()?;
        let parameters = learner.n_trainable_parameters();
        let schedule = config.schedule(train.len());
        let order = config.sampler(train.len());
        let mut trainer = Trainer::new(llama, learner, train, order, schedule, &config.optimizer)
            .with_image_features(self.image_features)
            .with_group_by_image(config.group_by_image)
            .with_activation_checkpointing(config.activation_checkpointing);
        let steps_per_epoch = trainer.steps_per_epoch();
        observer(Event::Prepared {
            train: train_fitted,
            eval: eval_fitted,
            total_steps: schedule.total_steps,
            steps_per_epoch,
            trainable_parameters: parameters,
        });

        let mut progress = RunProgress::default();
        let output = if resume {
            let output = RunFolder::open_for_resume(self.output, &RunRecord::from_run(self))?;
            progress = trainer.load_checkpoint(&output.checkpoint())?;
            output.truncate_log_after(trainer.completed_steps())?;
            observer(Event::Resumed { step: trainer.completed_steps() });
            output
        } else {
            let output = RunFolder::create(self.output, &RunRecord::from_run(self))?;
            // From here on the run can be resumed.
            trainer
                .save_checkpoint(&output.checkpoint(), &progress)
                .inspect_err(|_| output.discard())?;
            output
        };
        if progress.base_eval.is_none() && !eval.is_empty() {
            output.clear_log()?;
            let found = self.evaluate(llama, &NoAdapter, &eval, 0, true, &output, observer)?;
            progress.base_eval = Some(found);
            trainer.save_checkpoint(&output.checkpoint(), &progress)?;
        }

        let (earlier, checkpoint) = (progress.seconds, output.checkpoint());
        let mut start = Instant::now();
        while !trainer.is_done() {
            trainer.step()?;
            let step = trainer.completed_steps();
            let due = step.is_multiple_of(config.checkpoint_every);
            let epoch_ended = step.is_multiple_of(steps_per_epoch) || trainer.is_done();
            let wait = trainer.pending_reports() >= MAX_PENDING_REPORTS
                || start.elapsed() >= MAX_REPORT_DELAY;
            if !(wait || due || epoch_ended) {
                continue;
            }
            let reports = trainer.reports()?;
            // The device has worked on all of them as one.
            let seconds = start.elapsed().as_secs_f64() / reports.len() as f64;
            for report in reports {
                progress.record_step(&report, seconds, steps_per_epoch);
                output.log(&LogEntry::from_step(&report, seconds))?;
                observer(Event::Stepped(
                    report,
                    progress.throughput(&report, schedule.total_steps),
                ));
            }
            // What is about to be kept must be worth it.
            if (due || epoch_ended) && !trainer.trainable().is_finite()? {
                return Err(Error::Diverged { what: "adapter or model", value: f64::NAN, step });
            }
            if epoch_ended && !eval.is_empty() {
                let last = trainer.is_done();
                let found = trainer.trainable().with_adapter(
                    llama,
                    self.image_features,
                    |llama, adapter| {
                        self.evaluate(llama, adapter, &eval, step, last, &output, observer)
                    },
                )?;
                progress.latest_eval = Some(found);
            }
            if epoch_ended || due {
                progress.seconds = earlier + begin.elapsed().as_secs_f64();
                let Self { output, tokenizer, model_name, .. } = *self;
                trainer.trainable().save(output, llama, tokenizer, model_name)?;
                trainer.save_checkpoint(&checkpoint, &progress)?;
                observer(Event::Saved { step });
            }
            start = Instant::now();
        }
        let seconds = earlier + begin.elapsed().as_secs_f64();
        let rows = RunRowCounts::from_truncation(train_fitted, eval_fitted);
        Ok(progress.summary(self.output, trainer.completed_steps(), parameters, seconds, rows))
    }

    /// What learns, before the first step.
    fn init_trainable(&self) -> Result<TrainableWeights> {
        let Self { llama, config, .. } = *self;
        let statistics =
            self.image_features.and_then(|own| own.feature_statistics(self.train_rows));
        let statistics = statistics.as_ref();
        let mut learner = match &config.initial_adapter {
            Some(path) => config.method.init_from_adapter(path, llama, config.seed, statistics)?,
            None => config.method.init(llama, config.seed)?.with_statistics(statistics),
        };
        if let Some(parts) = &config.trainable_groups {
            learner = learner.with_trainable_groups(parts)?;
        }
        if let Some(text) = &config.prompt_init_text {
            learner = learner.with_prompt_text(llama, self.tokenizer, text)?;
        }
        Ok(learner)
    }

    /// What a finished run has learned.
    ///
    /// # Errors
    /// As [`Learner::load`].
    pub fn load_trained(&self) -> Result<TrainableWeights> {
        TrainableWeights::load(self.output, &self.config.method, self.llama)
    }

    #[expect(clippy::too_many_arguments, reason = "what is evaluated, and where the results go")]
    fn evaluate(
        &self,
        llama: &Llama,
        adapter: &dyn BatchAdapter,
        examples: &[Example],
        step: usize,
        with_answers: bool,
        output: &RunFolder,
        observer: &mut dyn FnMut(Event),
    ) -> Result<(LabelLoss, Option<ExactMatch>)> {
        let Self { tokenizer, config, .. } = *self;
        let asked = config.exact_match_rows.min(self.eval_rows.len());
        let asked = if with_answers { &self.eval_rows[..asked] } else { &[] };
        let rows = examples.len() + asked.len();
        let mut done = 0;
        let mut progress = |more: usize| {
            done += more;
            observer(Event::Evaluating { done, rows });
        };
        let batch = config.batch_size.max(8);
        let loss = evaluate_loss(llama, adapter, examples, batch, &mut progress)?;
        let found = match asked {
            [] => None,
            asked => {
                let answers = generate_responses(
                    llama,
                    adapter,
                    tokenizer,
                    asked,
                    batch.saturating_mul(4),
                    &mut progress,
                )?;
                Some(exact_match(asked, &answers))
            }
        };
        if !loss.loss.is_finite() {
            return Err(Error::Diverged { what: "held-out loss", value: loss.loss, step });
        }
        output.log(&LogEntry::Eval {
            step,
            loss: loss.loss,
            perplexity: loss.perplexity(),
            exact_match: found.map(|found| found.fraction()),
        })?;
        observer(Event::Evaluated { step, loss, exact_match: found });
        Ok((loss, found))
    }
}
