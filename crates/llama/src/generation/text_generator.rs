//! Streaming text: [`Generator`] ─► [`TextStream`] ─► pieces of text as soon as they are final.

use text::{TextStream, Tokenizer};

use super::generator::Generator;
use super::output::{FinishReason, StepOutput};
use crate::error::Result;

/// Iterator over the text of a [`Generator`] with one row. No piece is empty.
///
/// ```no_run
/// use llama::{GenerationConfig, Generator, ModelSource, NoAdapter, TextGenerator};
/// # let device = testing::flex();
/// let source = ModelSource::open("models/SmolLM2-135M-Instruct")?;
/// let llama = source.load(llama::Precision::F32, &device)?;
/// let tokenizer = source.tokenizer()?;
/// let prompt = tokenizer.encode("Llamas live in")?;
/// let config = GenerationConfig::new(&tokenizer);
/// let generator = Generator::new(&llama, &NoAdapter, &[prompt], &config)?;
/// for piece in TextGenerator::new(generator, &tokenizer, &["\n\n".to_owned()]) {
///     print!("{}", piece?);
/// }
/// # Ok::<(), llama::Error>(())
/// ```
#[derive(Debug)]
pub struct TextGenerator<'a> {
    generator: Generator<'a>,
    stream: TextStream<'a>,
    tokens: usize,
    done: bool,
}

impl<'a> TextGenerator<'a> {
    /// Streams the text of `generator` up to the first of `stop_strings`.
    ///
    /// # Panics
    /// If the generator has several rows.
    pub fn new(
        generator: Generator<'a>,
        tokenizer: &'a Tokenizer,
        stop_strings: &[String],
    ) -> Self {
        assert_eq!(generator.batch(), 1, "the generator has several rows");
        let stream = TextStream::new(tokenizer, stop_strings);
        Self { generator, stream, tokens: 0, done: false }
    }

    /// Why the text ended; `None` if it has not.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.generator.finish_reason(0)
    }

    /// Number of tokens so far, including those of a stop string.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Seconds of the prefill; 0 before the first token.
    pub fn prefill_seconds(&self) -> f64 {
        self.generator.prefill_seconds()
    }

    /// Seconds from the first token to the latest.
    pub fn decode_seconds(&self) -> f64 {
        self.generator.decode_seconds(0)
    }

    /// Text that the next token, or the end, makes final; may be empty.
    fn step(&mut self) -> Result<String> {
        let Some(steps) = self.generator.next() else {
            self.done = true;
            return Ok(String::new());
        };
        let [step] = steps?[..] else { unreachable!("the generator has one row") };
        match step {
            StepOutput::Token(token) => {
                self.tokens += 1;
                let piece = self.stream.push(token)?;
                if self.stream.is_stopped() {
                    self.done = true;
                    self.generator.stop_row(0, FinishReason::Stop);
                }
                Ok(piece)
            }
            StepOutput::Finished(_reason) => {
                self.done = true;
                Ok(self.stream.finish()?)
            }
        }
    }
}

impl Iterator for TextGenerator<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            match self.step() {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Some(Ok(piece)),
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
