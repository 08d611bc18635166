//! A prompt format compiled for a tokenizer: prompts, stop tokens, and rows with their labels.

use std::collections::BTreeSet;

use super::labels::{assistant_turns, is_assistant, tokens_of};
use super::{LabeledTokens, LossOn, PromptFormat, PromptTemplate, alpaca};
use crate::chat_template::{ChatTemplate, Message};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// Encodes prompts and rows in a [`PromptFormat`].
///
/// ```
/// use text::{LossOn, Message, PromptEncoder, PromptTemplate, Tokenizer};
///
/// # fn main() -> text::Result<()> {
/// # let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
/// let tokenizer = Tokenizer::from_folder(&folder)?;
/// let encoder = PromptEncoder::new(&PromptTemplate::ChatMl.into(), &tokenizer)?;
/// let turns = [Message::new("user", "Name a color."), Message::new("assistant", "Red.")];
/// let prompt = encoder.prompt(&tokenizer, &turns[..1])?;
/// let row = encoder.conversation(&tokenizer, &turns, LossOn::All, |_turn| true)?;
/// assert_eq!(row.tokens[..prompt.len()], prompt);
/// assert_eq!(row.label_spans[0].start, prompt.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PromptEncoder {
    format: PromptFormat,
    /// `None` for the single-turn templates.
    chat: Option<ChatTemplate>,
    /// Tokens that end a turn or a text, wherever they occur.
    added_tokens: BTreeSet<u32>,
}

impl PromptEncoder {
    /// Compiles a format for a tokenizer.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if the model has no chat template, or for an invalid one.
    pub fn new(format: &PromptFormat, tokenizer: &Tokenizer) -> Result<Self> {
        let chat = format.template.compile(tokenizer)?;
        let added_tokens = tokenizer.added_tokens();
        Ok(Self { format: format.clone(), chat, added_tokens })
    }

    /// The format.
    pub fn format(&self) -> &PromptFormat {
        &self.format
    }

