//! `llama-adapter plan`: sizes of a model, a method and a batch ─► bytes on each device, and what to
//! change if they are too many

mod room;
mod table;

use device::{BACKENDS, Backend};
use llama::{LlamaConfig, Precision};
use memory_plan::{
    DeviceTraits, MemoryPlan, MemorySaving, SettingChange, Workload, WorkloadKind, memory_savings,
};
use serde::Serialize;
use train::{FineTuningMethod, TrainConfig};

use crate::failure::{Failure, Result};
use crate::method::MethodArgs;
use crate::model::ModelArgs;
use crate::{output, recipe};

/// Compute how much memory training and answering take, and what to change if it does not fit.
///
/// Only the model's config is read. Numbers for flex and ndarray are within 20 % of what was measured;
/// those for other devices follow the same rules, and are computed only. What adapters that see
/// images need beside it, the encoder and what it found, is not counted.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// Rows of a batch [default: 8].
    #[arg(long, alias = "batch-size", value_name = "B", help_heading = "Work")]
    batch: Option<usize>,
    /// Tokens of a row, or of a prompt to answer [default: 512, or the model's context].
    #[arg(long, alias = "max-len", value_name = "T", help_heading = "Work")]
    seq: Option<usize>,
    /// Tokens of a row that are learned from, those of its answer [default: all but the first, the
    /// most there can be].
    #[arg(long, value_name = "N", help_heading = "Work")]
    labels: Option<usize>,
    /// Most tokens of an answer; cut to what the model's context leaves [default: 256].
    #[arg(long, alias = "max-new-tokens", value_name = "N", help_heading = "Work")]
    new_tokens: Option<usize>,
    /// Compute the layers twice and keep one layer's intermediate results at a time. Always so
    /// with --precision q8 and q4.
    #[arg(long, help_heading = "Work")]
    recompute: bool,
    /// What there is, such as 8GiB or 500MB [default: on CPUs, what the system says is free].
    #[arg(long, value_name = "SIZE", value_parser = room::parse, help_heading = "Work")]
    memory: Option<u64>,

    #[command(flatten)]
    method: MethodArgs,

    /// Write one line of JSON instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    model: String,
    precision: String,
    batch: usize,
    seq: usize,
    labels: usize,
    new_tokens: usize,
    recompute: bool,
    devices: Vec<DevicePlan>,
}

/// A device with what it has, if that is known, and what it would need.
#[derive(Debug, Serialize)]
struct DevicePlan {
    device: String,
    /// Bytes.
    memory: Option<u64>,
    /// Whether plans for such devices were held against measured peaks.
    measured: bool,
    training: MemoryEstimate,
    answering: MemoryEstimate,
}

#[derive(Debug, Serialize)]
struct MemoryEstimate {
    #[serde(flatten)]
    plan: MemoryPlan,
    total: u64,
    /// `None` where it is not known what there is.
    fits: Option<bool>,
    changes: Vec<SuggestedChange>,
}

/// A change that saves memory.
#[derive(Debug, Serialize)]
struct SuggestedChange {
    /// The option that makes it.
    change: String,
    /// Bytes that it would take then.
    total: u64,
    /// Bytes that it saves.
    saves: u64,
    /// Whether that is enough by itself; always so where the room is not known.
    fits: bool,
}

impl From<MemorySaving> for SuggestedChange {
    fn from(MemorySaving { change, total, bytes_saved: saves, fits }: MemorySaving) -> Self {
        let change = match change {
            SettingChange::ActivationCheckpointing => "--recompute".into(),
            SettingChange::BatchSize(rows) => format!("--batch {rows}"),
            SettingChange::SeqLen(tokens) => format!("--seq {tokens}"),
            SettingChange::AdaptedLayers(layers) => format!("--adapter-layers {layers}"),
            SettingChange::Precision(precision) => format!("--precision {precision}"),
        };
        Self { change, total, saves, fits }
    }
}

/// Plans and reports.
pub fn run(args: &Args) -> Result {
    args.method.check()?;
    let names = devices(&args.model)?;
    let source = args.model.source()?;
    let (training, answering) = args.requests(source.config());
    let &Workload { batch_size: batch, seq_len: seq, precision, .. } = &training;
    let (WorkloadKind::Train { labels, .. }, WorkloadKind::Generate { max_new_tokens: new_tokens }) =
        (training.kind, answering.kind)
    else {
        unreachable!("one request of each kind")
    };
    let reports = names.into_iter().map(|name| {
        let memory = args.memory.or_else(|| room::free(&name));
        let backend = device::backend(&name).expect("devices have backends");
        let device = traits(backend);
        let need = |request: &Workload| need(&Workload { device, ..request.clone() }, memory);
        let (training, answering) = (need(&training)?, need(&answering)?);
        let measured = backend.memory_plan_measured;
        Ok(DevicePlan { device: name, memory, measured, training, answering })
    });
    let report = Report {
        model: source.path().display().to_string(),
        precision: precision.to_string(),
        batch,
        seq,
        labels,
        new_tokens,
        recompute: training.uses_activation_checkpointing(),
        devices: reports.collect::<Result<_>>()?,
    };
    if args.json {
        return output::json(&report);
    }
    output::print(&report.to_string())
}

fn need(request: &Workload, memory: Option<u64>) -> Result<MemoryEstimate> {
    let plan = MemoryPlan::new(request).map_err(Failure::as_usage)?;
    let total = plan.total();
    let fits = memory.map(|memory| total <= memory);
    let changes = memory_savings(request, memory).into_iter().map(SuggestedChange::from).collect();
    Ok(MemoryEstimate { plan, total, fits, changes })
}

impl Args {
    /// A step and an answer.
    fn requests(&self, config: &LlamaConfig) -> (Workload, Workload) {
        /// Tokens of an answer when nothing is said, as in `generate`.
        const NEW_TOKENS: usize = 256;
        let defaults = TrainConfig::default();
        let seq = self.seq.unwrap_or(defaults.max_len.min(config.max_positions));
        let prompts = recipe::prompts(config.n_layers, self.model.model.is_none(), 0);
        let training = Workload {
            config: config.clone(),
            precision: self.model.precision.unwrap_or_default(),
            method: self.method.method(prompts),
            kind: WorkloadKind::Train {
                labels: self.labels.unwrap_or(seq.saturating_sub(1)),
                activation_checkpointing: self.recompute,
            },
            batch_size: self.batch.unwrap_or(defaults.batch_size),
            seq_len: seq,
            device: DeviceTraits::composed(None),
        };
        let new_tokens = self.new_tokens.unwrap_or(NEW_TOKENS);
        // Answers of a model that learned as a whole need no adapter beside it, and no f32.
        let method = match &training.method {
            FineTuningMethod::Full => {
                FineTuningMethod::from(recipe::prompts(config.n_layers, false, 0))
            }
            FineTuningMethod::Adapter(adapter) => FineTuningMethod::Adapter(adapter.clone()),
        };
        let purpose = WorkloadKind::Generate { max_new_tokens: new_tokens };
        let answering = Workload { method, kind: purpose, ..training.clone() };
        (training, answering)
    }
}

/// The devices of the columns: the one asked for, or every backend of this build.
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

/// How a device works, as far as memory asks.
fn traits(backend: &Backend) -> DeviceTraits {
    if backend.fused {
        return DeviceTraits::fused();
    }
    DeviceTraits::composed(backend.half_dtype.and_then(|name| name.parse().ok()))
}
