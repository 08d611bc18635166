//! Loss, perplexity and exact match on held-out rows.

use burn::tensor::Tensor;
use llama::{GenerationConfig, Generator, Llama, Request, StepOutput, read_back};
use serde::{Deserialize, Serialize};

use crate::data::{Batch, Example, Instruction, RowEncoder};
use crate::error::Result;
use crate::images::BatchAdapter;
use crate::loss::label_loss;

/// Mean loss over labels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LabelLoss {
    /// Number of labels.
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

/// Mean loss over the labels of all examples.
///
/// `progress` receives the number of examples evaluated since its last call.
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
    // Sorting by length reduces padding; the sum does not depend on the order of batches.
    let mut order = examples.iter().collect::<Vec<_>>();
    order.sort_by_key(|example| example.tokens.len());
    let (mut labels, mut losses) = (0, Vec::new());
    for rows in order.chunks(batch_size.max(1)) {
        let batch = Batch::new(rows);
        labels += batch.n_labels();
        losses.push(label_loss(llama, &*adapter.for_batch(&batch), &batch)?);
        progress(rows.len());
    }
    // One synchronization, and a sum in f64.
    let sum = if losses.is_empty() {
        0.0
    } else {
        read_back(Tensor::cat(losses, 0))?.iter::<f32>().map(f64::from).sum()
    };
    Ok(LabelLoss { labels, loss: sum / labels.max(1) as f64 })
}

/// Responses to the prompts of some rows, by greedy decoding, one per row.
///
/// A response ends a few tokens after the length of the expected output, where it can no longer
/// match. A prompt that fills the model's context gets an empty response. `progress` receives the
/// number of rows answered since its last call.
///
/// # Errors
/// [`Error::Model`](crate::Error::Model) if the tokenizer or the device fails.
pub fn generate_responses(
    llama: &Llama,
    adapter: &dyn BatchAdapter,
    encoder: &RowEncoder,
    rows: &[Instruction],
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<String>> {
    /// Tokens that a response may exceed the expected output by.
    const EXTRA_TOKENS: usize = 8;
    let (tokenizer, stop_tokens) = (encoder.tokenizer(), encoder.stop_tokens());
    let mut order = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let prompt = encoder.prompt(row)?;
        if prompt.len() >= llama.config().max_positions {
            progress(1);
            continue;
        }
        let config = GenerationConfig {
            max_new_tokens: tokenizer.encode(&row.output)?.len() + EXTRA_TOKENS,
            stop_tokens: stop_tokens.clone(),
            ..GenerationConfig::new(tokenizer)
        };
        order.push((index, Request { prompt, config }));
    }
    order.sort_by_key(|(_, request)| request.prompt.len());
    let mut responses = vec![String::new(); rows.len()];
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
            responses[*index] = tokenizer.decode(&tokens)?;
        }
        progress(batch.len());
    }
    Ok(responses)
}

/// Which responses equal the expected output, apart from surrounding whitespace.
pub fn exact_match(rows: &[Instruction], responses: &[String]) -> Vec<bool> {
    let pairs = rows.iter().zip(responses);
    pairs.map(|(row, response)| row.output.trim() == response.trim()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_match_ignores_surrounding_whitespace() {
        let row = |output: &str| Instruction::new("a", "", output);
        let rows = [row("Yes."), row("No.")];
        assert_eq!(exact_match(&rows, &[" Yes.\n".into(), "No".into()]), [true, false]);
    }
}
