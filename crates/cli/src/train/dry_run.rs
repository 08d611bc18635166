//! `--dry-run`: what a run would do, its memory and its duration; nothing is written

use std::time::Duration;

use indicatif::HumanBytes;
use memory_plan::{MemoryPlan, Workload, WorkloadKind};
use serde::Serialize;
use train::TrainingRun;
use train::run::RunEstimate;

use super::Args;
use super::option_names::with_option_names;
use crate::failure::Result;
use crate::memory_size::available_memory;
use crate::output::{self, note};
use crate::plan::device_traits;
use crate::progress::{TrainingProgress, format_duration};

/// The result of a dry run; the fields are the keys of its line of JSON.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the keys of the JSON")]
struct DryRun {
    dry_run: bool,
    #[serde(serialize_with = "output::serialize_path_lossy")]
    output: std::path::PathBuf,
    #[serde(flatten)]
    estimate: RunEstimate,
    memory: MemoryPlan,
    total_memory: u64,
    /// `None` if the system does not tell.
    available_memory: Option<u64>,
}

impl Args {
    /// Prints the estimate of a run.
    pub(super) fn dry_run(&self, run: &TrainingRun) -> Result {
        let mut progress = TrainingProgress::new(self.quiet);
        let estimate = run.estimate(self.resume, &mut |event| progress.show(event));
        progress.clear();
        let estimate = estimate.map_err(with_option_names)?;
        let device = self.model.device_name()?;
        let memory = MemoryPlan::new(&workload(run, &estimate, device))?;
        let found = DryRun {
            dry_run: true,
            output: run.output.into(),
            total_memory: memory.total(),
            memory,
            available_memory: available_memory(device),
            estimate,
        };
        if !self.quiet {
            note(&found.describe(run));
        }
        Ok(output::json(&found)?)
    }
}

/// The training steps of a run, with its longest row in each place of a batch. A frozen-prefix cache is not
/// counted.
fn workload(run: &TrainingRun, estimate: &RunEstimate, device: &str) -> Workload {
    let config = run.config;
    let labels = estimate.labels_per_row.ceil() as usize;
    let rows = config.batch_tokens.map(|tokens| (tokens / estimate.longest_example.max(1)).max(1));
    Workload {
        config: run.llama.config().clone(),
        precision: run.llama.precision(),
        method: config.method.clone(),
        kind: WorkloadKind::Train {
            labels: labels.clamp(1, estimate.longest_example),
            activation_checkpointing: config.activation_checkpointing,
        },
        batch_size: rows.unwrap_or(config.batch_size),
        seq_len: estimate.longest_example,
        device: device_traits(device::backend(device).expect("devices have backends")),
    }
}

impl DryRun {
    fn describe(&self, run: &TrainingRun) -> String {
        let Self { estimate, memory, total_memory, available_memory, .. } = self;
        let duration = |seconds: f64| {
            let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            if seconds < 1.0 { format!("{seconds:.2} s") } else { format_duration(duration) }
        };
        let parts = memory.components().into_iter().filter(|(_, bytes)| *bytes > 0);
        let parts = parts.map(|(name, bytes)| format!("{name} {}", HumanBytes(bytes)));
        let available = match available_memory {
            Some(bytes) if bytes < total_memory => {
                format!("more than the {} available", HumanBytes(*bytes))
            }
            Some(bytes) => format!("{} available", HumanBytes(*bytes)),
            None => "available memory unknown".into(),
        };
        let completed = match estimate.completed_steps {
            0 => String::new(),
            steps => format!("{steps} of them complete, "),
        };
        let exact_match = match run.config.exact_match_rows.min(run.eval_rows.len()) {
            0 => String::new(),
            rows => format!("; the exact match on {rows} rows is not included"),
        };
        format!(
            "dry run, nothing was written in {}\n\
             \x20 steps   {}, {completed}{} per epoch, {:.0} label tokens each\n\
             \x20 memory  {}, {available}; longest row {} tokens; {}\n\
             \x20 time    about {}: {} per step, {} of evaluations{exact_match}",
            run.output.display(),
            estimate.total_steps,
            estimate.steps_per_epoch,
            estimate.labels_per_step,
            HumanBytes(*total_memory),
            estimate.longest_example,
            parts.collect::<Vec<_>>().join(", "),
            duration(estimate.seconds),
            duration(estimate.seconds_per_step),
            duration(estimate.evaluation_seconds),
        )
    }
}
