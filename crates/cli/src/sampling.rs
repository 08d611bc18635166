//! Options for sampling and stopping ─► [`GenerationConfig`]

use llama::{GenerationConfig, SamplingConfig};
use text::Tokenizer;

use crate::failure::Result;

/// Sampling and stopping.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Maximum number of new tokens; a token is about 3/4 of an English word.
    #[arg(long, value_name = "N", default_value_t = GenerationConfig::default().max_new_tokens)]
    pub max_new_tokens: usize,
    /// Sampling temperature: 0 is greedy decoding, 1 samples from the model's distribution, higher
    /// values are more random.
    #[arg(long, value_name = "T", allow_negative_numbers = true, default_value_t = SamplingConfig::default().temperature)]
    pub temperature: f32,
    /// Nucleus sampling: sample from the smallest set of most likely tokens with total probability
    /// P, 0 < P <= 1.
    #[arg(long, value_name = "P", default_value_t = SamplingConfig::default().top_p)]
    pub top_p: f32,
    /// Sample from the K most likely tokens; 0 disables top-k.
    #[arg(long, value_name = "K", default_value_t = SamplingConfig::default().top_k)]
    pub top_k: usize,
    /// Penalty on tokens that occurred before; 1 is off, 1.1 is mild.
    #[arg(long, value_name = "R", default_value_t = SamplingConfig::default().repetition_penalty)]
    pub repetition_penalty: f32,
    /// Random seed: the same seed gives the same output.
    #[arg(long, value_name = "S", default_value_t = SamplingConfig::default().seed)]
    pub seed: u64,
    /// Stop string: generation stops before it; repeatable.
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    pub stop: Vec<String>,
    /// Ignore end-of-sequence tokens and generate up to --max-new-tokens.
    #[arg(long)]
    pub ignore_eos: bool,
}

impl SamplingArgs {
    /// The sampling config; fails on values out of range, before anything is loaded.
    pub fn sampling(&self) -> Result<SamplingConfig> {
        let config = SamplingConfig {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            ..SamplingConfig::default()
        };
        config.validate()?;
        Ok(config)
    }

    /// The generation config. The model's end-of-sequence tokens stop the generation unless
    /// `--ignore-eos` is given.
    pub fn config(&self, tokenizer: &Tokenizer) -> Result<GenerationConfig> {
        let max_new_tokens = self.max_new_tokens;
        let sampling = self.sampling()?;
        let mut config =
            GenerationConfig { max_new_tokens, sampling, ..GenerationConfig::new(tokenizer) };
        if self.ignore_eos {
            config.stop_tokens.clear();
        }
        Ok(config)
    }
}
