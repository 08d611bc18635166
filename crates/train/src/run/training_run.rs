//! The inputs of a training run, and what is prepared from them: tokenized rows and a trainer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use llama::Llama;
use text::Tokenizer;

use super::events::{Event, RunSummary};
use super::progress::RunProgress;
use super::run_folder::{PREFIX_CACHE_FILE, RunFolder};
use super::run_record::{RunRecord, hash_rows};
use super::session::Session;
use crate::config::TrainConfig;
use crate::data::{Example, Instruction, RunRowCounts, TruncationCounts};
use crate::error::Result;
use crate::images::ImageFeatureCache;
use crate::trainable::TrainableWeights;
use crate::trainer::Trainer;

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
    /// If another thread or a signal handler sets it, the run saves its state and ends with
    /// [`Error::Interrupted`] after the current step or the current batch of an evaluation.
    pub stop: Option<&'a AtomicBool>,
}

/// A run before its first step.
pub(super) struct PreparedRun<'a> {
    pub trainer: Trainer<'a>,
    /// Held-out examples, the shortest first.
    pub eval: Vec<Example>,
    pub train_counts: TruncationCounts,
    pub eval_counts: TruncationCounts,
    pub trainable_parameters: usize,
    /// Tokens of the longest training example.
    pub longest: usize,
}

impl<'a> TrainingRun<'a> {
    /// Trains, and saves the adapter or the model into the output folder.
    ///
    /// `resume` continues an interrupted run from its checkpoint; the result is bit for bit the same
    /// as without the interruption. `observer` receives the events.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if the run was told to [stop](Self::stop), [`Error::Diverged`], and any other
    /// [`Error`]; the folder always keeps the latest checkpoint.
    pub fn run(&self, resume: bool, observer: &mut dyn FnMut(Event)) -> Result<RunSummary> {
        let begin = Instant::now();
        let prepared = self.prepare(observer)?;
        let PreparedRun { mut trainer, eval, train_counts, eval_counts, .. } = prepared;
        let cache_spare_bytes = trainer.prefix_cache.spare_bytes();
        let mut progress = RunProgress::default();
        progress.cache_spare_bytes = cache_spare_bytes;
        let folder = if resume {
            RunFolder::open_for_resume(self.output, &self.record())?
        } else {
            RunFolder::create(self.output, &self.record())?
        };
        // A resumed run may have been killed before its first checkpoint.
        if folder.has_checkpoint() {
            progress = trainer.load_checkpoint(&folder.checkpoint())?;
            trainer.resume_prefix_cache(progress.cache_spare_bytes);
            let step = trainer.completed_steps();
            folder.truncate_log_after(step, progress.is_evaluated(step))?;
            observer(Event::Resumed { step });
        } else {
            trainer
                .save_checkpoint(&folder.checkpoint(), &progress)
                .inspect_err(|_| folder.discard())?;
        }
        observer(Event::PrefixCache(trainer.prefix_cache()));
        let mut session = Session::new(self, trainer, eval, folder, progress, begin, observer);
        session.log_start(train_counts, eval_counts, prepared.trainable_parameters)?;
        session.run_to_end()?;
        let rows = RunRowCounts::from_truncation(train_counts, eval_counts);
        Ok(session.summary(prepared.trainable_parameters, rows))
    }

    /// Tokenizes the rows and makes the trainer.
    pub(super) fn prepare(&self, observer: &mut dyn FnMut(Event)) -> Result<PreparedRun<'a>> {
        let Self { llama, config, .. } = *self;
        config.validate()?;
        config.method.validate(llama)?;
        let max_len = config.max_len.min(llama.config().max_positions);
        let (train, train_counts) = Example::encode_all(self.train_rows, self.tokenizer, max_len)?;
        let (mut eval, eval_counts) = match self.eval_rows {
            [] => (Vec::new(), TruncationCounts::default()),
            rows => Example::encode_all(rows, self.tokenizer, max_len)?,
        };
        // Batches of similar length have less padding.
        eval.sort_by_key(|example| example.tokens.len());
        let longest = train.iter().map(|example| example.tokens.len()).max().unwrap_or(0);
        let trainable = self.init_trainable()?;
        let trainable_parameters = trainable.n_trainable_parameters();
        let trainer = Trainer::builder(llama, trainable, train)
            .config(config)
            .image_features(self.image_features)
            .prefix_cache_file(self.output.join(PREFIX_CACHE_FILE))
            .build()?;
        observer(Event::Prepared {
            train: train_counts,
            eval: eval_counts,
            total_steps: trainer.total_steps(),
            steps_per_epoch: trainer.steps_per_epoch(),
            trainable_parameters,
        });
        Ok(PreparedRun { trainer, eval, train_counts, eval_counts, trainable_parameters, longest })
    }

    /// Whether the run was told to stop.
    pub(super) fn stop_requested(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::SeqCst))
    }

    /// The content of `run.json`.
    pub(super) fn record(&self) -> RunRecord<'_> {
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
}
