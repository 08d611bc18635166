//! a prompt's tokens ─► the answer, shown while it is written

use std::ops::ControlFlow;

use llama::{
    Adapter, FinishReason, GenerationConfig, Generator, Llama, Step, TextStream, Tokenizer,
};
use serde::Serialize;

/// A whole answer, in the order of the JSON that `generate` writes.
#[derive(Debug, Serialize)]
pub struct Answer {
    pub text: String,
    /// Without the token that ended it; those of a stop string are here and not in the text.
    pub tokens: Vec<u32>,
    pub finish: FinishReason,
    pub prompt_tokens: usize,
    /// To the first token.
    pub seconds_prompt: f64,
    /// From the first token to the last.
    pub seconds_decode: f64,
}

/// What it takes to answer.
pub struct Answering<'a> {
    pub llama: &'a Llama,
    pub adapter: &'a dyn Adapter,
    pub tokenizer: &'a Tokenizer,
    pub config: GenerationConfig,
    pub stop: &'a [String],
}

impl Answering<'_> {
    /// Answers one prompt. `show` gets a piece of text after every token, at times an empty one,
    /// and may end the answer.
    pub fn answer(
        &self,
        prompt: Vec<u32>,
        show: &mut dyn FnMut(&str) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<Answer> {
        // An empty prompt gets a first token of the model's own.
        let prompt_tokens = prompt.len().max(1);
        let mut generator = Generator::new(self.llama, self.adapter, &[prompt], &self.config)?;
        let mut stream = TextStream::new(self.tokenizer, self.stop);
        let (mut text, mut tokens) = (String::new(), Vec::new());
        while let Some(steps) = generator.next() {
            let Step::Token(token) = steps?[0] else { continue };
            tokens.push(token);
            let piece = stream.push(token)?;
            text += &piece;
            let flow = show(&piece)?;
            if stream.stopped() || flow.is_break() {
                generator.finish(0, FinishReason::Stop);
                break;
            }
        }
        if !stream.stopped() {
            let piece = stream.finish()?;
            text += &piece;
            // Nothing follows that could still be ended.
            let _flow = show(&piece)?;
        }
        Ok(Answer {
            text,
            tokens,
            finish: generator.finish_reason(0).unwrap_or(FinishReason::Length),
            prompt_tokens,
            seconds_prompt: generator.seconds_prompt(),
            seconds_decode: generator.seconds_decode(0),
        })
    }
}
