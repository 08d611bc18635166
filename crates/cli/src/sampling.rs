//! Options for how a text goes on.

use llama::{GenerationConfig, SamplingConfig};
use text::Tokenizer;

use crate::failure::Result;

/// How an answer is chosen, and when it ends.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Answer")]
pub struct SamplingArgs {
    /// Most tokens to write; a token is about three quarters of an English word.
    #[arg(long, value_name = "N", default_value_t = GenerationConfig::default().max_new_tokens)]
    pub max_new_tokens: usize,
    /// 0 always takes the likeliest token; 1 draws as the model says; more is wilder.
    #[arg(long, value_name = "T", allow_negative_numbers = true, default_value_t = SamplingConfig::default().temperature)]
    pub temperature: f32,
    /// Draw among the likeliest tokens that together have this probability, 0 < P <= 1.
    #[arg(long, value_name = "P", default_value_t = SamplingConfig::default().top_p)]
    pub top_p: f32,
    /// Draw among this many of the likeliest tokens; 0 for all.
    #[arg(long, value_name = "K", default_value_t = SamplingConfig::default().top_k)]
    pub top_k: usize,
    /// Weaken tokens that were said already; 1 is off, 1.1 is a little.
    #[arg(long, value_name = "R", default_value_t = SamplingConfig::default().repetition_penalty)]
    pub repetition_penalty: f32,
    /// Start of the random numbers: the same seed gives the same answer.
    #[arg(long, value_name = "S", default_value_t = SamplingConfig::default().seed)]
    pub seed: u64,
    /// End the answer before this text; may be given several times.
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    pub stop: Vec<String>,
    /// Go on behind the model's own tokens for the end of a text, up to --max-new-tokens.
    #[arg(long)]
    pub ignore_eos: bool,
}

impl SamplingArgs {
    /// Checks the ranges, before anything is loaded.
    pub fn sampling(&self) -> Result<SamplingConfig> {
        let config = SamplingConfig {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
        };
        config.validate()?;
        Ok(config)
    }

    /// With the model's own tokens for the end of a text, unless they do not count.
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
