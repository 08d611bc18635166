//! a prompt's tokens ─► the answer, shown while it is written

use std::ops::ControlFlow;

use llama::{Adapter, FinishReason, GenerationConfig, Generator, Llama, StepOutput};
use serde::Serialize;
use text::{TextStream, Tokenizer};

use crate::failure::Result;

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
    pub tokenizer: &'a Tokenizer,
    pub config: GenerationConfig,
    pub stop: &'a [String],
}

impl Answering<'_> {
    /// Answers one prompt. `show` gets a piece of text after every token, at times an empty one,
    /// and may end the answer.
    pub fn answer(
        &self,
        adapter: &dyn Adapter,
        prompt: Vec<u32>,
        show: &mut dyn FnMut(&str) -> Result<ControlFlow<()>>,
    ) -> Result<Answer> {
        let answers = self.answers(adapter, &[prompt], &mut |_row, piece| show(piece))?;
        Ok(answers.into_iter().next().expect("one prompt, one answer"))
    }

    /// Answers several prompts at once. `show` also gets the number of the prompt.
    pub fn answers(
        &self,
        adapter: &dyn Adapter,
        prompts: &[Vec<u32>],
        show: &mut dyn FnMut(usize, &str) -> Result<ControlFlow<()>>,
    ) -> Result<Vec<Answer>> {
        let mut generator = Generator::new(self.llama, adapter, prompts, &self.config)?;
        let new = |_| (TextStream::new(self.tokenizer, self.stop), String::new(), Vec::new());
        let mut rows = (0..prompts.len()).map(new).collect::<Vec<_>>();
        while let Some(steps) = generator.next() {
            for (index, step) in steps?.into_iter().enumerate() {
                let StepOutput::Token(token) = step else { continue };
                let (stream, text, tokens) = &mut rows[index];
                tokens.push(token);
                let piece = stream.push(token)?;
                *text += &piece;
                let flow = show(index, &piece)?;
                if stream.is_stopped() || flow.is_break() {
                    generator.stop_row(index, FinishReason::Stop);
                }
            }
        }
        let mut answers = Vec::new();
        for (index, (mut stream, mut text, tokens)) in rows.into_iter().enumerate() {
            if !stream.is_stopped() {
                let piece = stream.finish()?;
                text += &piece;
                // Nothing follows that could still be ended.
                let _flow = show(index, &piece)?;
            }
            answers.push(Answer {
                text,
                tokens,
                finish: generator.finish_reason(index).unwrap_or(FinishReason::Length),
                // An empty prompt gets a first token of the model's own.
                prompt_tokens: prompts[index].len().max(1),
                seconds_prompt: generator.prefill_seconds(),
                seconds_decode: generator.decode_seconds(index),
            });
        }
        Ok(answers)
    }
}