    /// The prompt tokens of a conversation, with the start of the response.
    ///
    /// The single-turn templates take the last message. System messages precede it, separated by empty
    /// lines: these templates have no other place for them.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if the template rejects the messages; [`Error::Tokenizer`].
    pub fn prompt(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>> {
        let messages = self.with_system(messages.to_vec());
        match &self.chat {
            // The template contains the special tokens.
            Some(chat) => tokenizer.encode_raw(&chat.render(&messages, true)?),
            None => tokenizer.encode(&self.single_turn_prompt(&single_turn(&messages), "")),
        }
    }

    /// The prompt tokens of an instruction and its input, which may be empty, with the start of the
    /// response.
    ///
    /// # Errors
    /// As [`prompt`](Self::prompt).
    pub fn instruction_prompt(
        &self,
        tokenizer: &Tokenizer,
        instruction: &str,
        input: &str,
    ) -> Result<Vec<u32>> {
        match &self.chat {
            Some(_) => {
                self.prompt(tokenizer, &[Message::new("user", question(instruction, input))])
            }
            None => {
                tokenizer.encode(&self.single_turn_prompt(&self.after_system(instruction), input))
            }
        }
    }

    /// A row of an instruction, its input, which may be empty, and the response.
    ///
    /// # Errors
    /// As [`conversation`](Self::conversation).
    pub fn instruction(
        &self,
        tokenizer: &Tokenizer,
        [instruction, input, response]: [&str; 3],
        loss_on: LossOn,
    ) -> Result<LabeledTokens> {
        if self.chat.is_some() {
            let messages = [
                Message::new("user", question(instruction, input)),
                Message::new("assistant", response),
            ];
            return self.conversation(tokenizer, &messages, loss_on, |_| true);
        }
        let prompt = self.single_turn_prompt(&self.after_system(instruction), input);
        completion(tokenizer, &prompt, response, loss_on)
    }

    /// A row of a conversation. `is_trained` says of the assistant's messages, by their indices, whether
    /// they are labels; [`LossOn::Everything`] ignores it.
    ///
    /// An end-of-sequence token is added if the template ends the last turn with no special token. The
    /// single-turn templates take the last two messages as a question and its response.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] if the template rejects the messages, [`Error::AssistantTurns`] if it does not
    /// show which part of the text is the assistant's; [`Error::Tokenizer`], also for a tokenizer without an
    /// end-of-sequence token where one is needed.
    pub fn conversation(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        loss_on: LossOn,
        is_trained: impl Fn(usize) -> bool,
    ) -> Result<LabeledTokens> {
        let Some(chat) = &self.chat else {
            let (response, before) = match messages.split_last() {
                Some((last, before)) if is_assistant(last) => (last.content.as_str(), before),
                _ => ("", messages),
            };
            let before = self.with_system(before.to_vec());
            let prompt = self.single_turn_prompt(&single_turn(&before), "");
            return completion(tokenizer, &prompt, response, loss_on);
        };
        let assistant = messages.iter().enumerate().filter(|(_, message)| is_assistant(message));
        let trained = assistant.map(|(index, _)| is_trained(index)).collect::<Vec<_>>();
        let messages = self.with_system(messages.to_vec());
        let marked = assistant_turns(chat, &messages)?;
        let (mut tokens, offsets) = tokenizer.encode_raw_with_offsets(&marked.text)?;
        let turns = marked.generated.iter().map(|span| tokens_of(span, &offsets));
        let mut turns = turns.collect::<Vec<_>>();
        if !chat.has_generation_blocks() {
            for turn in &mut turns {
                // Whitespace after the end of a turn is not generated: generation ends there.
                if let Some(end) = tokens[turn.clone()].iter().rposition(|id| self.ends_turn(*id)) {
                    let rest = turn.start + end + 1..turn.end;
                    if tokenizer.decode(&tokens[rest.clone()])?.trim().is_empty() {
                        turn.end = rest.start;
                    }
                }
            }
        }
        let is_last = messages.last().is_some_and(is_assistant);
        let text_len = marked.text.trim_end().len();
        let final_token = tokens_of(&(text_len.saturating_sub(1)..text_len), &offsets);
        let is_open = !tokens[final_token].iter().any(|id| self.ends_turn(*id));
        if let Some(last) = turns.last_mut().filter(|_| is_last && is_open) {
            tokens.push(end_token(tokenizer)?);
            last.end = tokens.len();
        }
        let label_spans = match loss_on {
            LossOn::Everything => std::iter::once(0..tokens.len()).collect(),
            LossOn::All | LossOn::Last => {
                let first = if loss_on == LossOn::Last { turns.len().saturating_sub(1) } else { 0 };
                let trained = turns.into_iter().zip(trained).skip(first);
                let trained = trained.filter(|(span, trained)| *trained && !span.is_empty());
                trained.map(|(span, _)| span).collect()
            }
        };
        Ok(LabeledTokens { tokens, label_spans })
    }

    /// Plain text without a prompt: every token is a label.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], also for a tokenizer without an end-of-sequence token.
    pub fn text(tokenizer: &Tokenizer, text: &str) -> Result<LabeledTokens> {
        completion(tokenizer, "", text, LossOn::Everything)
    }

    /// The tokens that end a response: the tokenizer's end-of-sequence tokens and the token with which the
    /// template ends the assistant's turns.
    pub fn stop_tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        /// A response that occurs nowhere else.
        const RESPONSE: &str = "Understood, 4711.";
        let mut stop = tokenizer.eos.clone();
        let messages = [Message::new("user", "Hello."), Message::new("assistant", RESPONSE)];
        // A template that rejects or changes this conversation says nothing about the end of a turn.
        let text = self.chat.as_ref().and_then(|chat| chat.render(&messages, false).ok());
        let rest = text.as_ref().and_then(|text| Some(text.rsplit_once(RESPONSE)?.1));
        let tokens = rest.and_then(|rest| tokenizer.encode_raw(rest).ok()).unwrap_or_default();
        let end = tokens.into_iter().find(|id| self.ends_turn(*id));
        stop.extend(end.filter(|id| !tokenizer.eos.contains(id)));
        stop
    }

    fn ends_turn(&self, token: u32) -> bool {
        self.added_tokens.contains(&token)
    }

    /// The messages, after the format's system prompt if they have none of their own.
    fn with_system(&self, mut messages: Vec<Message>) -> Vec<Message> {
        if let Some(system) = &self.format.system
            && messages.iter().all(|message| message.role != "system")
        {
            messages.insert(0, Message::new("system", system));
        }
        messages
    }

    /// An instruction after the format's system prompt.
    fn after_system(&self, instruction: &str) -> String {
        let texts = self.format.system.iter().map(String::as_str).chain([instruction]);
        texts.collect::<Vec<_>>().join("\n\n")
    }

    fn single_turn_prompt(&self, instruction: &str, input: &str) -> String {
        match self.format.template {
            PromptTemplate::Alpaca => alpaca(instruction, input),
            _ => question(instruction, input),
        }
    }
}

