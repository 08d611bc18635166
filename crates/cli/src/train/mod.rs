//! `llama-adapter train`: a model and rows ─► an adapter
//!
//! [`Args`] ─► rows and image features (`data`) and settings (`config`) ─► a training run (`run`), its
//! estimate (`dry_run`) or a learning-rate range test (`learning_rate`)

mod cache_args;
mod config;
mod data;
mod dry_run;
mod learning_rate;
mod option_names;
mod prompt;
mod run;
mod schedule;
mod tensorboard;
mod view;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use train::PartKind;

use crate::data_args::DataArgs;
use crate::image_args::{EncoderArgs, RowImageArgs};
use crate::image_conditioning::ImageConditioningArgs;
use crate::method::MethodArgs;
use crate::model::ModelArgs;
use cache_args::CacheArgs;
use learning_rate::LearningRateChoice;
use schedule::ScheduleChoice;

pub use cache_args::PrecisionName;
pub use prompt::{PromptArgs, has_turns, rows_for};
pub use run::run;

/// Fine-tune a model on instructions and save the adapter in a folder.
///
/// Without options, trains the built-in model on the built-in instructions in about a minute; with
/// only `--image-encoder tiny-vit`, trains a multimodal adapter on the built-in images.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of the command line")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Training data: JSON or JSON Lines with `instruction`, `input`, `output` and optionally
    /// `image`; conversations, preference pairs or plain `text`; tables (CSV, TSV, Parquet) with the same
    /// columns or `url` and `caption`; a folder of such files; a ScienceQA folder; a data set of the Hugging
    /// Face Hub as hub:owner/name[@revision][:split]. With a weight, FILE=0.7, each epoch takes that share
    /// from it.
    #[arg(long, value_name = "FILE", num_args = 1.., help_heading = "Data")]
    data: Vec<PathBuf>,
    /// Held-out data, evaluated before the first step and after each epoch.
    #[arg(long, value_name = "FILE", conflicts_with = "eval_fraction", help_heading = "Data")]
    eval_data: Option<PathBuf>,
    /// Fraction of --data held out for evaluation [default: 0.1].
    #[arg(long, value_name = "FRACTION", help_heading = "Data")]
    eval_fraction: Option<f64>,
    #[command(flatten)]
    row_options: DataArgs,
    /// Maximum sequence length in tokens; longer outputs are truncated [default: 512, or the model's
    /// context].
    #[arg(long, value_name = "TOKENS", help_heading = "Data")]
    max_len: Option<usize>,
    /// Held-out rows for the exact-match metric before and after training; 0 disables it [default:
    /// 128].
    #[arg(long, value_name = "ROWS", help_heading = "Data")]
    exact_match_rows: Option<usize>,

    #[command(flatten)]
    prompt: PromptArgs,

    #[command(flatten)]
    method: MethodArgs,
    /// Initialize from a trained adapter; missing parts are initialized at random.
    #[arg(long, value_name = "PATH", help_heading = "Adapter")]
    from_adapter: Option<PathBuf>,
    /// Trainable parameter groups, comma-separated; the others are frozen [default: all].
    #[arg(
        long,
        alias = "learn",
        value_parser = part_parser(),
        value_name = "GROUPS",
        value_delimiter = ',',
        help_heading = "Adapter"
    )]
    trainable: Vec<PartKind>,

    #[command(flatten)]
    encoder: EncoderArgs,
    #[command(flatten)]
    row_images: RowImageArgs,
    #[command(flatten)]
    image_conditioning: ImageConditioningArgs,
    /// Group the rows of one image together: faster, with fewer images per step.
    #[arg(long, alias = "images-together", help_heading = "Images")]
    group_by_image: bool,

    /// Batch size [default: 8].
    #[arg(long, value_name = "B", help_heading = "Training")]
    batch_size: Option<usize>,
    /// Tokens per batch, padding included: batches of similar length, instead of --batch-size.
    #[arg(
        long,
        value_name = "TOKENS",
        conflicts_with_all = ["batch_size", "group_by_image"],
        help_heading = "Training"
    )]
    batch_tokens: Option<usize>,
    /// Gradient accumulation steps: micro-batches per optimizer step [default: 1].
    #[arg(long, alias = "accumulate", value_name = "N", help_heading = "Training")]
    gradient_accumulation_steps: Option<usize>,
    /// Number of epochs [default: 3].
    #[arg(long, value_name = "E", conflicts_with = "max_steps", help_heading = "Training")]
    epochs: Option<usize>,
    /// Total number of optimizer steps; replaces --epochs.
    #[arg(long, value_name = "N", help_heading = "Training")]
    max_steps: Option<usize>,
    /// Peak learning rate [default: 1e-2 for prompts, 3e-3 with v2, 1e-3 for lora, 1e-4 for full; for
    /// the built-in model 3e-2, 1e-2, 1e-2 and 1e-3]. `find` measures the loss over a range of rates,
    /// suggests one, and writes the curve into --output; nothing is trained.
    #[arg(long, visible_alias = "lr", value_name = "X", help_heading = "Training")]
    learning_rate: Option<LearningRateChoice>,
    /// Peak learning rate of the gates [default: that of --learning-rate].
    #[arg(long, value_name = "X", help_heading = "Training")]
    lr_gate: Option<f64>,
    /// Peak learning rates of parts of the adapter, such as `lora=1e-3` [default: that of
    /// --learning-rate].
    #[arg(
        long,
        value_name = "PART=X",
        value_parser = parse_part_learning_rate,
        value_delimiter = ',',
        help_heading = "Training"
    )]
    lr_part: Vec<(PartKind, f64)>,
    /// Learning-rate schedule after the warmup [default: cosine].
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Training")]
    schedule: Option<ScheduleChoice>,
    /// Warmup ratio: fraction of steps with linear learning-rate warmup [default: 0.1].
    #[arg(long, alias = "warmup", value_name = "RATIO", help_heading = "Training")]
    warmup_ratio: Option<f64>,
    /// Decoupled weight decay [default: 0.02].
    #[arg(long, value_name = "X", help_heading = "Training")]
    weight_decay: Option<f32>,
    /// Maximum global gradient norm (gradient clipping) [default: off].
    #[arg(long, aliases = ["clip", "max-grad-norm"], value_name = "NORM", help_heading = "Training")]
    max_gradient_norm: Option<f64>,
    /// Stop after N consecutive steps with a NaN or infinite loss or gradient. Such steps are skipped
    /// and counted [default: 10].
    #[arg(long, value_name = "N", help_heading = "Training")]
    max_skipped_steps: Option<usize>,
    /// Activation checkpointing: recompute each layer's activations in the backward pass; less
    /// memory, more time. Always on with --precision q8 and q4.
    #[arg(long, alias = "recompute", help_heading = "Training")]
    activation_checkpointing: bool,
    #[command(flatten)]
    cache: CacheArgs,
    /// Exponential moving average of the weights with this decay, such as 0.99; evaluated and saved
    /// instead of the latest weights [default: off].
    #[arg(long, value_name = "DECAY", help_heading = "Training")]
    ema: Option<f64>,
    /// Stop after N evaluations without a lower held-out loss [default: off].
    #[arg(long, value_name = "N", help_heading = "Training")]
    early_stop: Option<usize>,
    /// Keep the adapter with the lowest held-out loss, instead of the last one.
    #[arg(long, help_heading = "Training")]
    keep_best: bool,
    /// NEFTune: uniform noise on the token embeddings in training, of strength ALPHA, such as 5
    /// [default: off].
    #[arg(long, value_name = "ALPHA", help_heading = "Training")]
    noise: Option<f64>,
    /// Do not shuffle; every epoch uses the file's order.
    #[arg(long, help_heading = "Training")]
    no_shuffle: bool,
    /// Random seed of initialization and shuffling: the same seed and device give the same adapter
    /// [default: 0].
    #[arg(long, value_name = "S", help_heading = "Training")]
    seed: Option<u64>,

    /// Output folder [default: a new folder in adapters/].
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    output: Option<PathBuf>,
    /// Resume the interrupted run in --output. Settings must be unchanged, including the number of
    /// steps, because the learning-rate schedule depends on it; only the options of checkpoints may
    /// differ. To continue with other settings, start a new run with --from-adapter.
    #[arg(long, requires = "output", help_heading = "Output")]
    resume: bool,
    /// Save a checkpoint every N steps, and after each epoch [default: 50].
    #[arg(long, value_name = "N", help_heading = "Output")]
    checkpoint_every: Option<usize>,
    /// Save a checkpoint when the last one is M minutes old, too.
    #[arg(long, value_name = "M", help_heading = "Output")]
    checkpoint_minutes: Option<f64>,
    /// Keep the last N checkpoints with their adapters, in checkpoints/ in --output [default: 1, only
    /// the latest, in --output itself].
    #[arg(long, value_name = "N", help_heading = "Output")]
    keep: Option<usize>,
    /// Load the model and the data, perform a few steps, and print steps, memory and time of the run.
    /// Nothing is written.
    #[arg(long, help_heading = "Output")]
    dry_run: bool,
    /// Print a time profile at the end and write a trace to trace.json in --output (chrome://tracing,
    /// Perfetto). Accurate on CPUs only: GPU work is asynchronous.
    #[arg(long, help_heading = "Output")]
    profile: bool,
    /// Held-out rows that are answered before and after training, printed and kept for the report; 0
    /// for none [default: 3, or 0 with --quiet].
    #[arg(long, value_name = "ROWS", help_heading = "Output")]
    samples: Option<usize>,
    /// Write events for TensorBoard to tensorboard/ in --output: losses, learning rate, speed, gates.
    #[arg(long, help_heading = "Output")]
    tensorboard: bool,
    /// Show the run on the whole terminal: loss, gates, speed and log. q or Ctrl-C saves and stops.
    #[arg(long, conflicts_with = "quiet", help_heading = "Output")]
    tui: bool,
    /// End all ranks if one is dead, or lets the others wait for SECONDS in a step; more than the longest
    /// step takes [default: 300].
    #[cfg_attr(
        feature = "mpi",
        arg(long, value_name = "SECONDS", value_parser = parse_seconds, help_heading = "Output")
    )]
    #[cfg_attr(not(feature = "mpi"), arg(skip))]
    rank_timeout: Option<std::time::Duration>,
    /// Print only errors and the final JSON summary.
    #[arg(long, help_heading = "Output")]
    quiet: bool,
    /// Whether another rank writes all files.
    #[arg(skip)]
    writes_nothing: bool,
}

/// A value of `--rank-timeout`.
#[cfg(feature = "mpi")]
fn parse_seconds(text: &str) -> Result<std::time::Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds >= 1.0);
    let time = seconds.and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| "expected a number of seconds, at least 1".into())
}

/// A value of `--lr-part`: `lora=1e-3`.
fn parse_part_learning_rate(text: &str) -> Result<(PartKind, f64), String> {
    let expected = || {
        let parts = PartKind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        format!("expected PART=X, with one of the parts {parts}")
    };
    let (part, rate) = text.split_once('=').ok_or_else(expected)?;
    let part = part.trim().parse().map_err(|_| expected())?;
    let rate = rate.trim().parse().map_err(|_| format!("`{rate}` is not a number"))?;
    Ok((part, rate))
}

impl Args {
    /// Switches off what rank 0 alone does.
    fn be_silent(&mut self) {
        (self.quiet, self.tui, self.profile, self.tensorboard) = (true, false, false, false);
        self.samples = Some(0);
        self.writes_nothing = true;
    }
}

/// The values of `--trainable`.
fn part_parser() -> impl TypedValueParser<Value = PartKind> {
    let names = PartKind::ALL.iter().map(|kind| kind.name());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<PartKind>())
}
