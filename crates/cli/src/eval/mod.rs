//! `llama-adapter eval`: rows ─► metrics of the base model and of adapters

mod args;
mod evaluated_adapters;
mod multiple_choice;
mod report;

use train::data::LoadedRows;

use crate::defaults::built_in_dataset;
use crate::defaults::require_data;
use crate::failure::Result;
use crate::output;

pub use args::Args;
use args::Task;
use evaluated_adapters::{ImageFeatureSets, any_multimodal};
use multiple_choice::MultipleChoiceReport;
use report::EvalReport;

/// Evaluates and prints the results.
pub fn run(args: &Args) -> Result {
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
    rows.truncate(args.max_rows.map_or(usize::MAX, |max| max as usize));
    let features = ImageFeatureSets::encode(args, &adapters, &mut rows, &mut report, &base)?;
    let adapters = features.evaluated_adapters(args, &adapters, &base.llama)?;
    let text = match args.task {
        Task::Answers => {
            let report = EvalReport::evaluate(args, &base, &prompt, &rows, &report, &adapters)?;
            if args.json {
                return Ok(output::json(&report)?);
            }
            report.table()
        }
        Task::MultipleChoice | Task::ScienceQa => {
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
        }
    };
    Ok(output::print(&text)?)
}