/// A prompt and its response, with an end-of-sequence token.
fn completion(
    tokenizer: &Tokenizer,
    prompt: &str,
    response: &str,
    loss_on: LossOn,
) -> Result<LabeledTokens> {
    let eos = end_token(tokenizer)?;
    let prompt_len = match loss_on {
        LossOn::Everything => 0,
        LossOn::All | LossOn::Last => tokenizer.encode(prompt)?.len(),
    };
    let mut tokens = tokenizer.encode(&format!("{prompt}{response}"))?;
    tokens.push(eos);
    // Tokens may merge across the end of the prompt, so that the whole row is no longer than it.
    let labels_from = prompt_len.min(tokens.len() - 1);
    let label_spans = std::iter::once(labels_from..tokens.len()).collect();
    Ok(LabeledTokens { tokens, label_spans })
}

fn end_token(tokenizer: &Tokenizer) -> Result<u32> {
    tokenizer.eos.first().copied().ok_or_else(|| Error::Tokenizer {
        path: "tokenizer".into(),
        reason: "the model's files name no end token, which training needs".into(),
    })
}

/// An instruction and its input as one message.
fn question(instruction: &str, input: &str) -> String {
    if input.is_empty() { instruction.to_owned() } else { format!("{instruction}\n\n{input}") }
}

