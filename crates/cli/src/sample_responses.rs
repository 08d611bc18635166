//! a trained adapter ─► some held-out rows with the responses of the base and the adapted model

use llama::NoAdapter;
use text::Tokenizer;
use train::data::{ImageRef, RowEncoder};
use train::eval::generate_responses;
use train::{BatchAdapter, Instruction, TrainingRun};

use crate::failure::Result;
use crate::model::BaseModel;
use crate::output::note;

/// Prints three held-out rows with the responses of the base and the adapted model to stderr.
pub fn print_sample_responses(
    base: &BaseModel,
    tokenizer: &Tokenizer,
    run: &TrainingRun,
) -> Result {
    const SAMPLES: usize = 3;
    let rows = if run.eval_rows.is_empty() { run.train_rows } else { run.eval_rows };
    let rows = select_rows(rows, SAMPLES);
    let encoder = RowEncoder::new(tokenizer, &run.config.prompt, run.config.loss_on)?;
    let respond = |llama: &llama::Llama, adapter: &dyn BatchAdapter| {
        generate_responses(llama, adapter, &encoder, &rows, SAMPLES, &mut |_| {})
    };
    let before = respond(&base.llama, &NoAdapter)?;
    let after = run.load_trained()?.with_adapter(&base.llama, run.image_features, respond)?;
    for ((row, before), after) in rows.iter().zip(before).zip(after) {
        let input = if row.input.is_empty() {
            String::new()
        } else {
            format!(" [{}]", truncate_line(&row.input))
        };
        let image = row.image.as_deref().and_then(|image| ImageRef::parse(image).ok());
        let input = input + &image.map_or(String::new(), |image| format!(" ({image})"));
        note(&format!("\n  {}{input}", truncate_line(&row.instruction)));
        note(&format!("    base:    {}", truncate_line(&before)));
        note(&format!("    adapted: {}", truncate_line(&after)));
    }
    Ok(())
}

/// Selects rows at equal distances, since neighbors are often alike, and with different first tags
/// where rows have tags.
fn select_rows(rows: &[Instruction], max: usize) -> Vec<Instruction> {
    let count = max.min(rows.len());
    let mut selected = Vec::<Instruction>::with_capacity(count);
    for i in 0..count {
        let from = &rows[i * rows.len() / count..];
        let is_new = |row: &&Instruction| {
            let tag = row.tags.first();
            tag.is_none() || selected.iter().all(|other| other.tags.first() != tag)
        };
        let row = from.iter().find(is_new).unwrap_or(&from[0]);
        selected.push(row.clone());
    }
    selected
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
