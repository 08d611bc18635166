//! [`Generator`] ─► [`TextStream`] ─► pieces of text, as they become final

use text::{TextStream, Tokenizer};

use crate::error::Result;
use crate::generate::{FinishReason, StepOutput};
use crate::generator::Generator;

/// The text of a one-row [`Generator`], piece by piece; no piece is empty.
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
    text: TextStream<'a>,
    tokens: usize,
    done: bool,
}

impl<'a> TextGenerator<'a> {
    /// Gives the text of `generator` up to the first of `stop_strings`.
    ///
    /// # Panics
    /// If the generator has more than one row.
    pub fn new(
        generator: Generator<'a>,
        tokenizer: &'a Tokenizer,
        stop_strings: &[String],
    ) -> Self {
        assert_eq!(generator.batch(), 1, "a text has one row");
        let text = TextStream::new(tokenizer, stop_strings);
        Self { generator, text, tokens: 0, done: false }
    }

    /// Why the text ended, once it has.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.generator.finish_reason(0)
    }

    /// Tokens so far, those of a stop string included.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Seconds of the pass over the prompt; 0 before the first piece.
    pub fn seconds_prompt(&self) -> f64 {
        self.generator.prefill_seconds()
    }

    /// Seconds from the first token to the latest.
    pub fn seconds_decode(&self) -> f64 {
        self.generator.decode_seconds(0)
    }

    /// What the next token, or the end, makes certain.
    fn step(&mut self) -> Result<String> {
        let Some(steps) = self.generator.next() else {
            self.done = true;
            return Ok(String::new());
        };
        let [step] = steps?[..] else { unreachable!("the generator has one row") };
        match step {
            StepOutput::Token(token) => {
                self.tokens += 1;
                let piece = self.text.push(token)?;
                if self.text.is_stopped() {
                    self.done = true;
                    self.generator.stop_row(0, FinishReason::Stop);
                }
                Ok(piece)
            }
            StepOutput::Finished(_reason) => {
                self.done = true;
                Ok(self.text.finish()?)
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
