//! `llama-adapter plan`: model, method and batch ─► estimated memory on each device, and changes that
//! make it fit

mod report;
mod scale;
mod table;

use device::{BACKENDS, Backend};
use llama::{LlamaConfig, Precision};
use memory_plan::{DeviceTraits, PrefixCachePlan, Workload, WorkloadKind};
use train::{CachePrecision, FineTuningMethod, TrainConfig};

use crate::defaults::prompt_config;
use crate::failure::Result;
use crate::memory_size::{available_memory, parse_size};
use crate::method::MethodArgs;
use crate::model::ModelArgs;
use crate::output;
use crate::train::PrecisionName;

use report::{CacheEstimate, DevicePlan, MemoryEstimate, PlanReport};
use scale::ScaleArgs;

/// Estimate the memory of training and generation, and suggest changes if it does not fit.
///
/// Reads only the model's config. Estimates for flex and ndarray are within 20 % of measured peaks;
/// other devices use the same model and are not validated. The image encoder and image features of
/// multimodal adapters are not counted.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Batch size [default: 8].
    #[arg(long, alias = "batch", value_name = "B", help_heading = "Workload")]
    batch_size: Option<usize>,
    /// Sequence length in training, prompt length in generation [default: 512, or the model's
    /// context].
    #[arg(long, aliases = ["seq", "max-len"], value_name = "T", help_heading = "Workload")]
    seq_len: Option<usize>,
    /// Label tokens per sequence (the response) [default: all but the first].
    #[arg(long, alias = "labels", value_name = "N", help_heading = "Workload")]
    label_tokens: Option<usize>,
    /// Maximum new tokens, limited by the model's context [default: 256].
    #[arg(long, alias = "new-tokens", value_name = "N", help_heading = "Workload")]
    max_new_tokens: Option<usize>,
    /// Activation checkpointing. Always on with --precision q8 and q4.
    #[arg(long, alias = "recompute", help_heading = "Workload")]
    activation_checkpointing: bool,
    /// Training rows, for the size of the frozen-prefix cache.
    #[arg(long, value_name = "N", help_heading = "Workload")]
    rows: Option<u64>,
    /// Precision of the frozen-prefix cache [default: f32].
    #[arg(long, value_enum, value_name = "PRECISION", help_heading = "Workload")]
    cache_precision: Option<PrecisionName>,
    /// Available memory, such as 8GiB or 500MB [default on CPUs: the system's available memory].
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Workload")]
    memory: Option<u64>,

    #[command(flatten)]
    method: MethodArgs,

    #[command(flatten)]
    scale: ScaleArgs,

    /// Print one line of JSON instead of tables.
    #[arg(long)]
    json: bool,
}

/// Estimates and prints the results.
pub fn run(args: &Args) -> Result {
    args.method.validate()?;
    let names = devices(&args.model)?;
    let source = args.model.open_source()?;
    let (mut training, mut generation) = args.workloads(source.config());
    let rows = training.batch_size;
    training.batch_size = rows.div_ceil(args.scale.ranks().unwrap_or(1));
    generation.batch_size = training.batch_size;
    let &Workload { batch_size: batch, seq_len: seq, precision, .. } = &training;
    let (WorkloadKind::Train { labels, .. }, WorkloadKind::Generate { max_new_tokens: new_tokens }) =
        (training.kind, generation.kind)
    else {
        unreachable!("one workload of each kind")
    };
    let devices = names.into_iter().map(|name| {
        let memory = args.memory.or_else(|| available_memory(&name));
        let backend = device::backend(&name).expect("devices have backends");
        let device = device_traits(backend);
        let estimate = |workload: &Workload| {
            MemoryEstimate::new(&Workload { device, ..workload.clone() }, memory)
        };
        Ok(DevicePlan {
            device: name,
            memory,
            measured: backend.memory_plan_measured,
            training: estimate(&training)?,
            answering: estimate(&generation)?,
        })
    });
    let mut report = PlanReport {
        model: source.path().display().to_string(),
        precision: precision.to_string(),
        batch,
        seq,
        labels,
        new_tokens,
        recompute: training.uses_activation_checkpointing(),
        prefix_cache: PrefixCachePlan::new(&training, args.cache_precision())
            .map(|plan| CacheEstimate::new(plan, args.rows)),
        devices: devices.collect::<Result<_>>()?,
        scale: None,
    };
    report.scale = args.scale.plan(&report, source.config(), rows);
    if args.json {
        return Ok(output::json(&report)?);
    }
    Ok(output::print(&report.to_string())?)
}

impl Args {
    fn cache_precision(&self) -> CachePrecision {
        self.cache_precision.map_or(CachePrecision::F32, CachePrecision::from)
    }

    /// A training step and the generation of a response, on a device that is not yet chosen.
    fn workloads(&self, config: &LlamaConfig) -> (Workload, Workload) {
        /// The default of `generate`.
        const MAX_NEW_TOKENS: usize = 256;
        let defaults = TrainConfig::default();
        let seq_len = self.seq_len.unwrap_or(defaults.max_len.min(config.max_positions));
        let prompts = prompt_config(config.n_layers, self.model.model.is_none(), 0);
        let training = Workload {
            config: config.clone(),
            precision: self.model.precision.unwrap_or_default(),
            method: self.method.method(prompts),
            kind: WorkloadKind::Train {
                labels: self.label_tokens.unwrap_or(seq_len.saturating_sub(1)),
                activation_checkpointing: self.activation_checkpointing,
            },
            batch_size: self.batch_size.unwrap_or(defaults.batch_size),
            seq_len,
            device: DeviceTraits::composed(None),
        };
        // A fully fine-tuned model generates without an adapter and in any precision: its workload is
        // that of the base model.
        let method = match &training.method {
            FineTuningMethod::Full => {
                FineTuningMethod::from(prompt_config(config.n_layers, false, 0))
            }
            FineTuningMethod::Adapter(adapter) => FineTuningMethod::Adapter(adapter.clone()),
        };
        let max_new_tokens = self.max_new_tokens.unwrap_or(MAX_NEW_TOKENS);
        let kind = WorkloadKind::Generate { max_new_tokens };
        let generation = Workload { method, kind, ..training.clone() };
        (training, generation)
    }
}

/// The requested device, or every backend of this build that supports the precision.
fn devices(model: &ModelArgs) -> Result<Vec<String>> {
    if let Some(name) = &model.device {
        device::parse(name)?;
        return Ok(vec![name.clone()]);
    }
    device::default_name()?;
    let half = matches!(model.precision, Some(Precision::BF16 | Precision::F16));
    let usable = |backend: &&Backend| backend.compiled && !(half && backend.half_dtype.is_none());
    Ok(BACKENDS.iter().filter(usable).map(|backend| backend.name.to_owned()).collect())
}

/// The properties of a backend that the memory depends on.
pub fn device_traits(backend: &Backend) -> DeviceTraits {
    if backend.fused {
        return DeviceTraits::fused();
    }
    let half = backend.half_dtype.and_then(|name| name.parse().ok());
    if backend.indexed { DeviceTraits::gpu(half) } else { DeviceTraits::composed(half) }
}
