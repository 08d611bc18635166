//! How well a model follows held-out rows: loss, perplexity, exact match.

use burn::tensor::Tensor;
use llama::{GenerationConfig, Generator, Llama, Request, StepOutput, read_back};
use serde::{Deserialize, Serialize};
use text::Tokenizer;

use crate::data::Batch;
use crate::data::Example;
use crate::data::Instruction;
use crate::error::Result;
use crate::images::BatchAdapter;
use crate::loss::label_loss;

/// Loss over labelled tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LabelLoss {
    /// Labelled tokens.
    pub labels: usize,
    /// Mean negative log-likelihood of a label, in nats.
    #[serde(with = "crate::json::exact_f64")]
    pub loss: f64,
}

impl LabelLoss {
    /// Exponential of the loss.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }
}

/// How many answers are right to the letter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ExactMatch {
    /// Rows asked.
    pub rows: usize,
    /// Rows answered with the wanted text, white space at its ends aside.
    pub matches: usize,
}

impl ExactMatch {
    /// Share of matches, 0 to 1.
    pub fn fraction(&self) -> f64 {
        self.matches as f64 / self.rows.max(1) as f64
    }
}

/// Mean loss over the labels of all examples.
///
/// # Errors
/// As [`label_loss`].
pub fn evaluate_loss(
    llama: &Llama,
    adapter: &dyn BatchAdapter,
    examples: &[Example],
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<LabelLoss> {
    // Rows of like length together: less padding, and a sum does not mind the order.
    let mut order = examples.iter().collect::<Vec<_>>();
    order.sort_by_key(|example| example.tokens.len());
    let (mut labels, mut losses) = (0, Vec::new());
    for rows in order.chunks(batch_size.max(1)) {
        let batch = Batch::new(rows);
        labels += batch.n_labels();
        losses.push(label_loss(llama, &*adapter.for_images(&batch.image_names()), &batch)?);
        progress(rows.len());
    }
    // Waited for once, and added up in more digits than a device has.
    let sum = if losses.is_empty() {
        0.0
    } else {
        read_back(Tensor::cat(losses, 0))?.iter::<f32>().map(f64::from).sum()
    };
    Ok(LabelLoss { labels, loss: sum / labels.max(1) as f64 })
}

/// Answers of a model to rows' prompts, greedily, a batch at a time.
///
/// An answer is cut some tokens behind the length of the wanted one: it cannot match any more. A
/// prompt that fills the model's context gets an empty answer.
///
/// # Errors
/// [`Error::Model`](crate::Error::Model) if the tokenizer fails.
pub fn generate_responses(
    llama: &Llama,
    adapter: &dyn BatchAdapter,
    tokenizer: &Tokenizer,
    rows: &[Instruction],
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<String>> {
    /// Tokens an answer may run over the wanted one's length.
    const EXTRA_TOKENS: usize = 8;
    let mut order = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let prompt = tokenizer.encode(&row.prompt())?;
        if prompt.len() >= llama.config().max_positions {
            progress(1);
            continue;
        }
        let config = GenerationConfig {
            max_new_tokens: tokenizer.encode(&row.output)?.len() + EXTRA_TOKENS,
            ..GenerationConfig::new(tokenizer)
        };
        order.push((index, Request { prompt, config }));
    }
    order.sort_by_key(|(_, request)| request.prompt.len());
    let mut answers = vec![String::new(); rows.len()];
    for batch in order.chunks(batch_size.max(1)) {
        let requests = batch.iter().map(|(_, request)| request.clone()).collect();
        let mut tokens = vec![Vec::new(); batch.len()];
        let images = batch.iter().map(|(index, _)| rows[*index].image.as_deref());
        let adapter = adapter.for_images(&images.collect::<Vec<_>>());
        for steps in Generator::from_requests(llama, &*adapter, requests)? {
            for (tokens, step) in tokens.iter_mut().zip(steps?) {
                if let StepOutput::Token(token) = step {
                    tokens.push(token);
                }
            }
        }
        for ((index, _), tokens) in batch.iter().zip(tokens) {
            answers[*index] = tokenizer.decode(&tokens)?;
        }
        progress(batch.len());
    }
    Ok(answers)
}

/// Counts the answers that equal the wanted output.
pub fn exact_match(rows: &[Instruction], answers: &[String]) -> ExactMatch {
    let matches =
        rows.iter().zip(answers).filter(|(row, answer)| row.output.trim() == answer.trim());
    ExactMatch { rows: rows.len(), matches: matches.count() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_match_ignores_surrounding_whitespace() {
        let row = |output: &str| Instruction::new("a", "", output);
        let rows = [row("Yes."), row("No.")];
        let found = exact_match(&rows, &[" Yes.\n".into(), "No".into()]);
        assert_eq!(found, ExactMatch { rows: 2, matches: 1 });
        assert_eq!(found.fraction(), 0.5);
    }
}
