//! `llama-adapter train`: a model and instructions go in, an adapter comes out.

use std::path::{Path, PathBuf};

use adaption_prompt::{AdapterSummary, ImageConfig};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;
use train::{
    FineTuningMethod, ImageFeatureCache, Instruction, LoadedRows, PartKind, RowReport, TrainConfig,
    TrainLength, TrainingRun, split_rows,
};

use crate::adapters::warn_unknown_settings;
use crate::condition::{ImageConditioningArgs, PromptSpec};
use crate::error::Error;
use crate::failure::{Failure, Result};
use crate::images::{EncoderArgs, RowImageArgs, warn_ignored_images};
use crate::method::MethodArgs;
use crate::model::{Base, ModelArgs};
use crate::output::{self, note};
use crate::profile::Profiler;
use crate::progress::Progress;
use crate::recipe::{self, BuiltInDataset};
use crate::rows::DataArgs;
use crate::shown::print_sample_responses;

/// Teach a model from instructions: the result is an adapter in a folder of its own.
///
/// Without any option the built-in model learns the built-in instructions, in about a minute; with
/// `--image-encoder tiny-vit` alone it learns to see, from the built-in pictures.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of the command line")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Files to learn from: JSON lists or JSON lines of `instruction`, `input`, `output`, with an
    /// `image` beside them if there is one, or of conversations; tables of the same, or of `url` and
    /// `caption`; a folder of ScienceQA.
    #[arg(long, value_name = "FILE", num_args = 1.., help_heading = "Data")]
    data: Vec<PathBuf>,
    /// File of held-out rows to check with, before the first step and after each epoch.
    #[arg(long, value_name = "FILE", conflicts_with = "eval_fraction", help_heading = "Data")]
    eval_data: Option<PathBuf>,
    /// Share of the rows in --data to hold out instead [default: 0.1].
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    eval_fraction: Option<f64>,
    #[command(flatten)]
    reading: DataArgs,
    /// Longest row in tokens; longer ones lose the end of their output [default: 512, or the
    /// model's context].
    #[arg(long, value_name = "TOKENS", help_heading = "Data")]
    max_len: Option<usize>,
    /// Held-out rows to answer before and after, counting those answered to the letter; 0:
    /// none [default: 128].
    #[arg(long, value_name = "ROWS", help_heading = "Data")]
    exact_match_rows: Option<usize>,

    #[command(flatten)]
    method: MethodArgs,
    /// Go on from an adapter that was learned before; parts of the method that it lacks start anew.
    #[arg(long, value_name = "PATH", help_heading = "Adapter")]
    from_adapter: Option<PathBuf>,
    /// The parts of the adapter that learn, separated by commas, while the others stay as they are
    /// [default: all].
    #[arg(long, value_parser = part_parser(), value_name = "PARTS", value_delimiter = ',', help_heading = "Adapter")]
    learn: Vec<PartKind>,

    #[command(flatten)]
    encoder: EncoderArgs,
    #[command(flatten)]
    row_images: RowImageArgs,
    #[command(flatten)]
    condition: ImageConditioningArgs,
    /// Let rows about one image come one behind the other: faster, with fewer images in a step.
    #[arg(long, help_heading = "Images")]
    images_together: bool,

    /// Rows of a batch [default: 8].
    #[arg(long, value_name = "B", help_heading = "Training")]
    batch_size: Option<usize>,
    /// Batches of a step [default: 1].
    #[arg(long, value_name = "A", help_heading = "Training")]
    gradient_accumulation_steps: Option<usize>,
    /// Times through the data [default: 3].
    #[arg(long, value_name = "E", conflicts_with = "max_steps", help_heading = "Training")]
    epochs: Option<usize>,
    /// Steps, whatever the size of the data.
    #[arg(long, value_name = "N", help_heading = "Training")]
    max_steps: Option<usize>,
    /// Highest learning rate [default: 1e-2 for prompts, 3e-3 with v2, 1e-3 for lora, 1e-4 for full;
    /// for the built-in model 3e-2, 1e-2, 1e-2 and 1e-3].
    #[arg(long, value_name = "X", help_heading = "Training")]
    lr: Option<f64>,
    /// Share of the steps in which the learning rate rises [default: 0.1].
    #[arg(long, value_name = "SHARE", help_heading = "Training")]
    warmup_ratio: Option<f64>,
    /// Decoupled weight decay [default: 0.02].
    #[arg(long, value_name = "X", help_heading = "Training")]
    weight_decay: Option<f32>,
    /// Largest norm of all gradients together [default: no limit].
    #[arg(long, value_name = "NORM", help_heading = "Training")]
    max_gradient_norm: Option<f64>,
    /// Compute the layers twice and keep one layer's intermediate results at a time: less memory,
    /// more time. Always so with --precision q8 and q4.
    #[arg(long, help_heading = "Training")]
    activation_checkpointing: bool,
    /// Take the rows in the order of the file in every epoch.
    #[arg(long, help_heading = "Training")]
    no_shuffle: bool,
    /// Seed of the prompts and of the order of the rows: the same seed and device give the same
    /// adapter [default: 0].
    #[arg(long, value_name = "S", help_heading = "Training")]
    seed: Option<u64>,

    /// Folder for the results [default: a new one in adapters/].
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    output: Option<PathBuf>,
    /// Go on with the run that stopped in --output, as if it had not: with the same settings, the
    /// length among them, since every learning rate depends on it. To train on with others, start a
    /// new run with --from-adapter.
    #[arg(long, requires = "output", help_heading = "Output")]
    resume: bool,
    /// Steps between two checkpoints [default: 50].
    #[arg(long, value_name = "N", help_heading = "Output")]
    checkpoint_every: Option<usize>,
    /// Tell at the end where the time went, part by part, and write every call into trace.json in
    /// --output, for chrome://tracing. Right on CPUs; a GPU works on while a part has ended.
    #[arg(long, help_heading = "Output")]
    profile: bool,
    /// Say nothing but errors and the closing line of JSON.
    #[arg(long, help_heading = "Output")]
    quiet: bool,
}

