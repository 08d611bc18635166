//! corpus ─► tokenizer ─► shuffled documents ─► token windows of equal length

use std::path::Path;

use anyhow::{Context, anyhow};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

/// The first token of a document.
const BEGIN: &str = "<|begin|>";
/// The last token of a document.
const END: &str = "<|end|>";

/// Reads the `text` of every line.
pub fn read_documents(path: &Path) -> anyhow::Result<Vec<String>> {
    let lines = std::fs::read_to_string(path)
        .with_context(|| format!("{}: run the tiny_world example first", path.display()))?;
    let text = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line)?;
        Ok(line["text"].as_str().context("a line without `text`")?.to_owned())
    };
    lines.lines().map(text).collect()
}

/// Trains a byte-level BPE on the corpus.
pub fn train_tokenizer(documents: &[String], vocab: usize) -> anyhow::Result<Tokenizer> {
    let special = [BEGIN, END].map(|token| AddedToken::from(token, true));
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(vocab)
        .special_tokens(special.into())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    let byte_level = ByteLevel::new(false, true, true);
    let mut tokenizer = tokenizers::TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(byte_level))
        .with_post_processor(None::<tokenizers::PostProcessorWrapper>)
        .with_decoder(Some(byte_level))
        .build()
        .map_err(|error| anyhow!(error))?;
    tokenizer.train(&mut trainer, documents.iter()).map_err(|error| anyhow!(error))?;
    let json = tokenizer.to_string(false).map_err(|error| anyhow!(error))?;
    let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| anyhow!(error))?;
    let begin = tokenizer.token_to_id(BEGIN).context("a special token is missing")?;
    let template = TemplateProcessing::builder()
        .try_single(format!("{BEGIN} $A"))
        .map_err(|error| anyhow!(error))?
        .special_tokens(vec![(BEGIN, begin)])
        .build()?;
    tokenizer.with_post_processor(Some(template));
    Ok(tokenizer)
}

/// Writes a config with the begin and end tokens.
pub fn write_tokenizer_config(folder: &Path) -> anyhow::Result<()> {
    let settings = json!({ "bos_token": BEGIN, "eos_token": END });
    let text = serde_json::to_string_pretty(&settings)?;
    checkpoint::files::write(
        &folder.join("tokenizer_config.json"),
        format!("{text}\n").as_bytes(),
    )?;
    Ok(())
}

/// Endless token windows over shuffled documents, each with its begin and end token.
pub struct TokenWindows {
    documents: Vec<Vec<u32>>,
    next: usize,
    buffer: Vec<u32>,
    len: usize,
    rng: ChaCha8Rng,
}

impl TokenWindows {
    /// Encodes all documents.
    pub fn new(
        tokenizer: &Tokenizer,
        documents: &[String],
        len: usize,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let id = |token| tokenizer.token_to_id(token).context("a special token is missing");
        let (begin, end) = (id(BEGIN)?, id(END)?);
        let encode = |text: &String| {
            let encoding =
                tokenizer.encode_fast(text.as_str(), false).map_err(|error| anyhow!(error))?;
            let mut tokens = vec![begin];
            tokens.extend(encoding.get_ids());
            tokens.push(end);
            Ok(tokens)
        };
        let documents = documents.iter().map(encode).collect::<anyhow::Result<Vec<_>>>()?;
        let next = documents.len();
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Ok(Self { documents, next, buffer: Vec::new(), len, rng })
    }

    /// The next `n` windows. The last token of a window is the first token of the next one.
    pub fn next_batch(&mut self, n: usize) -> Vec<Vec<u32>> {
        (0..n)
            .map(|_| {
                while self.buffer.len() < self.len {
                    if self.next == self.documents.len() {
                        self.documents.shuffle(&mut self.rng);
                        self.next = 0;
                    }
                    self.buffer.extend(&self.documents[self.next]);
                    self.next += 1;
                }
                let window = self.buffer[..self.len].to_vec();
                self.buffer.drain(..self.len - 1);
                window
            })
            .collect()
    }
}
