//! Multiple choice: the option that a model predicts.

use ::eval::parse_choice;
use llama::Llama;
use serde::{Deserialize, Serialize};

use super::evaluate::{batch_losses, generate_responses};
use crate::data::{Instruction, RowEncoder};
use crate::error::Result;
use crate::images::BatchAdapter;

/// How the predicted option is determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChoiceScoring {
    /// The option with the highest likelihood as the complete response, end token included.
    Likelihood,
    /// The option that [`parse_choice`] finds in the generated response.
    Answer,
}

/// The index of the option that a model predicts for each row.
///
/// `None` for a row without options, a row whose prompt exceeds the model's context, and a response
/// without a recognizable option. `progress` receives the number of rows done since its last call.
///
/// # Errors
/// [`Error::Model`](crate::Error::Model) if the tokenizer or the device fails.
pub fn predict_choices(
    llama: &Llama,
    adapter: &dyn BatchAdapter,
    encoder: &RowEncoder,
    rows: &[Instruction],
    scoring: ChoiceScoring,
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Option<usize>>> {
    match scoring {
        ChoiceScoring::Likelihood => {
            most_likely_options(llama, adapter, encoder, rows, batch_size, progress)
        }
        ChoiceScoring::Answer => {
            let responses =
                generate_responses(llama, adapter, encoder, rows, batch_size, progress)?;
            let pairs = rows.iter().zip(&responses);
            Ok(pairs.map(|(row, response)| parse_choice(response, &row.options)).collect())
        }
    }
}

fn most_likely_options(
    llama: &Llama,
    adapter: &dyn BatchAdapter,
    encoder: &RowEncoder,
    rows: &[Instruction],
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Option<usize>>> {
    // Rows about the same image share a longer prefix.
    let mut order = (0..rows.len()).collect::<Vec<_>>();
    order.sort_by_key(|&row| &rows[row].image);
    let mut predicted = vec![None; rows.len()];
    let mut best = vec![f32::NEG_INFINITY; rows.len()];
    for chunk in order.chunks(batch_size.max(1)) {
        let mut examples = Vec::new();
        for &row in chunk {
            for (option, text) in rows[row].options.iter().enumerate() {
                let candidate = Instruction { output: text.clone(), ..rows[row].clone() };
                let example = encoder.encode_output(&candidate)?;
                if example.tokens.len() <= llama.config().max_positions {
                    examples.push((row, option, example));
                }
            }
        }
        let batch = examples.iter().map(|(_, _, example)| example).collect::<Vec<_>>();
        let losses = batch_losses(llama, adapter, &batch)?;
        for ((row, option, _), loss) in examples.iter().zip(losses) {
            let score = -loss;
            // The first of equal options wins.
            if score > best[*row] {
                (best[*row], predicted[*row]) = (score, Some(*option));
            }
        }
        progress(chunk.len());
    }
    Ok(predicted)
}

/// Which rows have their output as the predicted option.
pub fn correct_choices(rows: &[Instruction], predicted: &[Option<usize>]) -> Vec<bool> {
    let is_correct = |(row, predicted): (&Instruction, &Option<usize>)| {
        predicted.and_then(|option| row.options.get(option)) == Some(&row.output)
    };
    rows.iter().zip(predicted).map(is_correct).collect()
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