/// Trains, shows three answers, and ends with the summary.
pub fn run(args: &Args) -> Result {
    args.method.check()?;
    if args.data.is_empty() {
        recipe::require_data(&args.model, "--data")?;
    }
    let started = args.started_with()?;
    let sees = args.encoder.image_encoder.is_some() || started.is_some();
    let tell = |text: &str| {
        if !args.quiet {
            note(text);
        }
    };
    let Data { mut train_rows, mut eval_rows, mut report } =
        args.rows(BuiltInDataset::of(sees), &tell)?;
    let base = args.model.load_with(&tell)?;
    let tokenizer = base.source.tokenizer()?;
    let n_layers = base.llama.config().n_layers;
    let mut config = args.config(n_layers);
    config.validate()?;
    let rows = &mut [&mut train_rows, &mut eval_rows];
    let pictures = args.pictures(&base, started.as_ref(), rows, &mut report, &mut config, &tell)?;
    config.method.validate(&base.llama).map_err(Failure::as_usage)?;
    let name = args.model.name();
    let model_name = name.as_deref().unwrap_or(BUILT_IN);
    let output = match &args.output {
        Some(folder) => folder.clone(),
        None => new_folder(model_name),
    };
    let about = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "device": args.model.device_name()?,
        "data": args.data.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
        "eval_data": args.eval_data.as_ref().map(|path| path.to_string_lossy()),
    });
    let job = TrainingRun {
        llama: &base.llama,
        tokenizer: &tokenizer,
        model_name,
        train_rows: &train_rows,
        eval_rows: &eval_rows,
        image_features: pictures.as_ref(),
        config: &config,
        output: &output,
        metadata: &about,
    };
    let profile = args.profile.then(Profiler::start).transpose()?;
    let mut progress = Progress::new(args.quiet);
    let result = job.run(args.resume, &mut |event| progress.show(event));
    progress.clear();
    let mut summary = result?;
    summary.rows.counts.add_report(&report);
    if let Some(profile) = profile {
        note(&format!("\n{}", profile.finish(&output.join("trace.json"))?));
    }
    if !args.quiet {
        print_sample_responses(&base, &tokenizer, &job)?;
        // As it was called just now: through cargo it is on no search path.
        let program = std::env::args_os().next().unwrap_or_else(|| "llama-adapter".into());
        let program = program.to_string_lossy();
        let model = name.as_ref().map_or(String::new(), |name| format!(" --model {name}"));
        let output = output.display();
        let (what, options) = match config.method {
            FineTuningMethod::Adapter(_) => ("adapter", format!("{model} --adapter {output}")),
            FineTuningMethod::Full => ("model", format!(" --model {output} --wording alpaca")),
        };
        note(&format!("\nThe {what} is in {output}. Try it:\n"));
        note(&format!("  {program} chat{options}\n"));
    }
    output::json(&summary)
}

const BUILT_IN: &str = "tiny-llama";

/// Rows to learn from and to check with, and what became of others.
struct Data {
    train_rows: Vec<Instruction>,
    eval_rows: Vec<Instruction>,
    report: RowReport,
}

/// The choices of `--learn`.
fn part_parser() -> impl TypedValueParser<Value = PartKind> {
    let names = PartKind::ALL.iter().map(|kind| kind.name());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<PartKind>())
}

impl Args {
    /// Rows to learn from and to check with; of what is built in where no file is named.
    fn rows(&self, built_in: &BuiltInDataset, tell: &dyn Fn(&str)) -> Result<Data> {
        /// Share held out when nothing is said.
        const HELD_OUT: f64 = 0.1;
        let read = |paths: &[PathBuf], split| {
            let images = self.row_images.image_folder.as_deref();
            self.reading.read_all(paths, images, split, tell)
        };
        let LoadedRows { rows, mut report } = match &self.data[..] {
            [] => LoadedRows { rows: built_in.train()?, report: RowReport::default() },
            paths => read(paths, "train")?,
        };
        let (train_rows, eval_rows) = if let Some(path) = &self.eval_data {
            let held_out = read(std::slice::from_ref(path), "val")?;
            report.merge(held_out.report);
            (rows, held_out.rows)
        } else if self.data.is_empty() && self.eval_fraction.is_none() {
            (rows, built_in.test()?)
        } else {
            let fraction = self.eval_fraction.unwrap_or(HELD_OUT);
            split_rows(rows, fraction, self.seed.unwrap_or(0))?
        };
        Ok(Data { train_rows, eval_rows, report })
    }

