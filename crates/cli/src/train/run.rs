//! A training run from the options to the summary.

use serde_json::json;
use train::{FineTuningMethod, TrainingRun};

use super::Args;
use super::data::TrainingData;
use crate::defaults::built_in_dataset;
use crate::defaults::require_data;
use crate::failure::{Failure, Result};
use crate::output::{self, note};
use crate::output_path::next_output_folder;
use crate::profile::Profiler;
use crate::progress::TrainingProgress;
use crate::sample_responses::print_sample_responses;

/// Trains, prints sample responses and the summary.
pub fn run(args: &Args) -> Result {
    args.method.validate()?;
    if args.data.is_empty() {
        require_data(&args.model)?;
    }
    let initial_image = args.initial_image_config()?;
    let multimodal = args.encoder.image_encoder.is_some() || initial_image.is_some();
    let notify = |text: &str| {
        if !args.quiet {
            note(text);
        }
    };
    let (mut data, prompt) = args.prompted_rows(built_in_dataset(multimodal), &notify)?;
    let base = args.model.load_with(&notify)?;
    let tokenizer = base.source.tokenizer()?;
    let mut config = args.config(base.llama.config().n_layers);
    config.prompt = prompt;
    config.validate()?;
    let image_features =
        args.image_features(&base, initial_image.as_ref(), &mut data, &mut config, &notify)?;
    config.method.validate(&base.llama).map_err(Failure::as_usage)?;
    let TrainingData { train_rows, eval_rows, report } = data;
    let name = args.model.name();
    let model_name = name.as_deref().unwrap_or(built_in::MODEL_NAME);
    let output = match &args.output {
        Some(folder) => folder.clone(),
        None => next_output_folder(model_name),
    };
    let metadata = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "device": args.model.device_name()?,
        "data": args.data.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
        "eval_data": args.eval_data.as_ref().map(|path| path.to_string_lossy()),
    });
    let run = TrainingRun {
        llama: &base.llama,
        tokenizer: &tokenizer,
        model_name,
        train_rows: &train_rows,
        eval_rows: &eval_rows,
        image_features: image_features.as_ref(),
        config: &config,
        output: &output,
        metadata: &metadata,
    };
    let profiler = args.profile.then(Profiler::start).transpose()?;
    let mut progress = TrainingProgress::new(args.quiet);
    let result = run.run(args.resume, &mut |event| progress.show(event));
    progress.clear();
    let mut summary = result?;
    summary.rows.counts.add_report(&report);
    if let Some(profiler) = profiler {
        note(&format!("\n{}", profiler.finish(&output.join("trace.json"))?));
    }
    if !args.quiet {
        print_sample_responses(&base, &tokenizer, &run)?;
        // The program as it was called: when run through cargo it is not on the search path.
        let program = std::env::args_os().next().unwrap_or_else(|| "llama-adapter".into());
        let program = program.to_string_lossy();
        let model = name.as_ref().map_or(String::new(), |name| format!(" --model {name}"));
        let output = output.display();
        let (what, options) = match config.method {
            FineTuningMethod::Adapter(_) => ("Adapter", format!("{model} --adapter {output}")),
            FineTuningMethod::Full => {
                // A chat template is now the model's own.
                let is_chat = config.prompt.template.is_multi_turn();
                let template = if is_chat { "chat" } else { config.prompt.template.name() };
                ("Model", format!(" --model {output} --prompt-template {template}"))
            }
        };
        note(&format!("\n{what} saved in {output}. Try it:\n"));
        note(&format!("  {program} chat{options}\n"));
    }
    Ok(output::json(&summary)?)
}
