//! Loss, perplexity and exact match on held-out rows.

use ::eval::is_exact_match;
use burn::tensor::Tensor;
use llama::{GenerationConfig, Generator, Llama, Request, StepOutput, read_back};
use serde::{Deserialize, Serialize};

use crate::data::{Batch, Example, Instruction, RowEncoder};
use crate::error::Result;
use crate::images::BatchAdapter;
use crate::loss::sequence_losses;

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
/// As [`label_loss`](crate::label_loss).
pub fn evaluate_loss(
    llama: &Llama,
    adapter: &dyn BatchAdapter,
    examples: &[Example],
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<LabelLoss> {
    let losses = evaluate_row_losses(llama, adapter, examples, batch_size, progress)?;
    let labels = examples.iter().map(Example::n_labels).sum::<usize>();
    Ok(LabelLoss { labels, loss: losses.iter().sum::<f64>() / labels.max(1) as f64 })
}

/// The loss of each example: the sum of the negative log-likelihoods of its labels, in nats.
///
/// `progress` receives the number of examples evaluated since its last call.
///
/// # Errors
/// As [`label_loss`](crate::label_loss).
pub fn evaluate_row_losses(
    llama: &Llama,
    adapter: &dyn BatchAdapter,
    examples: &[Example],
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<f64>> {
    if examples.is_empty() {
        return Ok(Vec::new());
    }
    // Batches of similar length need less padding.
    let mut order = (0..examples.len()).collect::<Vec<_>>();
    order.sort_by_key(|&index| examples[index].tokens.len());
    let mut losses = Vec::new();
    for rows in order.chunks(batch_size.max(1)) {
        let batch = Batch::new(&rows.iter().map(|&index| &examples[index]).collect::<Vec<_>>());
        losses.push(sequence_losses(llama, &*adapter.for_batch(&batch), &batch)?);
        progress(rows.len());
    }
    // One synchronization.
    let losses = read_back(Tensor::cat(losses, 0))?;
    let mut by_example = vec![0.0; examples.len()];
    for (index, loss) in order.into_iter().zip(losses.iter::<f32>()) {
        by_example[index] = f64::from(loss);
    }
    Ok(by_example)
}

/// The loss of each example, as [`evaluate_row_losses`], in one batch.
pub(super) fn batch_losses(
    llama: &Llama,
    adapter: &dyn BatchAdapter,
    examples: &[&Example],
) -> Result<Vec<f32>> {
    if examples.is_empty() {
        return Ok(Vec::new());
    }
    let batch = Batch::new(examples);
    let losses = read_back(sequence_losses(llama, &*adapter.for_batch(&batch), &batch)?)?;
    Ok(losses.iter::<f32>().collect())
}

/// How long a generated response may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseLimit {
    /// A few tokens more than the expected output. A longer response is no exact match and names no
    /// other option, so that nothing else is worth generating for them.
    ExactMatch,
    /// Twice the expected output and 32 tokens, so that a response that is too long is scored as such.
    Overlap,
    /// This number of tokens for every row.
    Tokens(usize),
}

impl ResponseLimit {
    fn max_new_tokens(self, expected: usize) -> usize {
        match self {
            Self::ExactMatch => expected + 8,
            Self::Overlap => 2 * expected + 32,
            Self::Tokens(tokens) => tokens,
        }
    }
}

/// Responses to the prompts of some rows, by greedy decoding, one per row, as long as
/// [`ResponseLimit::ExactMatch`] allows.
///
/// # Errors
/// As [`generate_responses_within`].
pub fn generate_responses(
    llama: &Llama,
    adapter: &dyn BatchAdapter,
    encoder: &RowEncoder,
    rows: &[Instruction],
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<String>> {
    let limit = ResponseLimit::ExactMatch;
    generate_responses_within(limit, llama, adapter, encoder, rows, batch_size, progress)
}

/// Responses to the prompts of some rows, by greedy decoding, one per row.
///
/// A response ends at an end token or at `limit`. A prompt that fills the model's context gets an
/// empty response. `progress` receives the number of rows answered since its last call.
///
/// # Errors
/// [`Error::Model`](crate::Error::Model) if the tokenizer or the device fails.
pub fn generate_responses_within(
    limit: ResponseLimit,
    llama: &Llama,
    adapter: &dyn BatchAdapter,
    encoder: &RowEncoder,
    rows: &[Instruction],
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<String>> {
    let (tokenizer, stop_tokens) = (encoder.tokenizer(), encoder.stop_tokens());
    let mut order = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let prompt = encoder.prompt(row)?;
        if prompt.len() >= llama.config().max_positions {
            progress(1);
            continue;
        }
        let config = GenerationConfig {
            max_new_tokens: limit.max_new_tokens(tokenizer.encode(&row.output)?.len()),
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
    pairs.map(|(row, response)| is_exact_match(&row.output, response)).collect()
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
