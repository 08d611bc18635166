//! prompt tokens ─► response, streamed while it is generated

use std::ops::ControlFlow;

use llama::{Adapter, FinishReason, GenerationConfig, Generator, Llama, StepOutput};
use serde::Serialize;
use text::{TextStream, Tokenizer};

use crate::failure::Result;

/// A complete response; the fields are the JSON keys of `generate --json`.
#[derive(Debug, Serialize)]
pub struct Response {
    pub text: String,
    /// All generated tokens except the stop token. Those of a stop string are included, although
    /// `text` ends before it.
    pub tokens: Vec<u32>,
    pub finish: FinishReason,
    pub prompt_tokens: usize,
    /// Seconds to the first token.
    pub seconds_prompt: f64,
    /// Seconds from the first token to the last.
    pub seconds_decode: f64,
}

/// Generates responses with one model and one generation config.
pub struct ResponseGenerator<'a> {
    pub llama: &'a Llama,
    pub tokenizer: &'a Tokenizer,
    pub config: GenerationConfig,
    pub stop: &'a [String],
}

impl ResponseGenerator<'_> {
    /// Responds to one prompt. `on_text` gets the text of each token, which may be empty, and may
    /// stop the generation.
    pub fn generate(
        &self,
        adapter: &dyn Adapter,
        prompt: Vec<u32>,
        on_text: &mut dyn FnMut(&str) -> Result<ControlFlow<()>>,
    ) -> Result<Response> {
        let responses =
            self.generate_batch(adapter, &[prompt], &mut |_row, piece| on_text(piece))?;
        Ok(responses.into_iter().next().expect("one prompt, one response"))
    }

    /// Responds to several prompts as one batch. `on_text` also gets the index of the prompt.
    pub fn generate_batch(
        &self,
        adapter: &dyn Adapter,
        prompts: &[Vec<u32>],
        on_text: &mut dyn FnMut(usize, &str) -> Result<ControlFlow<()>>,
    ) -> Result<Vec<Response>> {
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
                let flow = on_text(index, &piece)?;
                if stream.is_stopped() || flow.is_break() {
                    generator.stop_row(index, FinishReason::Stop);
                }
            }
        }
        let mut responses = Vec::new();
        for (index, (mut stream, mut text, tokens)) in rows.into_iter().enumerate() {
            if !stream.is_stopped() {
                let piece = stream.finish()?;
                text += &piece;
                // The generation is over: nothing can be stopped.
                let _flow = on_text(index, &piece)?;
            }
            responses.push(Response {
                text,
                tokens,
                finish: generator.finish_reason(index).unwrap_or(FinishReason::Length),
                // The generator puts a first token into an empty prompt.
                prompt_tokens: prompts[index].len().max(1),
                seconds_prompt: generator.prefill_seconds(),
                seconds_decode: generator.decode_seconds(index),
            });
        }
        Ok(responses)
    }
}
