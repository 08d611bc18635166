//! The inputs of a training run, and what is prepared from them: tokenized rows and a trainer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use communicator::{Alone, Communicator};
use llama::Llama;
use serde_json::json;
use text::Tokenizer;

use super::events::{Event, RunSummary};
use super::progress::RunProgress;
use super::rank_agreement::{check_equal_facts, weights_checksum};
use super::run_folder::{PREFIX_CACHE_FILE, RunFolder};
use super::run_record::{RunRecord, hash_rows};
use super::session::Session;
use crate::config::TrainConfig;
use crate::data::{
    EncodedRows, ExampleEncoder, ExampleStore, Instruction, RowEncoder, RowStore, RunRowCounts,
    TruncationCounts,
};
use crate::error::{Error, Result};
use crate::images::ImageFeatureCache;
use crate::prefix_cache::PrefixCacheMode;
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
    pub train_rows: &'a RowStore,
    /// Held-out rows, disjoint from the training rows; may be empty.
    pub eval_rows: &'a RowStore,
    /// The folder in which the tokens of many rows are kept for the next run; `None`: they are not kept.
    pub token_cache: Option<&'a Path>,
    /// Features of the rows' images. Rows with a missing image are treated as rows without one.
    pub image_features: Option<&'a ImageFeatureCache>,
    /// Hyperparameters.
    pub config: &'a TrainConfig,
    /// Output folder.
    pub output: &'a Path,
    /// Further content of `run.json`, such as file names. It may change when the run is resumed.
    pub metadata: &'a serde_json::Value,
    /// If another thread or a signal handler sets it, the run saves its state and ends with
    /// [`Error::Interrupted`](crate::Error::Interrupted) after the current step or the current batch of an evaluation.
    pub stop: Option<&'a AtomicBool>,
    /// The ranks that train together, each with a run that is equal but for [`stop`](Self::stop), `metadata` and
    /// files that only rank 0 has: it alone writes into `output`. [`Alone`]: one process.
    pub ranks: &'a dyn Communicator,
}

/// A run before its first step.
pub(super) struct PreparedRun<'a> {
    pub trainer: Trainer<'a>,
    /// Held-out examples.
    pub eval: ExampleStore,
    pub train_counts: TruncationCounts,
    pub eval_counts: TruncationCounts,
    pub trainable_parameters: usize,
    /// Tokens of the longest training example.
    pub longest: usize,
    /// Mean number of labels of a training example.
    pub labels_per_row: f64,
}

