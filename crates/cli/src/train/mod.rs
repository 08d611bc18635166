//! `llama-adapter train`: a model and rows ─► an adapter
//!
//! [`Args`] ─► rows and image features (`data`) and settings (`config`) ─► a training run (`run`)

mod config;
mod data;
mod prompt;
mod run;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use train::PartKind;

use crate::data_args::DataArgs;
use crate::image_args::{EncoderArgs, RowImageArgs};
use crate::image_conditioning::ImageConditioningArgs;
use crate::method::MethodArgs;
use crate::model::ModelArgs;

pub use prompt::rows_for;
pub use run::run;

use prompt::PromptArgs;

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
    /// `image`; conversations, preference pairs or plain `text`; tables (CSV, TSV) with the same columns
    /// or `url` and `caption`; a ScienceQA folder.
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
    /// the built-in model 3e-2, 1e-2, 1e-2 and 1e-3].
    #[arg(long, visible_alias = "lr", value_name = "X", help_heading = "Training")]
    learning_rate: Option<f64>,
    /// Warmup ratio: fraction of steps with linear learning-rate warmup [default: 0.1].
    #[arg(long, alias = "warmup", value_name = "RATIO", help_heading = "Training")]
    warmup_ratio: Option<f64>,
    /// Decoupled weight decay [default: 0.02].
    #[arg(long, value_name = "X", help_heading = "Training")]
    weight_decay: Option<f32>,
    /// Maximum global gradient norm (gradient clipping) [default: off].
    #[arg(long, aliases = ["clip", "max-grad-norm"], value_name = "NORM", help_heading = "Training")]
    max_gradient_norm: Option<f64>,
    /// Activation checkpointing: recompute each layer's activations in the backward pass; less
    /// memory, more time. Always on with --precision q8 and q4.
    #[arg(long, alias = "recompute", help_heading = "Training")]
    activation_checkpointing: bool,
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
    /// steps, because the learning-rate schedule depends on it. To continue with other settings,
    /// start a new run with --from-adapter.
    #[arg(long, requires = "output", help_heading = "Output")]
    resume: bool,
    /// Save a checkpoint every N steps [default: 50].
    #[arg(long, value_name = "N", help_heading = "Output")]
    checkpoint_every: Option<usize>,
    /// Print a time profile at the end and write a trace to trace.json in --output (chrome://tracing,
    /// Perfetto). Accurate on CPUs only: GPU work is asynchronous.
    #[arg(long, help_heading = "Output")]
    profile: bool,
    /// Print only errors and the final JSON summary.
    #[arg(long, help_heading = "Output")]
    quiet: bool,
}

/// The values of `--trainable`.
fn part_parser() -> impl TypedValueParser<Value = PartKind> {
    let names = PartKind::ALL.iter().map(|kind| kind.name());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<PartKind>())
}
