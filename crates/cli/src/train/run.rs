//! A training run from the options to the summary.

use std::path::{Path, PathBuf};

use indicatif::HumanBytes;
use serde_json::{Value, json};
use text::Tokenizer;
use train::{FineTuningMethod, RunSummary, TrainingRun, WorkDivision};

use super::Args;
use super::data::TrainingData;
use super::option_names::with_option_names;
use super::tensorboard::TensorBoard;
use crate::cache::cache_folder;
use crate::defaults::built_in_dataset;
use crate::defaults::require_data;
use crate::error::Error;
use crate::failure::{Failure, Result};
use crate::interrupt::{self, InterruptGuard, StopSignals};
use crate::model::BaseModel;
use crate::output::{self, note};
use crate::output_path::next_output_folder;
use crate::profile::Profiler;
use crate::ranks::Ranks;
use crate::sample_responses::{print_samples, sample_responses};

/// Default of `--samples`.
const SAMPLES: usize = 3;

/// Trains, prints sample responses and the summary; or does what --dry-run or `--learning-rate find` say.
pub fn run(args: &mut Args) -> Result {
    let mut ranks = Ranks::join(args.rank_timeout)?;
    if !ranks.is_first() {
        args.be_silent();
    }
    let result = run_rank(args, &mut ranks);
    ranks.end(result)
}

/// What each rank does.
fn run_rank(args: &mut Args, ranks: &mut Ranks) -> Result {
    args.method.validate()?;
    args.check_ranks(ranks)?;
    let quiet = args.quiet;
    let notify = |text: &str| {
        if !quiet {
            note(text);
        }
    };
    ranks.share_host(&mut args.model, &notify)?;
    let args = &*args;
    if args.resume && args.finds_learning_rate() {
        return Err(Error::usage("--learning-rate find cannot be used with --resume").into());
    }
    interrupt::install_handler(StopSignals::CtrlCOrTerminate)?;
    if args.data.is_empty() {
        require_data(&args.model)?;
    }
    let initial_image = args.initial_image_config()?;
    let multimodal = args.encoder.image_encoder.is_some() || initial_image.is_some();
    let (mut data, prompt) = args.prompted_rows(built_in_dataset(multimodal), &notify)?;
    let base = args.model.load_with(&notify)?;
    let tokenizer = base.source.tokenizer()?;
    let mut config = args.config(base.llama.config().n_layers);
    config.prompt = prompt;
    config.validate()?;
    ranks.check_equal(&base, &[&data.train_rows, &data.eval_rows])?;
    let image_features = args.image_features(
        &base,
        initial_image.as_ref(),
        &mut data,
        &mut config,
        ranks.communicator(),
        &notify,
    )?;
    config.method.validate(&base.llama).map_err(Failure::as_usage)?;
    let TrainingData { train_rows, eval_rows, report } = data;
    let name = args.model.name();
    let model_name = name.as_deref().unwrap_or(built_in::MODEL_NAME);
    let output = match &args.output {
        Some(folder) => folder.clone(),
        None => PathBuf::from(ranks.agree_on(next_output_folder(model_name).display().to_string())),
    };
    let metadata = metadata(args)?;
    let token_cache = cache_folder().ok().map(|folder| folder.join("tokens"));
    let run = TrainingRun {
        llama: &base.llama,
        tokenizer: &tokenizer,
        model_name,
        train_rows: &train_rows,
        eval_rows: &eval_rows,
        token_cache: token_cache.as_deref(),
        image_features: image_features.as_ref(),
        config: &config,
        output: &output,
        metadata: &metadata,
        stop: Some(interrupt::flag()),
        ranks: ranks.communicator(),
    };
    if args.dry_run {
        return args.dry_run(&run);
    }
    if args.finds_learning_rate() {
        return args.find_learning_rate(&run);
    }
    let profiler = args.profile.then(Profiler::start).transpose()?;
    let mut summary = match observed_run(args, &run, model_name)? {
        Err(stopped @ train::Error::Interrupted { .. }) => {
            if ranks.is_first() {
                note_interruption(&stopped, &output, args.quiet);
            }
            ranks.finish();
            interrupt::exit();
        }
        Err(error) => {
            if is_common(&error) {
                ranks.mark_common_error();
            }
            return Err(with_option_names(error).into());
        }
        Ok(summary) => summary,
    };
    if !ranks.is_first() {
        return Ok(());
    }
    if let (Some(division), false) = (summary.division, args.quiet) {
        note(&describe_division(&division, &summary));
    }
    summary.rows.counts.add_report(&report);
    if let Some(profiler) = profiler {
        note(&format!("\n{}", profiler.finish(&output.join("trace.json"))?));
    }
    respond_to_samples(args, &base, &tokenizer, &run)?;
    write_report(&output, args.quiet);
    if !args.quiet {
        note_how_to_try(&run, name.as_deref());
    }
    Ok(output::json(&summary)?)
}

