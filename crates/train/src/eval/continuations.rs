//! Contexts with continuations ─► the likelihood of each continuation, as lm-evaluation-harness
//! computes it.

use llama::Llama;
use text::Tokenizer;

use super::evaluate::batch_losses;
use crate::data::Example;
use crate::error::Result;
use crate::images::BatchAdapter;

/// A text to compute the likelihood of, and the text before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuation<'t> {
    /// The text before it; may be empty.
    pub context: &'t str,
    /// The text itself.
    pub text: &'t str,
}

/// The log-likelihood of each continuation, in nats: the sum over its tokens.
///
/// A context that does not fit into the model's context loses its start. A continuation without tokens
/// has the log-likelihood 0; one that does not fit either is an error. `progress` receives the number
/// of continuations done since its last call.
///
/// # Errors
/// [`Error::Model`](crate::Error::Model) with
/// [`SequenceTooLong`](llama::Error::SequenceTooLong), or if the tokenizer or the device fails.
///
/// Source: lm-evaluation-harness 0.4.13, `TemplateLM.loglikelihood` and
/// `HFLM._loglikelihood_tokens`, with the defaults of `--model hf`.
/// <https://github.com/EleutherAI/lm-evaluation-harness>
pub fn continuation_log_likelihoods(
    llama: &Llama,
    adapter: &dyn BatchAdapter,
    tokenizer: &Tokenizer,
    continuations: &[Continuation],
    batch_size: usize,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<f64>> {
    let capacity = llama.config().max_positions;
    let mut results = vec![0.0; continuations.len()];
    // Neighbors are continuations of one context: on fused devices they share its computation.
    for (chunk, results) in
        continuations.chunks(batch_size.max(1)).zip(results.chunks_mut(batch_size.max(1)))
    {
        let mut examples = Vec::with_capacity(chunk.len());
        for (index, continuation) in chunk.iter().enumerate() {
            let (mut tokens, context_len) = continuation.encode(tokenizer)?;
            let len = tokens.len() - context_len;
            if len > capacity {
                let what = "the model's context";
                return Err(llama::Error::SequenceTooLong { asked: len, what, capacity }.into());
            }
            // The last token is only predicted.
            let cut = tokens.len().saturating_sub(capacity + 1);
            tokens.drain(..cut);
            if len > 0 {
                examples.push((index, Example::with_labels_from(tokens, context_len - cut)));
            }
        }
        let batch = examples.iter().map(|(_, example)| example).collect::<Vec<_>>();
        let losses = batch_losses(llama, adapter, &batch)?;
        for ((index, _), loss) in examples.iter().zip(losses) {
            results[*index] = -f64::from(loss);
        }
        progress(chunk.len());
    }
    Ok(results)
}

impl Continuation<'_> {
    /// The tokens of both texts, and how many of them are the context's: at least one.
    fn encode(&self, tokenizer: &Tokenizer) -> Result<(Vec<u32>, usize)> {
        let prefix = tokenizer.bos.or_else(|| tokenizer.eos.first().copied());
        if self.context.is_empty() {
            // The first token needs one before it.
            let mut tokens = tokenizer.encode_raw(self.text)?;
            if let Some(prefix) = prefix.filter(|prefix| tokens.first() != Some(prefix)) {
                tokens.insert(0, prefix);
            }
            let context_len = tokens.len().min(1);
            return Ok((tokens, context_len));
        }
        // Spaces at the end belong to the word that follows them.
        let context = self.context.trim_end_matches(is_python_whitespace);
        let whole = format!("{}{}", self.context, self.text);
        let prefix = prefix.and_then(|prefix| tokenizer.token(prefix));
        let encode = |text: &str| match &prefix {
            // It has its special token already.
            Some(prefix) if text.starts_with(prefix) => tokenizer.encode_raw(text),
            _ => tokenizer.encode(text),
        };
        let tokens = encode(&whole)?;
        // Tokens may merge across the end of the context, so that the whole has fewer.
        let context_len = encode(context)?.len().min(tokens.len());
        Ok((tokens, context_len))
    }
}

/// Whitespace of Python's `str.rstrip`.
fn is_python_whitespace(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// The pieces of both texts, and the range of the continuation's.
    fn pieces(context: &str, text: &str) -> (Vec<String>, Range<usize>) {
        let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
        let tokenizer = Tokenizer::from_folder(&folder).unwrap();
        let (tokens, from) = Continuation { context, text }.encode(&tokenizer).unwrap();
        let pieces = tokens.iter().map(|&token| tokenizer.token(token).unwrap());
        (pieces.collect(), from..tokens.len())
    }

    #[test]
    fn spaces_between_the_texts_belong_to_the_continuation() {
        let before = pieces("Ada is a", " farmer");
        assert_eq!(before, pieces("Ada is a ", "farmer"));
        assert_eq!(before.0[before.1].concat(), "Ġfarmer");
    }

    #[test]
    fn an_empty_context_is_the_start_of_a_text() {
        let (pieces, range) = pieces("", "farmer");
        assert_eq!((pieces[0].as_str(), range.start), ("<|begin|>", 1));
    }
}
