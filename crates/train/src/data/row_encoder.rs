//! Rows ─► examples, in a prompt format.

use std::sync::Arc;

use ::data::names::ellipsize;
use text::{LabeledTokens, LossOn, Message, PromptEncoder, PromptFormat, Tokenizer};

use super::example::{Example, TruncationCounts};
use super::instruction::Instruction;
use super::turn::RowContext;
use crate::error::{Error, Result};

/// Turns rows into prompts and examples.
///
/// ```
/// use text::{LossOn, PromptFormat, PromptTemplate, Tokenizer};
/// use train::Instruction;
/// use train::data::{RowEncoder, Turn};
///
/// # fn main() -> train::Result<()> {
/// # let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
/// let tokenizer = Tokenizer::from_folder(&folder)?;
/// let format = PromptFormat::from(PromptTemplate::ChatMl);
/// let encoder = RowEncoder::new(&tokenizer, &format, LossOn::All)?;
/// let turns = [("user", "Hi."), ("assistant", "Hello."), ("user", "Who are you?")];
/// let turns = turns.map(|(role, text)| Turn::new(role, text)).to_vec();
/// let example = encoder.encode(&Instruction::conversation(turns, "I am Ada."))?;
/// assert_eq!(example.label_spans.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RowEncoder<'a> {
    tokenizer: &'a Tokenizer,
    prompt: PromptEncoder,
    loss_on: LossOn,
}

impl<'a> RowEncoder<'a> {
    /// Compiles a format for a tokenizer.
    ///
    /// # Errors
    /// [`Error::Model`] if the model has no chat template, or for an invalid one.
    pub fn new(tokenizer: &'a Tokenizer, format: &PromptFormat, loss_on: LossOn) -> Result<Self> {
        let prompt = PromptEncoder::new(format, tokenizer)?;
        Ok(Self { tokenizer, prompt, loss_on })
    }

    /// The Alpaca format, with the response as labels.
    ///
    /// # Errors
    /// None in fact; as [`new`](Self::new).
    pub fn alpaca(tokenizer: &'a Tokenizer) -> Result<Self> {
        Self::new(tokenizer, &PromptFormat::default(), LossOn::All)
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &'a Tokenizer {
        self.tokenizer
    }

    /// Everything besides the tokenizer that the tokens of a row depend on, for caches of tokens.
    pub fn cache_key(&self) -> String {
        serde_json::json!([self.prompt.format(), self.loss_on]).to_string()
    }

    /// The tokens that end a response.
    pub fn stop_tokens(&self) -> Vec<u32> {
        self.prompt.stop_tokens(self.tokenizer)
    }

    /// The prompt tokens of a row, with the start of the response.
    ///
    /// # Errors
    /// [`Error::Model`] if the template rejects the row, or the tokenizer fails.
    pub fn prompt(&self, row: &Instruction) -> Result<Vec<u32>> {
        let (prompt, tokenizer) = (&self.prompt, self.tokenizer);
        let tokens = match &row.context {
            RowContext::Nothing => tokenizer.encode(""),
            RowContext::Turns(turns) if prompt.format().template.is_multi_turn() => {
                let messages = turns.iter().map(|turn| turn.message.clone()).collect::<Vec<_>>();
                prompt.prompt(tokenizer, &messages)
            }
            RowContext::Turns(_) | RowContext::Instruction => {
                let row = row.flattened();
                prompt.instruction_prompt(tokenizer, &row.instruction, &row.input)
            }
        };
        tokens.map_err(|error| name_row(row, error))
    }

    /// Tokenizes a row.
    ///
    /// A single-turn template takes the last response of a conversation alone.
    ///
    /// # Errors
    /// [`Error::Model`] if the template rejects the row, the tokenizer fails, or it has no end token.
    pub fn encode(&self, row: &Instruction) -> Result<Example> {
        self.encode_with(row, self.loss_on).map_err(|error| name_row(row, error))
    }

    /// As [`encode`](Self::encode), with the output alone as labels.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_output(&self, row: &Instruction) -> Result<Example> {
        self.encode_with(row, LossOn::Last).map_err(|error| name_row(row, error))
    }

    fn encode_with(&self, row: &Instruction, loss_on: LossOn) -> text::Result<Example> {
        let (prompt, tokenizer) = (&self.prompt, self.tokenizer);
        let LabeledTokens { tokens, label_spans } = match &row.context {
            RowContext::Nothing => PromptEncoder::text(tokenizer, &row.output)?,
            RowContext::Turns(turns) if prompt.format().template.is_multi_turn() => {
                let messages = turns.iter().map(|turn| turn.message.clone());
                let response = Message::new("assistant", &row.output);
                let messages = messages.chain([response]).collect::<Vec<_>>();
                let is_trained = |index: usize| turns.get(index).is_none_or(|turn| turn.train);
                prompt.conversation(tokenizer, &messages, loss_on, is_trained)?
            }
            RowContext::Turns(_) | RowContext::Instruction => {
                let row = row.flattened();
                let texts = [&row.instruction, &row.input, &row.output].map(String::as_str);
                prompt.instruction(tokenizer, texts, loss_on)?
            }
        };
        let image = row.image.as_deref().map(Arc::from);
        Ok(Example::new(tokens, label_spans, image))
    }

    /// Tokenizes rows to at most `max_len` tokens each. A longer row loses its end; a row that has no
    /// label within this length is dropped.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), or [`Error::NoRows`] if all rows are dropped.
    pub fn encode_all(
        &self,
        rows: &[Instruction],
        max_len: usize,
    ) -> Result<(Vec<Example>, TruncationCounts)> {
        let mut examples = Vec::with_capacity(rows.len());
        let mut counts = TruncationCounts::default();
        for row in rows {
            let example = self.encode(row)?;
            examples.extend(counts.count(example, max_len));
        }
        if examples.is_empty() {
            return Err(Error::NoRows {
                name: "data".into(),
                purpose: "use",
                reason: format!("no prompt leaves room for an answer in {max_len} tokens"),
            });
        }
        Ok((examples, counts))
    }
}

