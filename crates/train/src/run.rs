//! evaluate ─► step, step, ... checkpoint ─► evaluate ─► adapter and report

use std::path::{Path, PathBuf};
use std::time::Instant;

use adaption_prompt::AdaptionPrompt;
use llama::{Adapter, Llama, NoAdapter, Tokenizer};
use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;
use crate::error::{Error, Result};
use crate::evaluate::{ExactMatch, LabelLoss, answer_rows, evaluate_loss, exact_match};
use crate::example::{Example, Fitted};
use crate::instruction::Instruction;
use crate::output::Output;
use crate::trainer::{StepReport, Trainer};

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
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
    /// Settings.
    pub config: &'a TrainConfig,
    /// Folder for the results.
    pub output: &'a Path,
    /// What `run.json` shall say about the run beside its settings, such as the files' names. It
    /// does not have to be the same when the run is resumed.
    pub about: &'a serde_json::Value,
}

/// What a run tells while it works.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// Rows became examples.
    Prepared {
        /// Examples to learn from, and what the length limit did to them.
        train: Fitted,
        /// Examples to check with, likewise.
        eval: Fitted,
        /// Steps of the whole run.
        total: usize,
        /// Steps of an epoch.
        steps_per_epoch: usize,
        /// Numbers that training changes.
        parameters: usize,
    },
    /// Goes on from a checkpoint.
    Resumed {
        /// Steps done already.
        step: usize,
    },
    /// A held-out row was looked at: so many of so many.
    Evaluating {
        /// Rows done.
        done: usize,
        /// Rows in all.
        rows: usize,
    },
    /// Held-out rows were evaluated.
    Evaluated {
        /// Steps done.
        step: usize,
        /// Loss over the labels.
        loss: LabelLoss,
        /// Exact match, where it was asked for.
        exact_match: Option<ExactMatch>,
    },
    /// A step was made.
    Stepped(StepReport, Pace),
    /// The state was saved.
    Saved {
        /// Steps done.
        step: usize,
    },
}

/// How fast it goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Labels learned from in a second, over the run's steps so far.
    pub label_tokens_per_second: f64,
    /// Steps that are left.
    pub steps_left: usize,
    /// Seconds a step took on average.
    pub seconds_per_step: f64,
}

/// Result of a run, and the line that `llama-adapter train` ends with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Folder of the adapter.
    pub output: PathBuf,
    /// Steps made.
    pub steps: usize,
    /// Mean loss of a label over the last epoch's worth of steps.
    pub train_loss: f64,
    /// Held-out loss of the base model.
    pub eval_loss_before: Option<f64>,
    /// Held-out loss of the adapted model.
    pub eval_loss: Option<f64>,
    /// Share of held-out rows the base model answers to the letter.
    pub exact_match_before: Option<f64>,
    /// The same of the adapted model.
    pub exact_match: Option<f64>,
    /// Numbers that training changed.
    pub trainable_parameters: usize,
    /// Time from start to end, evaluation included; sums up over resumed parts.
    pub seconds: f64,
    /// Labels learned from in a second of training.
    pub label_tokens_per_second: f64,
}

/// What a checkpoint keeps beside the trainer's own state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Progress {
    before: Option<(LabelLoss, Option<ExactMatch>)>,
    /// Loss summed over labels and labels, of the last epoch's worth of steps.
    recent: Vec<(f64, usize)>,
    labels: usize,
    train_seconds: f64,
    seconds: f64,
}

/// A line of `metrics.jsonl`.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Metric {
    Step {
        step: usize,
        loss: f64,
        learning_rate: f64,
        gradient_norm: f64,
        labels: usize,
        slots: usize,
        seconds: f64,
    },
    Eval {
        step: usize,
        loss: f64,
        perplexity: f64,
        exact_match: Option<f64>,
    },
}

/// Settings as `run.json` keeps them: all that must be equal for a run to be resumed.
#[derive(Serialize)]
struct Settings<'a> {
    about: &'a serde_json::Value,
    model: &'a str,
    train_rows: usize,
    eval_rows: usize,
    /// Tells other data of the same size apart.
    data_hash: String,
    #[serde(flatten)]
    config: &'a TrainConfig,
}