impl<'a> TrainingRun<'a> {
    /// Trains, and saves the adapter or the model into the output folder.
    ///
    /// `resume` continues an interrupted run from its checkpoint; the result is bit for bit the same
    /// as without the interruption. `observer` receives the events.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::Error::Interrupted) if the run was told to [stop](Self::stop),
    /// [`Error::Diverged`](crate::Error::Diverged), and any other [`Error`](crate::Error); the folder always
    /// keeps the latest checkpoint.
    pub fn run(&self, resume: bool, observer: &mut dyn FnMut(Event)) -> Result<RunSummary> {
        let begin = Instant::now();
        let prepared = self.prepare(observer)?;
        let PreparedRun { mut trainer, eval, train_counts, eval_counts, .. } = prepared;
        self.check_ranks(&mut trainer)?;
        let cache_spare_bytes = trainer.prefix_cache.spare_bytes();
        let mut progress = RunProgress::default();
        progress.cache_spare_bytes = cache_spare_bytes;
        let folder = if self.ranks.rank() > 0 {
            RunFolder::of_other_rank(self.output)
        } else if resume {
            RunFolder::open_for_resume(self.output, &self.record()?)?
        } else {
            RunFolder::create(self.output, &self.record()?)?
        };
        // A resumed run may have been killed before its first checkpoint.
        let checkpoint = self.read_checkpoint(&folder)?;
        if !checkpoint.is_empty() {
            progress = trainer.load_checkpoint_bytes(&folder.checkpoint(), &checkpoint)?;
            drop(checkpoint);
            trainer.resume_prefix_cache(progress.cache_spare_bytes);
            let step = trainer.completed_steps();
            folder.truncate_log_after(step, |event, at| match event {
                "eval" => at == step && !progress.is_evaluated(step),
                "result" => progress.result_eval.is_none(),
                _ => false,
            })?;
            observer(Event::Resumed { step });
        } else if folder.is_writer() {
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

    /// Checks that all ranks were started with the same things, and gives their caches the memory that each
    /// of them has.
    fn check_ranks(&self, trainer: &mut Trainer) -> Result<()> {
        if self.ranks.world() == 1 {
            return Ok(());
        }
        let mut record = serde_json::to_value(self.record()?).expect("plain JSON");
        // Devices and names of files may differ.
        record.as_object_mut().expect("an object").remove("about");
        let weights = weights_checksum(&trainer.trainable)?;
        let facts = json!({ "run": record, "initial weights": weights });
        check_equal_facts(self.ranks, &facts)?;
        let spare = trainer.prefix_cache.spare_bytes().unwrap_or(u64::MAX);
        let all = self.ranks.all_gather(&spare.to_le_bytes());
        let all = all.iter().filter_map(|bytes| Some(u64::from_le_bytes(*bytes.first_chunk()?)));
        let least = all.min().filter(|&bytes| bytes < u64::MAX);
        trainer.set_cache_spare_bytes(least);
        if self.config.prefix_cache.mode == PrefixCacheMode::Disk {
            // Hosts may share no disk.
            let folder = self.output;
            std::fs::create_dir_all(folder)
                .map_err(|source| checkpoint::Error::Write { path: folder.into(), source })?;
        }
        Ok(())
    }

    /// The content of the checkpoint, which rank 0 reads for all; empty if there is none.
    fn read_checkpoint(&self, folder: &RunFolder) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if folder.is_writer() && folder.has_checkpoint() {
            let path = folder.checkpoint();
            bytes = std::fs::read(&path).map_err(|source| Error::Read { path, source })?;
        }
        self.ranks.broadcast(&mut bytes);
        Ok(bytes)
    }

    /// The file of a frozen-prefix cache on disk. Each rank has one of its own.
    fn prefix_cache_file(&self) -> PathBuf {
        match self.ranks.rank() {
            0 => self.output.join(PREFIX_CACHE_FILE),
            rank => self.output.join(format!("rank-{rank}-{PREFIX_CACHE_FILE}")),
        }
    }

    /// The same run in this process alone.
    pub(super) fn alone(&self) -> Self {
        Self { ranks: &Alone, ..*self }
    }

    /// Tokenizes the rows and makes the trainer.
    pub(super) fn prepare(&self, observer: &mut dyn FnMut(Event)) -> Result<PreparedRun<'a>> {
        let Self { llama, config, .. } = *self;
        config.validate()?;
        config.method.validate(llama)?;
        self.check_eval_rows()?;
        let max_len = config.max_len.min(llama.config().max_positions);
        let row_encoder = RowEncoder::new(self.tokenizer, &config.prompt, config.loss_on)?;
        let encode = |row: &Instruction| row_encoder.encode(row);
        let key = || Ok(row_encoder.cache_key() + &self.tokenizer.to_json()?);
        let encoder =
            ExampleEncoder { encode: &encode, key: &key, max_len, cache: self.token_cache };
        let EncodedRows { examples: train, counts: train_counts, mixture } =
            encoder.encode_all(self.train_rows)?;
        let EncodedRows { examples: eval, counts: eval_counts, .. } =
            encoder.encode_all(self.eval_rows)?;
        let longest = (0..train.len()).map(|index| train.n_tokens(index)).max().unwrap_or(0);
        let labels_per_row = mean_labels(&train)?;
        let trainable = self.init_trainable()?;
        let trainable_parameters = trainable.n_trainable_parameters();
        let trainer = Trainer::builder(llama, trainable, train)
            .config(config)
            .image_features(self.image_features)
            .mixture(mixture)
            .prefix_cache_file(self.prefix_cache_file())
            .ranks(self.ranks)
            .build()?;
        observer(Event::Prepared {
            train: train_counts,
            eval: eval_counts,
            total_steps: trainer.total_steps(),
            steps_per_epoch: trainer.steps_per_epoch(),
            trainable_parameters,
        });
        Ok(PreparedRun {
            trainer,
            eval,
            train_counts,
            eval_counts,
            trainable_parameters,
            longest,
            labels_per_row,
        })
    }

    /// The settings for steps that are thrown away: no cache that would be a file in the output folder.
    pub(super) fn config_without_files(&self) -> TrainConfig {
        let mut config = self.config.clone();
        if config.prefix_cache.mode == PrefixCacheMode::Disk {
            config.prefix_cache.mode = PrefixCacheMode::Off;
        }
        config
    }

    /// Checks that there are held-out rows if the config needs them.
    fn check_eval_rows(&self) -> Result<()> {
        let TrainConfig { early_stop, keep_best, .. } = *self.config;
        if !self.eval_rows.is_empty() || (early_stop.is_none() && !keep_best) {
            return Ok(());
        }
        let (field, found) = match early_stop {
            Some(evaluations) => ("the early stop", format!("after {evaluations} evaluations")),
            None => ("the adapter to keep", "the best".into()),
        };
        Err(Error::Config { field, found, expected: "none: there are no held-out rows" })
    }

    /// Whether the run was told to stop.
    pub(super) fn stop_requested(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::SeqCst))
    }

    /// The content of `run.json`.
    pub(super) fn record(&self) -> Result<RunRecord<'_>> {
        Ok(RunRecord {
            about: self.metadata,
            model: self.model_name,
            precision: format!("{:?}", self.llama.precision()),
            train_rows: self.train_rows.len(),
            eval_rows: self.eval_rows.len(),
            weights: self.train_rows.weights(),
            data_hash: hash_rows(&[self.train_rows, self.eval_rows])?,
            config: self.config,
        })
    }

    /// The trainable weights before the first step.
    fn init_trainable(&self) -> Result<TrainableWeights> {
        let Self { llama, config, .. } = *self;
        let statistics = match self.image_features {
            Some(features) => features.feature_statistics_of(self.train_rows)?,
            None => None,
        };
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

/// Mean number of labels of examples; of many, those at equal distances are counted.
fn mean_labels(examples: &ExampleStore) -> Result<f64> {
    const COUNTED: usize = 256;
    let every = examples.len().div_ceil(COUNTED).max(1);
    let (mut labels, mut count) = (0_usize, 0_u32);
    for index in (0..examples.len()).step_by(every) {
        labels += examples.get(index)?.n_labels();
        count += 1;
    }
    Ok(labels as f64 / f64::from(count.max(1)))
}