/// An error of a template, with the row that it rejects.
fn name_row(row: &Instruction, error: text::Error) -> Error {
    const MAX_CHARS: usize = 60;
    match error {
        text::Error::ChatTemplate { .. } | text::Error::AssistantTurns { .. } => Error::Row {
            question: ellipsize(row.instruction.trim(), MAX_CHARS).escape_debug().to_string(),
            source: error,
        },
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use text::{PromptTemplate, alpaca};

    use super::super::turn::Turn;
    use super::*;

    fn tiny_tokenizer() -> Tokenizer {
        let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
        Tokenizer::from_folder(&folder).unwrap()
    }

    fn conversation() -> Instruction {
        let mut turns = ["a", "b", "c"].map(|text| Turn::new("user", text));
        turns[1] = Turn { train: false, ..Turn::new("assistant", "b") };
        Instruction::conversation(turns.to_vec(), "d")
    }

    #[test]
    fn a_row_is_the_prompt_the_output_and_an_end_token() {
        let tokenizer = tiny_tokenizer();
        let row = Instruction::new("Name a color.", "Not blue.", "Red.");
        let example = Example::encode(&row, &tokenizer).unwrap();
        let prompt = alpaca("Name a color.", "Not blue.");
        let mut tokens = tokenizer.encode(&format!("{prompt}Red.")).unwrap();
        tokens.push(tokenizer.eos[0]);
        let from = tokenizer.encode(&prompt).unwrap().len();
        assert_eq!(example, Example::with_labels_from(tokens, from));
    }

    #[test]
    fn a_single_turn_template_takes_the_last_response_with_its_history() {
        let tokenizer = tiny_tokenizer();
        let encoder = RowEncoder::alpaca(&tokenizer).unwrap();
        let flat = Instruction::new("c", "Human: a\nAssistant: b", "d");
        let [row, flat] = [conversation(), flat];
        assert_eq!(encoder.encode(&row).unwrap(), encoder.encode(&flat).unwrap());
        assert_eq!(encoder.prompt(&row).unwrap(), tokenizer.encode(&flat.prompt()).unwrap());
    }

    #[test]
    fn turns_that_are_not_trained_on_are_no_labels() {
        let tokenizer = tiny_tokenizer();
        let format = PromptFormat::from(PromptTemplate::ChatMl);
        let encoder = RowEncoder::new(&tokenizer, &format, LossOn::All).unwrap();
        let example = encoder.encode(&conversation()).unwrap();
        let prompt = encoder.prompt(&conversation()).unwrap();
        assert_eq!(example.label_spans.len(), 1);
        assert_eq!(example.label_spans[0].start, prompt.len());
    }

    #[test]
    fn every_token_but_the_first_of_plain_text_is_a_label() {
        let tokenizer = tiny_tokenizer();
        let example = RowEncoder::alpaca(&tokenizer).unwrap();
        let example = example.encode(&Instruction::text("Ada is a farmer.")).unwrap();
        assert_eq!(example.n_labels(), example.tokens.len() - 1);
    }

    #[test]
    fn a_rejected_row_is_named_by_its_question() {
        let tokenizer = tiny_tokenizer();
        let format = PromptFormat::from(PromptTemplate::Mistral);
        let encoder = RowEncoder::new(&tokenizer, &format, LossOn::All).unwrap();
        let turns = ["a\n", "b"].map(|text| Turn::new("user", text)).to_vec();
        let error = encoder.encode(&Instruction::conversation(turns, "c")).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("the row `b`: chat template: ") && text.contains("alternate"));
        assert!(matches!(error, Error::Row { .. }), "{text}");
    }

    #[test]
    fn the_format_and_the_loss_are_the_key_of_a_cache() {
        let tokenizer = tiny_tokenizer();
        let key = |format: PromptFormat, loss_on| {
            RowEncoder::new(&tokenizer, &format, loss_on).unwrap().cache_key()
        };
        let alpaca = PromptFormat::default();
        let system = PromptFormat { system: Some("a".into()), ..alpaca.clone() };
        let keys = [
            key(alpaca.clone(), LossOn::All),
            key(alpaca, LossOn::Last),
            key(system, LossOn::All),
            key(PromptTemplate::Raw.into(), LossOn::All),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{key}");
        }
    }
}