impl Job<'_> {
    /// Trains an adapter and leaves it, with all that belongs to it, in the output folder.
    ///
    /// `resume` goes on with a run that was stopped there: the result is the same, bit for bit, as
    /// if it had not been. `observer` is told what happens.
    ///
    /// # Errors
    /// [`Error`]; in each case the folder keeps the last checkpoint.
    pub fn run(&self, resume: bool, observer: &mut dyn FnMut(Event)) -> Result<Summary> {
        let Self { llama, config, .. } = *self;
        let begin = Instant::now();
        config.validate()?;
        config.adapter.validate(llama.config().n_layers)?;
        let max_len = config.max_len.min(llama.config().max_positions);
        let (train, train_fitted) = Example::encode_all(self.train_rows, self.tokenizer, max_len)?;
        let (eval, eval_fitted) = match self.eval_rows {
            [] => (Vec::new(), Fitted::default()),
            rows => Example::encode_all(rows, self.tokenizer, max_len)?,
        };

        let device = llama.device().autodiff();
        let adapter = config.adapter.init(llama.config(), config.seed, &device)?;
        let parameters = adapter.n_parameters();
        let schedule = config.schedule(train.len());
        let order = config.order(train.len());
        let mut trainer = Trainer::new(llama, adapter, &train, order, schedule, &config.optimizer);
        let steps_per_epoch = trainer.steps_per_epoch();
        observer(Event::Prepared {
            train: train_fitted,
            eval: eval_fitted,
            total: schedule.total,
            steps_per_epoch,
            parameters,
        });

        let mut progress = Progress::default();
        let output = if resume {
            let output = Output::reopen(self.output, &self.settings())?;
            progress = trainer.load_checkpoint(&output.checkpoint())?;
            output.rewind_log(trainer.done())?;
            observer(Event::Resumed { step: trainer.done() });
            output
        } else {
            Output::create(self.output, &self.settings())?
        };
        if progress.before.is_none() && !eval.is_empty() {
            progress.before = Some(self.evaluate(&NoAdapter, &eval, 0, true, &output, observer)?);
        }

        let earlier = progress.seconds;
        let mut after = None;
        while !trainer.is_done() {
            let start = Instant::now();
            let report = trainer.step()?;
            let seconds = start.elapsed().as_secs_f64();
            progress.note(&report, seconds, steps_per_epoch);
            output.log(&Metric::of_step(&report, seconds))?;
            observer(Event::Stepped(report, progress.pace(&report, schedule.total)));

            let epoch_ended = report.step.is_multiple_of(steps_per_epoch) || trainer.is_done();
            if epoch_ended && !eval.is_empty() {
                let prompts = trainer.adapter().project(llama);
                let last = trainer.is_done();
                after =
                    Some(self.evaluate(&prompts, &eval, report.step, last, &output, observer)?);
            }
            if epoch_ended || report.step.is_multiple_of(config.checkpoint_every) {
                progress.seconds = earlier + begin.elapsed().as_secs_f64();
                trainer.adapter().save(self.output, self.model_name)?;
                trainer.save_checkpoint(&output.checkpoint(), &progress)?;
                observer(Event::Saved { step: report.step });
            }
        }
        // A run that was resumed at its very end has nothing left to do but its report.
        if after.is_none() && !eval.is_empty() {
            let prompts = trainer.adapter().project(llama);
            after =
                Some(self.evaluate(&prompts, &eval, trainer.done(), true, &output, observer)?);
        }
        let seconds = earlier + begin.elapsed().as_secs_f64();
        Ok(progress.summary(self.output, trainer.done(), parameters, after, seconds))
    }

    /// The adapter of a finished run.
    ///
    /// # Errors
    /// As [`AdaptionPrompt::load`].
    pub fn adapter(&self) -> Result<AdaptionPrompt> {
        let Self { llama, output, .. } = *self;
        Ok(AdaptionPrompt::load(output, llama.config(), &llama.device())?)
    }

    fn evaluate(
        &self,
        adapter: &dyn Adapter,
        examples: &[Example],
        step: usize,
        with_answers: bool,
        output: &Output,
        observer: &mut dyn FnMut(Event),
    ) -> Result<(LabelLoss, Option<ExactMatch>)> {
        let Self { llama, tokenizer, config, .. } = *self;
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
                let answers =
                    answer_rows(llama, adapter, tokenizer, asked, 4 * batch, &mut progress)?;
                Some(exact_match(asked, &answers))
            }
        };
        output.log(&Metric::Eval {
            step,
            loss: loss.loss,
            perplexity: loss.perplexity(),
            exact_match: found.map(|found| found.share()),
        })?;
        observer(Event::Evaluated { step, loss, exact_match: found });
        Ok((loss, found))
    }

    fn settings(&self) -> Settings<'_> {
        Settings {
            about: self.about,
            model: self.model_name,
            train_rows: self.train_rows.len(),
            eval_rows: self.eval_rows.len(),
            data_hash: format!("{:016x}", hash_rows(&[self.train_rows, self.eval_rows])),
            config: self.config,
        }
    }
}