/// The system messages and the last message.
fn single_turn(messages: &[Message]) -> String {
    let Some((last, earlier)) = messages.split_last() else { return String::new() };
    let system = earlier.iter().filter(|message| message.role == "system");
    let texts = system.chain([last]).map(|message| message.content.as_str());
    texts.collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny_tokenizer() -> Tokenizer {
        let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
        Tokenizer::from_folder(&folder).unwrap()
    }

    fn conversation() -> Vec<Message> {
        vec![
            Message::new("system", "Be brief."),
            Message::new("user", "Name a fruit."),
            Message::new("assistant", "A plum."),
            Message::new("user", "Name a color."),
        ]
    }

    fn custom(source: &str) -> PromptFormat {
        PromptTemplate::Custom { name: "mine".into(), source: source.into() }.into()
    }

    /// The texts of the labels of a conversation.
    fn labels(
        format: &PromptFormat,
        tokenizer: &Tokenizer,
        loss_on: LossOn,
        is_trained: impl Fn(usize) -> bool,
    ) -> Vec<String> {
        let mut messages = conversation();
        messages.push(Message::new("assistant", "Red."));
        let encoder = PromptEncoder::new(format, tokenizer).unwrap();
        let row = encoder.conversation(tokenizer, &messages, loss_on, is_trained).unwrap();
        let text = |ids: &[u32]| ids.iter().map(|id| tokenizer.token(*id).unwrap()).collect();
        row.label_spans.into_iter().map(|span| text(&row.tokens[span])).collect()
    }

    #[test]
    fn single_turn_templates_take_the_last_message_after_the_system_prompt() {
        let tokenizer = tiny_tokenizer();
        let instruction = "Be brief.\n\nName a color.";
        let encode = |template: PromptTemplate| {
            PromptFormat::from(template).encode(&tokenizer, &conversation()).unwrap()
        };
        let expected = tokenizer.encode(&alpaca(instruction, "")).unwrap();
        assert_eq!(encode(PromptTemplate::Alpaca), expected);
        assert_eq!(encode(PromptTemplate::Raw), tokenizer.encode(instruction).unwrap());
        let raw = PromptFormat::from(PromptTemplate::Raw);
        let single = raw.encode(&tokenizer, &conversation()[3..]).unwrap();
        assert_eq!(single, tokenizer.encode("Name a color.").unwrap());
    }

    #[test]
    fn the_chat_template_takes_every_message() {
        let mut tokenizer = tiny_tokenizer();
        tokenizer.chat_template =
            Some("{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}".into());
        let text = "system: Be brief. user: Name a fruit. assistant: A plum. user: Name a color. ";
        let chat = PromptFormat::from(PromptTemplate::Chat);
        let encoded = chat.encode(&tokenizer, &conversation()).unwrap();
        assert_eq!(encoded, tokenizer.encode_raw(text).unwrap());
    }

    #[test]
    fn the_systems_own_message_replaces_that_of_the_format() {
        let tokenizer = tiny_tokenizer();
        for template in [PromptTemplate::Alpaca, PromptTemplate::ChatMl] {
            let plain = PromptFormat::from(template);
            let format = PromptFormat { system: Some("Be brief.".into()), ..plain.clone() };
            let expected = plain.encode(&tokenizer, &conversation()).unwrap();
            assert_eq!(format.encode(&tokenizer, &conversation()[1..]).unwrap(), expected);
            let other = PromptFormat { system: Some("Be long.".into()), ..plain };
            assert_eq!(other.encode(&tokenizer, &conversation()).unwrap(), expected);
        }
    }

    #[test]
    fn the_prompt_of_an_instruction_is_the_beginning_of_its_row() {
        let tokenizer = tiny_tokenizer();
        for template in PromptTemplate::NAMED.into_iter().filter(|t| *t != PromptTemplate::Chat) {
            let name = template.to_string();
            let format = PromptFormat { template, system: Some("Be brief.".into()) };
            let encoder = PromptEncoder::new(&format, &tokenizer).unwrap();
            let prompt = encoder.instruction_prompt(&tokenizer, "Add.", "1 2").unwrap();
            let texts = ["Add.", "1 2", "\nIt is 3."];
            let row = encoder.instruction(&tokenizer, texts, LossOn::All).unwrap();
            assert_eq!(row.tokens[..prompt.len()], prompt, "{name}");
            let spans = &row.label_spans[..];
            assert!(spans.len() == 1 && spans[0].start == prompt.len(), "{name}: {spans:?}");
            let everything = encoder.instruction(&tokenizer, texts, LossOn::Everything).unwrap();
            assert_eq!(everything.label_spans, [0..row.tokens.len()], "{name}");
        }
    }

    #[test]
    fn only_the_chosen_turns_are_labels() {
        let tokenizer = tiny_tokenizer();
        let chatml = PromptTemplate::ChatMl.into();
        let [plum, red] = ["AĠplum.<|end|>", "Red.<|end|>"];
        let found = |loss_on, trained: &[usize]| {
            labels(&chatml, &tokenizer, loss_on, |index| trained.contains(&index))
        };
        assert_eq!(found(LossOn::All, &[2, 4]), [plum, red]);
        assert_eq!(found(LossOn::Last, &[2, 4]), [red]);
        assert_eq!(found(LossOn::All, &[2]), [plum]);
        assert_eq!(found(LossOn::Last, &[2]), [""; 0]);
        assert_eq!(found(LossOn::Everything, &[]).len(), 1);
    }

    #[test]
    fn unmarked_turns_end_with_their_last_special_token() {
        let tokenizer = tiny_tokenizer();
        let source = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}\n\n{% endfor %}\
                      {% if add_generation_prompt %}assistant:{% endif %}";
        let found = labels(&custom(source), &tokenizer, LossOn::All, |_| true);
        assert_eq!(found, ["ĠAĠplum.<|end|>", "ĠRed.<|end|>"]);
    }

    #[test]
    fn a_template_without_an_end_token_gets_one_at_the_end() {
        let tokenizer = tiny_tokenizer();
        let source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
                      {% if add_generation_prompt %}assistant:{% endif %}";
        let found = labels(&custom(source), &tokenizer, LossOn::All, |_| true);
        assert_eq!(found, ["ĠAĠplum.Ċ", "ĠRed.Ċ<|end|>"]);
    }

    #[test]
    fn the_end_of_a_turn_stops_a_response() {
        let mut tokenizer = tiny_tokenizer();
        let stop = |template: PromptTemplate, tokenizer: &Tokenizer| {
            PromptEncoder::new(&template.into(), tokenizer).unwrap().stop_tokens(tokenizer)
        };
        let eos = tokenizer.eos.clone();
        assert_eq!(stop(PromptTemplate::Alpaca, &tokenizer), eos);
        assert_eq!(stop(PromptTemplate::ChatMl, &tokenizer), eos);
        let end = tokenizers::AddedToken::from("<|im_end|>", true);
        tokenizer.inner_mut().add_special_tokens(&[end]);
        let id = tokenizer.id("<|im_end|>").unwrap();
        assert_eq!(stop(PromptTemplate::ChatMl, &tokenizer), [eos.clone(), vec![id]].concat());
        assert_eq!(stop(PromptTemplate::Mistral, &tokenizer), eos);
    }

    #[test]
    fn every_token_of_plain_text_is_a_label() {
        let tokenizer = tiny_tokenizer();
        let row = PromptEncoder::text(&tokenizer, "Ada is a farmer.").unwrap();
        let mut expected = tokenizer.encode("Ada is a farmer.").unwrap();
        expected.push(tokenizer.eos[0]);
        assert_eq!(row.label_spans, [0..expected.len()]);
        assert_eq!(row.tokens, expected);
    }
}
