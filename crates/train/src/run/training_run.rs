//! evaluation ─► step, step, ... checkpoint ─► evaluation ─► adapter and summary

use std::path::Path;
use std::time::{Duration, Instant};

use llama::{Llama, NoAdapter};
use text::Tokenizer;

use super::events::{Event, RunSummary};
use super::log::LogEntry;
use super::progress::RunProgress;
use super::run_folder::RunFolder;
use super::run_record::{RunRecord, hash_rows};
use crate::config::TrainConfig;
use crate::data::{Example, Instruction, RowEncoder, RunRowCounts, TruncationCounts};
use crate::error::{Error, Result};
use crate::eval::{Accuracy, LabelLoss, evaluate_loss, exact_match, generate_responses};
use crate::images::{BatchAdapter, ImageFeatureCache};
use crate::trainable::TrainableWeights;
use crate::trainer::Trainer;

/// Limits after which losses are read from the device: often enough to show progress, rarely enough to
/// keep the device busy.
const MAX_PENDING_REPORTS: usize = 16;
const MAX_REPORT_DELAY: Duration = Duration::from_secs(1);

/// The inputs of a training run.
#[derive(Debug, Clone, Copy)]
pub struct TrainingRun<'a> {
    /// The frozen model, on a plain device.
    pub llama: &'a Llama,
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The model's name in files.
    pub model_name: &'a str,
    /// Training rows.
    pub train_rows: &'a [Instruction],
    /// Held-out rows, disjoint from the training rows; may be empty.
    pub eval_rows: &'a [Instruction],
    /// Features of the rows' images. Rows with a missing image are treated as rows without one.
    pub image_features: Option<&'a ImageFeatureCache>,
    /// Hyperparameters.
    pub config: &'a TrainConfig,
    /// Output folder.
    pub output: &'a Path,
    /// Further content of `run.json`, such as file names. It may change when the run is resumed.
    pub metadata: &'a serde_json::Value,
}

