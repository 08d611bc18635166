//! tokens ─► [`Detokenizer`] ─► [`StopStrings`] ─► pieces of text, as soon as they are final

use crate::detokenizer::Detokenizer;
use crate::error::Result;
use crate::stop_strings::StopStrings;
use crate::tokenizer::Tokenizer;

/// Streaming text of one sequence of tokens: whole characters only, without the stop strings.
#[derive(Debug, Clone)]
pub struct TextStream<'t> {
    detokenizer: Detokenizer<'t>,
    stop: StopStrings,
}

impl<'t> TextStream<'t> {
    /// A stream that ends before the first of `stop_strings`.
    pub fn new(tokenizer: &'t Tokenizer, stop_strings: &[String]) -> Self {
        Self { detokenizer: Detokenizer::new(tokenizer), stop: StopStrings::new(stop_strings) }
    }

    /// The text that became final with this token; often empty.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer)
    pub fn push(&mut self, token: u32) -> Result<String> {
        let piece = self.detokenizer.push(token)?;
        Ok(self.stop.push(&piece))
    }

    /// The pending text, after the last token.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer)
    pub fn finish(&mut self) -> Result<String> {
        let piece = self.detokenizer.finish()?;
        Ok(self.stop.push(&piece) + &self.stop.finish())
    }

    /// Whether a stop string was found: no further text belongs to the stream.
    pub fn is_stopped(&self) -> bool {
        self.stop.found()
    }
}
