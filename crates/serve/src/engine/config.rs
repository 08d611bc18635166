//! Settings of an engine.

use std::time::Duration;

use super::BLOCK_TOKENS;
use crate::error::StartError;

/// Settings of an [`Engine`](super::Engine).
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// Requests in the running batch; choices of one request count separately. At least 1.
    pub max_rows: usize,
    /// Size of the key-value cache.
    pub cache: CacheSize,
    /// Tokens of prompts that a step reads beside the running rows.
    pub prefill_chunk: PrefillChunk,
    /// Whether requests share the cache of a common beginning.
    pub prefix_cache: bool,
    /// Requests that may wait beyond `max_rows` before more are refused.
    pub max_queue: usize,
    /// Memory for prepared adapters in bytes. The least recently used ones are dropped. Those in use
    /// stay, even beyond this.
    pub adapter_bytes: usize,
    /// Answers of one request, at least 1.
    pub max_choices: usize,
    /// Time from a request's arrival to its end; `None` is unlimited.
    pub request_time: Option<Duration>,
    /// Threads that compute; by default one for each core.
    pub threads: Option<usize>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_rows: 32,
            cache: CacheSize::Bytes(512 << 20),
            prefill_chunk: PrefillChunk::default(),
            prefix_cache: true,
            max_queue: 256,
            adapter_bytes: 1 << 30,
            max_choices: 16,
            request_time: None,
            threads: None,
        }
    }
}

/// Size of the key-value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSize {
    /// A bound in bytes.
    Bytes(usize),
    /// A number of blocks of [`BLOCK_TOKENS`] tokens.
    Blocks(usize),
}

/// Tokens of prompts in a step. They change how long the others wait for their next token, and no answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PrefillChunk {
    /// As many that a step takes at most `share` times as long as one without prompts, above 1.
    Auto {
        /// The factor.
        share: f64,
    },
    /// A fixed number, at least 1.
    Tokens(usize),
}

impl Default for PrefillChunk {
    fn default() -> Self {
        Self::Auto { share: 1.7 }
    }
}

impl EngineConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`StartError::Config`] for the first setting that is out of range.
    pub fn validate(&self) -> Result<(), StartError> {
        let check = |setting, found: String, in_range: bool, expected| {
            if in_range { Ok(()) } else { Err(StartError::Config { setting, found, expected }) }
        };
        let rows = self.max_rows;
        check("max_rows", rows.to_string(), (1..=4096).contains(&rows), "1 to 4096")?;
        let choices = self.max_choices;
        check("max_choices", choices.to_string(), (1..=4096).contains(&choices), "1 to 4096")?;
        let queue = self.max_queue;
        check("max_queue", queue.to_string(), queue <= 1 << 20, "at most 1048576")?;
        match self.prefill_chunk {
            PrefillChunk::Auto { share } => {
                let in_range = share.is_finite() && share > 1.0;
                check("prefill share", share.to_string(), in_range, "above 1")?;
            }
            PrefillChunk::Tokens(tokens) => {
                check("prefill chunk", tokens.to_string(), tokens > 0, "at least 1")?;
            }
        }
        if let Some(threads) = self.threads {
            check("threads", threads.to_string(), (1..=4096).contains(&threads), "1 to 4096")?;
        }
        Ok(())
    }

    /// Blocks of the cache, for a model whose blocks have `block_bytes`.
    ///
    /// # Errors
    /// [`StartError::CacheTooSmall`] for less than two blocks.
    pub(crate) fn cache_blocks(&self, block_bytes: usize) -> Result<usize, StartError> {
        let blocks = match self.cache {
            CacheSize::Bytes(bytes) => bytes / block_bytes.max(1),
            CacheSize::Blocks(blocks) => blocks,
        };
        // Block ids are 32 bits, and the tokens of all blocks are counted.
        let blocks = blocks.min(u32::MAX as usize / BLOCK_TOKENS);
        if blocks < 2 {
            let found = blocks.saturating_mul(block_bytes);
            return Err(StartError::CacheTooSmall { found, least: 2 * block_bytes });
        }
        Ok(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let message = |config: EngineConfig| config.validate().unwrap_err().to_string();
        let base = EngineConfig::default;
        assert!(base().validate().is_ok());
        assert_eq!(
            message(EngineConfig { max_rows: 0, ..base() }),
            "max_rows is 0, expected 1 to 4096"
        );
        let share = PrefillChunk::Auto { share: 1.0 };
        assert_eq!(
            message(EngineConfig { prefill_chunk: share, ..base() }),
            "prefill share is 1, expected above 1"
        );
        assert_eq!(
            message(EngineConfig { prefill_chunk: PrefillChunk::Tokens(0), ..base() }),
            "prefill chunk is 0, expected at least 1"
        );
    }

    #[test]
    fn a_cache_in_bytes_has_whole_blocks() {
        let blocks = |bytes| {
            EngineConfig { cache: CacheSize::Bytes(bytes), ..EngineConfig::default() }
                .cache_blocks(1000)
        };
        assert_eq!(blocks(2999).unwrap(), 2);
        assert_eq!(
            blocks(1999).unwrap_err().to_string(),
            "a cache of 1000 bytes is too small, expected at least 2000"
        );
    }
}
