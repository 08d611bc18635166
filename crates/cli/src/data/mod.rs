//! `llama-adapter data`: files ─► what a model will see of their rows

mod args;
mod batchings;
mod colored_rows;
mod duplicate_counts;
mod report;

use train::data::{LoadedRows, RowEncoder};

use crate::failure::Result;
use crate::output;

pub use args::Args;
use args::DataRows;
use report::DataReport;

/// Reads the data and prints what it is.
pub fn run(args: &Args) -> Result {
    let source = args.model_source()?;
    let tokenizer = source.tokenizer()?;
    let DataRows { rows: LoadedRows { rows, report }, held_out, format } = args.rows(&tokenizer)?;
    let encoder = RowEncoder::new(&tokenizer, &format, args.prompt.loss_on())?;
    let max_len = args.max_len(source.config().max_positions);
    let report = DataReport::new(args, &encoder, &rows, held_out.as_deref(), &report, max_len)?;
    if args.json {
        return Ok(output::json(&report)?);
    }
    Ok(output::print(&report.text(args, &tokenizer)?)?)
}
