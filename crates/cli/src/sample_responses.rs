//! a trained adapter ─► some held-out rows with the responses of the base and the adapted model

use llama::NoAdapter;
use report::Sample;
use text::Tokenizer;
use train::data::{ImageRef, RowEncoder};
use train::eval::generate_responses;
use train::{BatchAdapter, Instruction, RowStore, TrainingRun};

use crate::failure::Result;
use crate::model::BaseModel;
use crate::output::note;

/// Rows that are answered at the same time.
const BATCH_SIZE: usize = 8;

/// Some held-out rows with the responses of the base and the adapted model.
pub fn sample_responses(
    base: &BaseModel,
    tokenizer: &Tokenizer,
    run: &TrainingRun,
    count: usize,
) -> Result<Vec<Sample>> {
    let rows = if run.eval_rows.is_empty() { run.train_rows } else { run.eval_rows };
    let rows = select_rows(rows, count)?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let encoder = RowEncoder::new(tokenizer, &run.config.prompt, run.config.loss_on)?;
    let respond = |llama: &llama::Llama, adapter: &dyn BatchAdapter| {
        generate_responses(llama, adapter, &encoder, &rows, BATCH_SIZE, &mut |_| {})
    };
    let before = respond(&base.llama, &NoAdapter)?;
    let after = run.load_trained()?.with_adapter(&base.llama, run.image_features, respond)?;
    let responses = rows.into_iter().zip(before).zip(after);
    let samples = responses.map(|((row, before), after)| {
        let image = row.image.as_deref().and_then(|image| ImageRef::parse(image).ok());
        Sample {
            instruction: row.instruction,
            input: row.input,
            image: image.map(|image| image.to_string()),
            expected: row.output,
            before,
            after,
        }
    });
    Ok(samples.collect())
}

/// Prints rows and responses to stderr.
pub fn print_samples(samples: &[Sample]) {
    for Sample { instruction, input, image, before, after, .. } in samples {
        let input =
            if input.is_empty() { String::new() } else { format!(" [{}]", truncate_line(input)) };
        let image = image.as_ref().map_or(String::new(), |image| format!(" ({image})"));
        note(&format!("\n  {}{input}{image}", truncate_line(instruction)));
        note(&format!("    base:    {}", truncate_line(before)));
        note(&format!("    adapted: {}", truncate_line(after)));
    }
}

/// Selects rows at equal distances, since neighbors are often alike, and with different first tags
/// where rows have tags.
fn select_rows(rows: &RowStore, max: usize) -> train::Result<Vec<Instruction>> {
    /// Rows that are looked at for a new tag.
    const MAX_SEARCH: usize = 1000;
    let count = max.min(rows.len());
    let mut selected = Vec::<Instruction>::with_capacity(count);
    for i in 0..count {
        let start = i * rows.len() / count;
        let mut found = rows.get(start)?;
        for index in (start..rows.len()).take(MAX_SEARCH) {
            let row = rows.get(index)?;
            let tag = row.tags.first();
            if tag.is_none() || selected.iter().all(|other| other.tags.first() != tag) {
                found = row;
                break;
            }
        }
        selected.push(found.into_owned());
    }
    Ok(selected)
}

/// A text on one line of at most 100 characters.
fn truncate_line(text: &str) -> String {
    const WIDTH: usize = 100;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= WIDTH {
        return line;
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}