    /// How the adapter of `--from-adapter` sees images, if it does.
    fn started_with(&self) -> Result<Option<ImageConfig>> {
        let started = self.from_adapter.as_deref().map(AdapterSummary::read).transpose()?;
        if let Some(path) = &self.from_adapter
            && !self.quiet
        {
            warn_unknown_settings(path);
        }
        Ok(started.and_then(|summary| summary.image))
    }

    /// What is seen in the images of rows, where the adapter is to see them; its condition goes into
    /// the settings.
    fn pictures(
        &self,
        base: &Base,
        started: Option<&ImageConfig>,
        rows: &mut [&mut Vec<Instruction>],
        report: &mut RowReport,
        config: &mut TrainConfig,
        tell: &dyn Fn(&str),
    ) -> Result<Option<ImageFeatureCache>> {
        let usage = |message: &str| Error::Usage { message: message.into(), hint: None };
        let viewer = match (started, self.encoder.source(tell)?) {
            (Some(_), _) if self.condition.any() => {
                return Err(
                    usage("the adapter of --from-adapter sees images in its own way").into()
                );
            }
            (Some(image), _) => self.encoder.viewer(&[image], &base.device, tell)?,
            (None, Some(source)) => {
                let FineTuningMethod::Adapter(adapter) = &mut config.method else {
                    return Err(usage("--method full has no use for images").into());
                };
                let prompts = adapter.prompts.clone().unwrap_or_default();
                let size = PromptSpec {
                    adapter_len: prompts.adapter_len,
                    d_model: base.llama.config().d_model,
                    gate: prompts.gate,
                    activation: prompts.activation,
                };
                let path = self.encoder.image_encoder.as_deref().unwrap_or(Path::new(""));
                let name = path.display().to_string();
                let (viewer, image) = self.condition.load(&source, &name, size, &base.device)?;
                adapter.image = Some(image);
                Some(viewer)
            }
            (None, None) => None,
        };
        let Some(viewer) = viewer else {
            warn_ignored_images(rows[0], tell);
            return Ok(None);
        };
        if rows[0].iter().all(|row| row.image.is_none()) && self.from_adapter.is_none() {
            return Err(usage("no row to learn from names an image").into());
        }
        self.row_images.look(&viewer, rows, report, &base.device, tell).map(Some)
    }

    /// The recipe's settings with what was asked for in their place.
    fn config(&self, n_layers: usize) -> TrainConfig {
        let built_in = self.model.model.is_none();
        let taken = self.condition.image_layers();
        let method = self.method.method(recipe::prompts(n_layers, built_in, taken));
        let learning_rate = recipe::learning_rate(&method, built_in);
        let mut config = TrainConfig { method, learning_rate, ..TrainConfig::default() };
        config.prompt_init_text.clone_from(&self.method.prompt_init_text);
        let set = |place: &mut usize, value: Option<usize>| {
            if let Some(value) = value {
                *place = value;
            }
        };
        set(&mut config.batch_size, self.batch_size);
        set(&mut config.gradient_accumulation_steps, self.gradient_accumulation_steps);
        set(&mut config.max_len, self.max_len);
        set(&mut config.checkpoint_every, self.checkpoint_every);
        set(&mut config.exact_match_rows, self.exact_match_rows);
        if let Some(epochs) = self.epochs {
            config.length = TrainLength::Epochs(epochs);
        }
        if let Some(steps) = self.max_steps {
            config.length = TrainLength::Steps(steps);
        }
        config.learning_rate = self.lr.unwrap_or(config.learning_rate);
        config.warmup_ratio = self.warmup_ratio.unwrap_or(config.warmup_ratio);
        config.shuffle = !self.no_shuffle;
        config.group_by_image = self.images_together;
        config.initial_adapter.clone_from(&self.from_adapter);
        config.trainable_groups = (!self.learn.is_empty()).then(|| self.learn.clone());
        config.seed = self.seed.unwrap_or(config.seed);
        config.activation_checkpointing = self.activation_checkpointing
            || self.model.precision.is_some_and(|d| d.bits().is_some());
        config.optimizer.weight_decay = self.weight_decay.unwrap_or(config.optimizer.weight_decay);
        config.optimizer.max_gradient_norm =
            self.max_gradient_norm.or(config.optimizer.max_gradient_norm);
        config
    }
}

/// `adapters/NAME-N` with the first N that is free.
fn new_folder(model_name: &str) -> PathBuf {
    let name = Path::new(model_name).file_name().unwrap_or("model".as_ref()).to_string_lossy();
    let name = name.strip_suffix(".gguf").unwrap_or(&name);
    let folder = |n: usize| Path::new("adapters").join(format!("{name}-{n}"));
    (1..=usize::MAX).map(folder).find(|folder| !folder.exists()).expect("some number is free")
}