impl Progress {
    fn note(&mut self, report: &StepReport, seconds: f64, steps_per_epoch: usize) {
        self.recent.push((report.loss * report.labels as f64, report.labels));
        if self.recent.len() > steps_per_epoch {
            self.recent.remove(0);
        }
        self.labels += report.labels;
        self.train_seconds += seconds;
    }

    fn pace(&self, report: &StepReport, total: usize) -> Pace {
        Pace {
            label_tokens_per_second: self.label_tokens_per_second(),
            steps_left: total.saturating_sub(report.step),
            seconds_per_step: self.train_seconds / report.step as f64,
        }
    }

    fn label_tokens_per_second(&self) -> f64 {
        if self.train_seconds > 0.0 { self.labels as f64 / self.train_seconds } else { 0.0 }
    }

    fn summary(
        &self,
        output: &Path,
        steps: usize,
        trainable_parameters: usize,
        after: Option<(LabelLoss, Option<ExactMatch>)>,
        seconds: f64,
    ) -> Summary {
        let (sum, labels) =
            self.recent.iter().fold((0.0, 0), |(sum, n), (loss, labels)| (sum + loss, n + labels));
        let loss = |found: Option<(LabelLoss, _)>| found.map(|(loss, _)| loss.loss);
        let share = |found: Option<(LabelLoss, Option<ExactMatch>)>| {
            found.and_then(|(_, found)| found).map(|found| found.share())
        };
        Summary {
            output: output.into(),
            steps,
            train_loss: sum / labels.max(1) as f64,
            eval_loss_before: loss(self.before),
            eval_loss: loss(after),
            exact_match_before: share(self.before),
            exact_match: share(after),
            trainable_parameters,
            seconds,
            label_tokens_per_second: self.label_tokens_per_second(),
        }
    }
}

impl Metric {
    fn of_step(report: &StepReport, seconds: f64) -> Self {
        let StepReport { step, loss, rate, gradient_norm, labels, slots } = *report;
        Self::Step { step, loss, learning_rate: rate, gradient_norm, labels, slots, seconds }
    }
}

/// FNV-1a over every text of the rows. It tells data apart; it keeps no secrets.
fn hash_rows(groups: &[&[Instruction]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for row in groups.iter().copied().flatten() {
        for text in [&row.instruction, &row.input, &row.output] {
            text.bytes().for_each(&mut eat);
            // A byte that no text holds keeps fields apart.
            eat(0xff);
        }
    }
    hash
}

/// Splits rows into those to learn from and a seeded share to check with.
///
/// # Errors
/// [`Error::Config`] for a share outside 0 to 1, or one that leaves nothing to learn from.
pub fn split_rows(
    rows: Vec<Instruction>,
    fraction: f64,
    seed: u64,
) -> Result<(Vec<Instruction>, Vec<Instruction>)> {
    use rand::SeedableRng;
    use rand::seq::SliceRandom;

    let bad = || Error::Config {
        field: "the held-out fraction",
        found: fraction.to_string(),
        expected: "at least 0, below 1, leaving rows to learn from",
    };
    if !(0.0..1.0).contains(&fraction) {
        return Err(bad());
    }
    let held_out = (fraction * rows.len() as f64).round() as usize;
    if held_out >= rows.len() {
        return Err(bad());
    }
    let mut order = (0..rows.len()).collect::<Vec<_>>();
    order.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed));
    let mut chosen = order[..held_out].to_vec();
    chosen.sort_unstable();
    let (mut train, mut eval) = (Vec::new(), Vec::new());
    for (index, row) in rows.into_iter().enumerate() {
        if chosen.binary_search(&index).is_ok() { eval.push(row) } else { train.push(row) }
    }
    Ok((train, eval))
}