impl Args {
    /// Refuses what several ranks do not do.
    fn check_ranks(&self, ranks: &Ranks) -> Result {
        if ranks.is_alone() || !(self.dry_run || self.finds_learning_rate()) {
            return Ok(());
        }
        let option = if self.dry_run { "--dry-run" } else { "--learning-rate find" };
        Err(Error::usage(format!("{option} is for one process, without mpirun")).into())
    }
}

/// What `run.json` says about the command.
fn metadata(args: &Args) -> Result<Value> {
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "device": args.model.device_name()?,
        "data": args.data.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
        "eval_data": args.eval_data.as_ref().map(|path| path.to_string_lossy()),
    }))
}

/// Trains, and shows the events.
fn observed_run(
    args: &Args,
    run: &TrainingRun,
    model_name: &str,
) -> Result<train::Result<RunSummary>> {
    let output = run.output;
    let mut tensorboard = args.tensorboard.then(|| TensorBoard::new(output));
    let mut view = args.view(&format!("{model_name} → {}", output.display()))?;
    let guard = InterruptGuard::begin();
    let result = run.run(args.resume, &mut |event| {
        if let Some(board) = &mut tensorboard {
            board.add(&event);
        }
        view.show(event);
    });
    drop(guard);
    view.clear();
    if let Some(error) = tensorboard.and_then(TensorBoard::into_error) {
        note(&format!("--tensorboard: {error}"));
    }
    Ok(result)
}

/// Says how an interrupted run is continued.
fn note_interruption(stopped: &train::Error, output: &Path, quiet: bool) {
    write_report(output, quiet);
    let output = output.display();
    note(&format!(
        "{stopped}; everything is saved: the same command with --output {output} --resume continues"
    ));
}

/// Whether an error of a run is that of all ranks, because it follows from what they have told each other.
fn is_common(error: &train::Error) -> bool {
    use train::Error::{Diverged, RankWeightsDiffer, RanksDiffer};
    matches!(error, Diverged { .. } | RanksDiffer { .. } | RankWeightsDiffer { .. })
}

/// How the ranks have divided the work, in words.
fn describe_division(division: &WorkDivision, summary: &RunSummary) -> String {
    let WorkDivision { ranks, imbalance, all_reduce_bytes, all_reduce_seconds, .. } = *division;
    format!(
        "{ranks} ranks: the busiest had {imbalance:.3} times the mean tokens of a step; all-reduce of {} \
         took {:.2} ms a step, {:.1} % of the time, waiting for the slowest rank included",
        HumanBytes(all_reduce_bytes as u64),
        1e3 * division.all_reduce_seconds_per_step,
        100.0 * all_reduce_seconds / summary.seconds.max(1e-9),
    )
}

/// Prints and saves the responses to some rows, before and after the training.
fn respond_to_samples(
    args: &Args,
    base: &BaseModel,
    tokenizer: &Tokenizer,
    run: &TrainingRun,
) -> Result {
    let count = args.samples.unwrap_or(if args.quiet { 0 } else { SAMPLES });
    let samples = sample_responses(base, tokenizer, run, count)?;
    if !args.quiet {
        print_samples(&samples);
    }
    if !samples.is_empty()
        && let Err(error) = report::write_samples(run.output, &samples)
    {
        note(&format!("the responses were not saved: {error}"));
    }
    Ok(())
}

/// Names the command that uses what was trained.
fn note_how_to_try(run: &TrainingRun, name: Option<&str>) {
    // The program as it was called: when run through cargo it is not on the search path.
    let program = std::env::args_os().next().unwrap_or_else(|| "llama-adapter".into());
    let program = program.to_string_lossy();
    let model = name.map_or(String::new(), |name| format!(" --model {name}"));
    let output = run.output.display();
    let (what, options) = match run.config.method {
        FineTuningMethod::Adapter(_) => ("Adapter", format!("{model} --adapter {output}")),
        FineTuningMethod::Full => {
            // A chat template is now the model's own.
            let is_chat = run.config.prompt.template.is_multi_turn();
            let template = if is_chat { "chat" } else { run.config.prompt.template.name() };
            ("Model", format!(" --model {output} --prompt-template {template}"))
        }
    };
    note(&format!("\n{what} saved in {output}. Try it:\n"));
    note(&format!("  {program} chat{options}\n"));
}

/// Writes the page about a run. The adapter is what counts: an error is a note.
fn write_report(output: &Path, quiet: bool) {
    match crate::report::write(output) {
        Ok(page) if !quiet => note(&format!("\nReport: {}", page.display())),
        Ok(_page) => {}
        Err(error) => note(&format!("the report was not written: {error}")),
    }
}
