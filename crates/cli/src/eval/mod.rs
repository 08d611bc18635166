//! `llama-adapter eval`: rows, or a task file ─► metrics of the base model and of adapters

mod answer_table;
mod args;
mod evaluated_adapters;
mod multiple_choice;
mod progress_bar;
mod report;
mod task_file;

use std::path::Path;

use ::eval::harness;
use train::data::LoadedRows;

use crate::defaults::built_in_dataset;
use crate::defaults::require_data;
use crate::error::Error;
use crate::failure::Result;
use crate::output;

pub use args::Args;
use args::Task;
use evaluated_adapters::{ImageFeatureSets, any_multimodal};
use multiple_choice::MultipleChoiceReport;
use report::EvalReport;
use task_file::TaskFileReport;

/// Evaluates and prints the results.
pub fn run(args: &Args) -> Result {
    if let Task::File(path) = &args.task {
        return run_task_file(args, path);
    }
    if args.num_fewshot.is_some() {
        let hint = "pass the file with --task";
        return Err(Error::usage_with_hint("--num-fewshot needs a task file", hint).into());
    }
    if args.data.is_empty() {
        require_data(&args.model)?;
    }
    let prompt = args.prompt_format()?;
    let LoadedRows { mut rows, mut report } = args.rows(&prompt)?;
    let train_rows = args.train_rows(&prompt)?;
    let base = args.model.load()?;
    // Before the evaluation of the base model, so that a wrong adapter fails early.
    let adapters = args.adapters.load(&base)?;
    if args.data.is_empty() {
        rows = built_in_dataset(any_multimodal(&adapters)?).test()?;
    }
    rows.truncate(args.row_limit());
    let features = ImageFeatureSets::encode(args, &adapters, &mut rows, &mut report, &base)?;
    let adapters = features.evaluated_adapters(args, &adapters, &base.llama)?;
    let text = if args.task == Task::Answers {
        let report = EvalReport::evaluate(args, &base, &prompt, &rows, &report, &adapters)?;
        if args.json {
            return Ok(output::json(&report)?);
        }
        report.table()
    } else {
        let report = MultipleChoiceReport::evaluate(
            args,
            &base,
            &prompt,
            &rows,
            &report,
            &train_rows,
            &adapters,
        )?;
        if args.json {
            return Ok(output::json(&report)?);
        }
        report.table(args.confusion_matrix)
    };
    Ok(output::print(&text)?)
}

/// Evaluates a task file of lm-evaluation-harness and prints the results.
fn run_task_file(args: &Args, path: &Path) -> Result {
    if !args.data.is_empty() {
        let hint = "set `dataset_kwargs.data_files` in the task file";
        return Err(Error::usage_with_hint("a task file names its own data", hint).into());
    }
    let task = harness::Task::load(path, args.num_fewshot)?;
    let mut questions = task.questions()?;
    questions.truncate(args.row_limit());
    let base = args.model.load()?;
    let adapters = args.adapters.load(&base)?;
    let features = ImageFeatureSets::without_images(&adapters);
    let adapters = features.evaluated_adapters(args, &adapters, &base.llama)?;
    let report = TaskFileReport::evaluate(args, &base, &task, &questions, &adapters)?;
    if args.json {
        return Ok(output::json(&report)?);
    }
    Ok(output::print(&report.table())?)
}