impl TrainingRun<'_> {
    /// Trains, and saves the adapter or the model into the output folder.
    ///
    /// `resume` continues an interrupted run from its checkpoint; the result is bit for bit the same
    /// as without the interruption. `observer` receives the events.
    ///
    /// # Errors
    /// [`Error`]; the folder always keeps the latest checkpoint.
    pub fn run(&self, resume: bool, observer: &mut dyn FnMut(Event)) -> Result<RunSummary> {
        let Self { llama, config, .. } = *self;
        let begin = Instant::now();
        config.validate()?;
        config.method.validate(llama)?;
        let max_len = config.max_len.min(llama.config().max_positions);
        let encoder = RowEncoder::new(self.tokenizer, &config.prompt, config.loss_on)?;
        let (train, train_counts) = encoder.encode_all(self.train_rows, max_len)?;
        let (eval, eval_counts) = match self.eval_rows {
            [] => (Vec::new(), TruncationCounts::default()),
            rows => encoder.encode_all(rows, max_len)?,
        };

        let trainable = self.init_trainable()?;
        let trainable_parameters = trainable.n_trainable_parameters();
        let mut trainer = Trainer::builder(llama, trainable, train)
            .config(config)
            .image_features(self.image_features)
            .build()?;
        let (total_steps, steps_per_epoch) = (trainer.total_steps(), trainer.steps_per_epoch());
        observer(Event::Prepared {
            train: train_counts,
            eval: eval_counts,
            total_steps,
            steps_per_epoch,
            trainable_parameters,
        });

        let mut progress = RunProgress::default();
        let folder = if resume {
            let folder = RunFolder::open_for_resume(self.output, &self.record())?;
            progress = trainer.load_checkpoint(&folder.checkpoint())?;
            folder.truncate_log_after(trainer.completed_steps())?;
            observer(Event::Resumed { step: trainer.completed_steps() });
            folder
        } else {
            let folder = RunFolder::create(self.output, &self.record())?;
            // The run can be resumed from here on.
            trainer
                .save_checkpoint(&folder.checkpoint(), &progress)
                .inspect_err(|_| folder.discard())?;
            folder
        };
        if progress.base_eval.is_none() && !eval.is_empty() {
            folder.clear_log()?;
            let base = self.evaluate(llama, &NoAdapter, &eval, 0, true, &folder, observer)?;
            progress.base_eval = Some(base);
            trainer.save_checkpoint(&folder.checkpoint(), &progress)?;
        }

        let seconds_before_resume = progress.seconds;
        let mut start = Instant::now();
        while !trainer.is_done() {
            trainer.step()?;
            let step = trainer.completed_steps();
            let checkpoint_due = step.is_multiple_of(config.checkpoint_every);
            let epoch_ended = step.is_multiple_of(steps_per_epoch) || trainer.is_done();
            let report_due = trainer.pending_reports() >= MAX_PENDING_REPORTS
                || start.elapsed() >= MAX_REPORT_DELAY;
            if !(report_due || checkpoint_due || epoch_ended) {
                continue;
            }
            let reports = trainer.reports()?;
            // The device runs the steps as one queue; only their mean duration is known.
            let seconds = start.elapsed().as_secs_f64() / reports.len() as f64;
            for report in reports {
                progress.record_step(&report, seconds, steps_per_epoch);
                folder.log(&LogEntry::from_step(&report, seconds))?;
                observer(Event::Stepped(report, progress.throughput(&report, total_steps)));
            }
            // A checkpoint must not contain NaN.
            if (checkpoint_due || epoch_ended) && !trainer.trainable().is_finite()? {
                return Err(Error::Diverged { what: "adapter or model", value: f64::NAN, step });
            }
            if epoch_ended && !eval.is_empty() {
                let is_last = trainer.is_done();
                let latest = trainer.trainable().with_adapter(
                    llama,
                    self.image_features,
                    |llama, adapter| {
                        self.evaluate(llama, adapter, &eval, step, is_last, &folder, observer)
                    },
                )?;
                progress.latest_eval = Some(latest);
            }
            if epoch_ended || checkpoint_due {
                progress.seconds = seconds_before_resume + begin.elapsed().as_secs_f64();
                let Self { output, tokenizer, model_name, .. } = *self;
                let trained = trainer.trainable();
                trained.save_with_prompt(output, llama, tokenizer, model_name, &config.prompt)?;
                trainer.save_checkpoint(&folder.checkpoint(), &progress)?;
                observer(Event::Saved { step });
            }
            start = Instant::now();
        }
        let seconds = seconds_before_resume + begin.elapsed().as_secs_f64();
        let rows = RunRowCounts::from_truncation(train_counts, eval_counts);
        let steps = trainer.completed_steps();
        Ok(progress.summary(self.output, steps, trainable_parameters, seconds, rows))
    }

    /// The content of `run.json`.
    fn record(&self) -> RunRecord<'_> {
        RunRecord {
            about: self.metadata,
            model: self.model_name,
            precision: format!("{:?}", self.llama.precision()),
            train_rows: self.train_rows.len(),
            eval_rows: self.eval_rows.len(),
            data_hash: hash_rows(&[self.train_rows, self.eval_rows]),
            config: self.config,
        }
    }

    /// The trainable weights before the first step.
    fn init_trainable(&self) -> Result<TrainableWeights> {
        let Self { llama, config, .. } = *self;
        let statistics =
            self.image_features.and_then(|features| features.feature_statistics(self.train_rows));
        let statistics = statistics.as_ref();
        let mut trainable = match &config.initial_adapter {
            Some(path) => config.method.init_from_adapter(path, llama, config.seed, statistics)?,
            None => config.method.init(llama, config.seed)?.with_feature_statistics(statistics),
        };
        if let Some(groups) = &config.trainable_groups {
            trainable = trainable.with_trainable_groups(groups)?;
        }
        if let Some(text) = &config.prompt_init_text {
            trainable = trainable.with_prompt_text(llama, self.tokenizer, text)?;
        }
        Ok(trainable)
    }

    /// Loads the trained weights of a finished run.
    ///
    /// # Errors
    /// As [`TrainableWeights::load`].
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
        with_exact_match: bool,
        folder: &RunFolder,
        observer: &mut dyn FnMut(Event),
    ) -> Result<(LabelLoss, Option<Accuracy>)> {
        let Self { tokenizer, config, .. } = *self;
        let count = config.exact_match_rows.min(self.eval_rows.len());
        let exact_match_rows = if with_exact_match { &self.eval_rows[..count] } else { &[] };
        let rows = examples.len() + exact_match_rows.len();
        let mut done = 0;
        let mut progress = |more: usize| {
            done += more;
            observer(Event::Evaluating { done, rows });
        };
        let batch_size = config.batch_size.max(8);
        let loss = evaluate_loss(llama, adapter, examples, batch_size, &mut progress)?;
        let accuracy = match exact_match_rows {
            [] => None,
            rows => {
                let batch_size = batch_size.saturating_mul(4);
                let encoder = RowEncoder::new(tokenizer, &config.prompt, config.loss_on)?;
                let responses =
                    generate_responses(llama, adapter, &encoder, rows, batch_size, &mut progress)?;
                Some(Accuracy::from_correct(&exact_match(rows, &responses)))
            }
        };
        if !loss.loss.is_finite() {
            return Err(Error::Diverged { what: "held-out loss", value: loss.loss, step });
        }
        folder.log(&LogEntry::Eval {
            step,
            loss: loss.loss,
            perplexity: loss.perplexity(),
            exact_match: accuracy.map(|accuracy| accuracy.fraction()),
        })?;
        observer(Event::Evaluated { step, loss, exact_match: accuracy });
        Ok((loss, accuracy))
    }
}
