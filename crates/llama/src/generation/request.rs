//! Prompts and generation settings.

use serde::{Deserialize, Serialize};
use text::Tokenizer;

use crate::sampling::SamplingConfig;

/// Generation settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationConfig {
    /// Maximum number of new tokens, limited by what the prompt leaves of the model's context.
    pub max_new_tokens: usize,
    /// Sampling settings; greedy by default.
    pub sampling: SamplingConfig,
    /// Tokens that end a completion. They are not part of it.
    pub stop_tokens: Vec<u32>,
    /// First token of an empty prompt; without it an empty prompt is an error.
    pub bos: Option<u32>,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self {
            max_new_tokens: 256,
            sampling: SamplingConfig::default(),
            stop_tokens: Vec::new(),
            bos: None,
        }
    }
}

impl GenerationConfig {
    /// The defaults, with the tokenizer's BOS and EOS tokens.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { stop_tokens: tokenizer.eos.clone(), bos: tokenizer.bos, ..Self::default() }
    }
}

/// One prompt with its own settings.
#[derive(Debug, Clone)]
pub struct Request {
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// Generation settings.
    pub config: GenerationConfig,
}
