//! A model for tests that computes nothing: its "keys and values" are the token ids and adapters themselves.
//!
//! Its logits are a hash of what it reads back through the block tables. A wrong table, a block that was given
//! away too early or a token that was left out changes the answer, as with a real model, but in microseconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use llama::sampling::{Choice, Logprobs};
use text::Tokenizer;

use super::BLOCK_TOKENS;
use super::adapters::{AdapterLoader, AdapterLocation, AdapterSource, Loaded};
use super::request::{ImageInput, Token};
use super::step_model::{CacheSpec, PassRow, RowOutput, StepModel};
use crate::error::LoadError;

/// A fake model, for [`Engine::start_fake`](super::Engine::start_fake).
#[doc(hidden)]
#[derive(Clone)]
pub struct FakeModel {
    /// Its tokenizer: it gives all texts.
    pub tokenizer: Tokenizer,
    /// Its name.
    pub name: String,
    /// Tokens of its context.
    pub context: usize,
    /// What the base model answers.
    pub answer: FakeAnswer,
    /// Adapters that are there from the start. Others can be loaded from any path that exists.
    pub adapters: Vec<FakeAdapter>,
    /// Time of each pass.
    pub step_time: Duration,
    /// As devices whose products depend on the shape of a pass: tokens of a chunk.
    pub fixed_chunk: Option<usize>,
    /// A pass that computes this token fails.
    pub failure: Option<(u32, FakeFailure)>,
}

/// A fake adapter.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct FakeAdapter {
    /// Its name.
    pub name: String,
    /// Whether it has an image condition.
    pub sees_images: bool,
    /// What it answers; `None` for what the base model answers.
    pub answer: Option<FakeAnswer>,
    /// Its bytes in memory.
    pub bytes: usize,
}

/// What a fake model answers.
#[doc(hidden)]
#[derive(Clone)]
pub enum FakeAnswer {
    /// Tokens by a hash of everything before: no readable text.
    Hash,
    /// A text that is made of the prompt's text, without special tokens. It ends with an end-of-sequence
    /// token.
    Reply(Arc<dyn Fn(&str) -> String + Send + Sync>),
}

/// How a pass fails.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FakeFailure {
    /// By an error of the device.
    Device,
    /// By a panic.
    Panic,
    /// By logits of the row that are not numbers.
    NotANumber,
}

impl FakeAnswer {
    /// Always the same text.
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Reply(Arc::new(move |_prompt| text.clone()))
    }

    /// The prompt's text.
    pub fn echo() -> Self {
        Self::Reply(Arc::new(str::to_owned))
    }
}

impl std::fmt::Debug for FakeAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hash => "Hash",
            Self::Reply(_) => "Reply",
        })
    }
}

impl FakeModel {
    /// A base model without adapters that answers at once.
    pub fn new(tokenizer: Tokenizer, answer: FakeAnswer) -> Self {
        Self {
            tokenizer,
            name: "fake".into(),
            context: 4096,
            answer,
            adapters: Vec::new(),
            step_time: Duration::ZERO,
            fixed_chunk: None,
            failure: None,
        }
    }

    /// Bytes of a block: a number for each token.
    pub(crate) const BLOCK_BYTES: usize = BLOCK_TOKENS * size_of::<Slot>();
}

/// A token, and what else its "keys and values" depend on.
type Slot = (u32, u64);

/// A fake model with its cache.
pub(crate) struct FakeStepModel {
    model: FakeModel,
    blocks: Vec<Option<[Slot; BLOCK_TOKENS]>>,
    /// Answers that are readable texts, by the prompt and the adapter.
    replies: HashMap<(Vec<u32>, u64), Vec<u32>>,
}

/// A prepared fake adapter.
#[derive(Debug, Clone)]
pub(crate) struct FakePrepared {
    salt: u64,
    answer: Option<FakeAnswer>,
}

impl FakeStepModel {
    pub(crate) fn new(model: FakeModel, blocks: usize) -> Self {
        Self { model, blocks: vec![None; blocks], replies: HashMap::new() }
    }

    /// Writes a row's new tokens, and reads all of its text back.
    fn write_and_read(&mut self, row: &PassRow<'_, FakePrepared>) -> Vec<Slot> {
        let salt = row.adapter.map_or(0, |own| own.salt);
        // On such devices a result depends on the shape of its pass: a pass that another request would not
        // have had changes the answer.
        let shape = match self.model.fixed_chunk {
            Some(_) if row.is_prompt() => (row.past * 31 + row.tokens.len()) as u64,
            _ => 0,
        };
        let salt = salt ^ shape << 20;
        for (index, &token) in row.tokens.iter().enumerate() {
            let slot = row.past + index;
            let block = row.blocks[slot / BLOCK_TOKENS];
            assert_ne!(block, 0, "block 0 belongs to no row");
            // A new block holds what nobody wrote.
            let block = self.blocks[block as usize].get_or_insert([(u32::MAX, 1); BLOCK_TOKENS]);
            block[slot % BLOCK_TOKENS] = (token, salt);
        }
        let read = |slot: usize| {
            let block = self.blocks[row.blocks[slot / BLOCK_TOKENS] as usize].as_ref();
            block.map_or((u32::MAX, 2), |block| block[slot % BLOCK_TOKENS])
        };
        (0..row.past + row.tokens.len()).map(read).collect()
    }

