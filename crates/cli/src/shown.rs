//! a trained adapter ─► some held-out instructions, answered without and with it, on stderr

use llama::{NoAdapter, Tokenizer};
use train::data::ImageRef;
use train::eval::generate_responses;
use train::{BatchAdapter, Instruction, TrainingRun};

use crate::failure::Result;
use crate::model::Base;
use crate::output::note;

/// Shows three held-out instructions, answered by the base and by the adapted model.
pub fn print_sample_responses(base: &Base, tokenizer: &Tokenizer, job: &TrainingRun) -> Result {
    const SHOWN: usize = 3;
    let rows = if job.eval_rows.is_empty() { job.train_rows } else { job.eval_rows };
    let rows = few(rows, SHOWN);
    let answers = |llama: &llama::Llama, adapter: &dyn BatchAdapter| {
        generate_responses(llama, adapter, tokenizer, &rows, SHOWN, &mut |_| {})
    };
    let before = answers(&base.llama, &NoAdapter)?;
    let after = job.load_trained()?.with_adapter(&base.llama, job.image_features, answers)?;
    for ((row, before), after) in rows.iter().zip(before).zip(after) {
        let input = if row.input.is_empty() {
            String::new()
        } else {
            format!(" [{}]", one_line(&row.input))
        };
        let image = row.image.as_deref().and_then(|image| ImageRef::parse(image).ok());
        let input = input + &image.map_or(String::new(), |image| format!(" ({image})"));
        note(&format!("\n  {}{input}", one_line(&row.instruction)));
        note(&format!("    base:    {}", one_line(&before)));
        note(&format!("    adapted: {}", one_line(&after)));
    }
    Ok(())
}

/// Rows to show: spread over all, since neighbours are often of a kind, and of different kinds where
/// tags tell them.
fn few(rows: &[Instruction], most: usize) -> Vec<Instruction> {
    let count = most.min(rows.len());
    let mut shown = Vec::<Instruction>::with_capacity(count);
    for i in 0..count {
        let from = &rows[i * rows.len() / count..];
        let is_new = |row: &&Instruction| {
            let kind = row.tags.first();
            kind.is_none() || shown.iter().all(|other| other.tags.first() != kind)
        };
        let row = from.iter().find(is_new).unwrap_or(&from[0]);
        shown.push(row.clone());
    }
    shown
}

/// A text on one line of a screen.
fn one_line(text: &str) -> String {
    const WIDTH: usize = 100;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= WIDTH {
        return line;
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}
