//! multiple choice: which option a model takes

use llama::Llama;
use serde::{Deserialize, Serialize};
use text::Tokenizer;

use super::evaluate::generate_responses;
use super::parse_choice::parse_choice;
use crate::data::Batch;
use crate::data::Example;
use crate::data::Instruction;
use crate::error::Result;
use crate::images::BatchAdapter;
use crate::loss::sequence_log_likelihoods;

/// How a model's choice is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChoiceScoring {
    /// The option that is likeliest as the whole answer, its end included. A model always chooses.
    Likelihood,
    /// The option that is read from the answer that the model writes, as [`parse_choice`] does.
    Answer,
}

/// The option that a model takes in each row, by its number.
///
/// A row without options, and one whose prompt leaves no room in the model's context, has none.
///
/// # Errors
/// [`Error::Model`](crate::Error::Model) if the tokenizer or the device fails.
pub fn predict_choices(
    llama: &Llama,
    adapter: &dyn BatchAdapter,
    tokenizer: &Tokenizer,
    rows: &[Instruction],
    choosing: ChoiceScoring,
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Option<usize>>> {
    match choosing {
        ChoiceScoring::Likelihood => {
            most_likely_options(llama, adapter, tokenizer, rows, batch_size, progress)
        }
        ChoiceScoring::Answer => {
            let answers =
                generate_responses(llama, adapter, tokenizer, rows, batch_size, progress)?;
            let read = |(row, answer): (&Instruction, &String)| parse_choice(answer, &row.options);
            Ok(rows.iter().zip(&answers).map(read).collect())
        }
    }
}

fn most_likely_options(
    llama: &Llama,
    adapter: &dyn BatchAdapter,
    tokenizer: &Tokenizer,
    rows: &[Instruction],
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Option<usize>>> {
    // Rows about one picture together: what their texts have in common is worked on once.
    let mut order = (0..rows.len()).collect::<Vec<_>>();
    order.sort_by_key(|&row| &rows[row].image);
    let mut chosen = vec![None; rows.len()];
    let mut best = vec![f64::NEG_INFINITY; rows.len()];
    for some in order.chunks(batch_size.max(1)) {
        let mut examples = Vec::new();
        for &row in some {
            for (option, text) in rows[row].options.iter().enumerate() {
                let asked = Instruction { output: text.clone(), ..rows[row].clone() };
                let example = Example::encode(&asked, tokenizer)?;
                if example.tokens.len() <= llama.config().max_positions {
                    examples.push((row, option, example));
                }
            }
        }
        if !examples.is_empty() {
            let texts = examples.iter().map(|(_, _, example)| example).collect::<Vec<_>>();
            let batch = Batch::new(&texts);
            let adapter = adapter.for_images(&batch.image_names());
            let scores = sequence_log_likelihoods(llama, &*adapter, &batch)?;
            for ((row, option, _), score) in examples.iter().zip(scores) {
                // Of equals the first.
                if score > best[*row] {
                    (best[*row], chosen[*row]) = (score, Some(*option));
                }
            }
        }
        progress(some.len());
    }
    Ok(chosen)
}

/// Which rows were answered with the option that is right.
pub fn correct_choices(rows: &[Instruction], chosen: &[Option<usize>]) -> Vec<bool> {
    let is_right = |(row, chosen): (&Instruction, &Option<usize>)| {
        chosen.and_then(|option| row.options.get(option)) == Some(&row.output)
    };
    rows.iter().zip(chosen).map(is_right).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_expected_option_is_correct() {
        let options = vec!["yes".to_owned(), "no".to_owned()];
        let row = Instruction { options, ..Instruction::new("Is it?", "", "no") };
        let rows = [row.clone(), row.clone(), row];
        assert_eq!(correct_choices(&rows, &[Some(1), Some(0), None]), [true, false, false]);
    }
}