    /// Logits of the token after a text.
    fn logits(&mut self, text: &[Slot], row: &PassRow<'_, FakePrepared>) -> Vec<f32> {
        let vocab = self.model.tokenizer.vocab_size();
        let mut state = 0xcbf2_9ce4_8422_2325_u64;
        for (token, salt) in text {
            for value in [u64::from(*token), *salt] {
                state = (state ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
            }
        }
        let mut logits = Vec::with_capacity(vocab);
        for _ in 0..vocab {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            logits.push((state >> 40) as f32 / (1_u64 << 24) as f32 * 4.0);
        }
        let answer = row.adapter.and_then(|own| own.answer.clone());
        if let FakeAnswer::Reply(reply) = answer.unwrap_or_else(|| self.model.answer.clone()) {
            let (prompt, own) = text.split_at(row.prompt_len.min(text.len()));
            let prompt = prompt.iter().map(|slot| slot.0).collect::<Vec<_>>();
            let salt = row.adapter.map_or(0, |own| own.salt);
            let tokenizer = &self.model.tokenizer;
            let tokens = self.replies.entry((prompt, salt)).or_insert_with_key(|(prompt, _)| {
                let text = reply(&tokenizer.decode(prompt).unwrap_or_default());
                tokenizer.encode_raw(&text).unwrap_or_default()
            });
            let next = tokens.get(own.len()).copied();
            let next = next.or_else(|| tokenizer.eos.first().copied()).unwrap_or(0);
            // Certain at every temperature that anybody uses.
            logits[next as usize] = 1000.0;
        }
        logits
    }

    fn run(&mut self, row: &mut PassRow<'_, FakePrepared>) -> llama::Result<RowOutput> {
        let text = self.write_and_read(row);
        let fails = |(token, _): &(u32, FakeFailure)| row.tokens.contains(token);
        let failure = self.model.failure.filter(fails).map(|(_, failure)| failure);
        let targets = (0..row.targets.len()).map(|index| {
            let logits = self.logits(&text[..=row.past + index], row);
            let token = row.targets[index];
            let logprobs = Some(Logprobs::new(&logits, token, row.top.unwrap_or(0)));
            Token::from(Choice { token, logprobs })
        });
        let targets = targets.collect();
        let mut next = None;
        if row.sampler.is_some() {
            let mut logits = self.logits(&text, row);
            if failure == Some(FakeFailure::NotANumber) {
                logits[0] = f32::NAN;
            }
            let draw = row.sampler.as_deref_mut().map(|own| own.choose(&logits, row.top));
            next = draw.transpose()?.map(Token::from);
        }
        match failure {
            Some(FakeFailure::Device) => {
                Err(llama::Error::Device { reason: "it is a fake".into() })
            }
            Some(FakeFailure::Panic) => panic!("the fake model panics"),
            _ => Ok(RowOutput { next, targets }),
        }
    }
}

impl StepModel for FakeStepModel {
    type Adapter = FakePrepared;

    fn spec(&self) -> CacheSpec {
        CacheSpec { blocks: self.blocks.len(), fixed_chunk: self.model.fixed_chunk }
    }

    fn pass(
        &mut self,
        rows: &mut [PassRow<'_, FakePrepared>],
    ) -> llama::Result<Vec<llama::Result<RowOutput>>> {
        if !self.model.step_time.is_zero() {
            std::thread::sleep(self.model.step_time);
        }
        let outputs = rows.iter_mut().map(|row| match self.run(row) {
            Err(error @ llama::Error::Device { .. }) => Err(error),
            other => Ok(other),
        });
        outputs.collect()
    }

    fn reset(&mut self) {
        self.blocks.fill(None);
    }
}

/// Loads the adapters of a fake model.
pub(crate) struct FakeLoader {
    pub(crate) adapters: Vec<FakeAdapter>,
}

impl AdapterLoader for FakeLoader {
    type Weights = FakeAdapter;
    type Prepared = FakePrepared;

    fn load(&mut self, source: &AdapterSource) -> Result<Loaded<FakeAdapter>, LoadError> {
        let known = self.adapters.iter().find(|own| own.name == source.name).cloned();
        let there = match &source.location {
            AdapterLocation::Path(path) => path.exists(),
            AdapterLocation::Data(_) => true,
        };
        let (AdapterLocation::Path(path), None, false) = (&source.location, &known, there) else {
            let name = source.name.clone();
            let other = FakeAdapter { name, sees_images: false, answer: None, bytes: 1000 };
            let weights = known.unwrap_or(other);
            let (bytes, sees_images) = (weights.bytes, weights.sees_images);
            return Ok(Loaded { weights, bytes, sees_images });
        };
        let reason = "there is no such folder".into();
        Err(LoadError::Folder { path: path.clone(), reason })
    }

    fn prepare(
        &mut self,
        parts: &[(FakeAdapter, f64)],
        image: Option<&ImageInput>,
    ) -> Result<(FakePrepared, usize), LoadError> {
        let mut salt = 17_u64;
        let mut add = |byte: u8| salt = (salt ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        for (adapter, weight) in parts {
            adapter.name.bytes().chain(weight.to_bits().to_le_bytes()).for_each(&mut add);
        }
        image.map(ImageInput::digest).iter().flatten().for_each(|byte| add(*byte));
        let answer = parts.iter().find_map(|(own, _)| own.answer.clone());
        Ok((FakePrepared { salt, answer }, 100))
    }
}
