//! Whether a training uses the frozen-prefix cache, for which examples, and why not for others.

use std::fmt;

use super::cached_examples::CachedExamples;
use super::config::{PrefixCacheConfig, PrefixCacheMode};
use super::precision::CachePrecision;

/// Whether a training uses the frozen-prefix cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefixCacheDecision {
    /// It does.
    On(CachedPrefix),
    /// It does not: every epoch computes all layers.
    Off(CacheOffReason),
}

/// What is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachedPrefix {
    /// Layers below the first adapted one.
    pub layers: usize,
    /// Cached examples, the first ones of the data; with several ranks of the share of this one.
    pub examples: usize,
    /// All examples, or all of the share.
    pub all_examples: usize,
    /// Size of the cache when it is full, in bytes.
    pub bytes: u64,
    /// Precision of the hidden states.
    pub precision: CachePrecision,
    /// Whether the cache is a file.
    pub on_disk: bool,
}

/// Why a training uses no cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheOffReason {
    /// The settings say so, or no limit is known.
    Disabled,
    /// The first layer is adapted, or all weights are trained.
    NothingFrozen,
    /// The embeddings get noise.
    NoisyEmbeddings,
    /// No example is used twice.
    OneEpoch,
    /// Not even the first example fits.
    TooSmall,
}

impl fmt::Display for CacheOffReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "it is disabled",
            Self::NothingFrozen => "no layer below the first adapted one",
            Self::NoisyEmbeddings => "noise on the embeddings changes all layers",
            Self::OneEpoch => "no row is used twice",
            Self::TooSmall => "no row fits",
        })
    }
}

/// The facts that decide about the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PrefixFacts {
    /// The first adapted layer.
    pub first_layer: usize,
    /// Width of a hidden state.
    pub d_model: usize,
    /// Whether an example is used more than once.
    pub repeats_examples: bool,
    /// Whether the embeddings get noise.
    pub noisy_embeddings: bool,
}

impl PrefixFacts {
    /// The examples to cache. `lens` are the numbers of rows of all examples.
    pub fn decide(
        &self,
        config: &PrefixCacheConfig,
        lens: impl IntoIterator<Item = usize>,
    ) -> Result<CachedExamples, CacheOffReason> {
        let is_disabled = match config.mode {
            PrefixCacheMode::Off => true,
            PrefixCacheMode::Auto => config.limit() == 0,
            PrefixCacheMode::Memory | PrefixCacheMode::Disk => false,
        };
        for (applies, reason) in [
            (is_disabled, CacheOffReason::Disabled),
            (self.first_layer == 0, CacheOffReason::NothingFrozen),
            (self.noisy_embeddings, CacheOffReason::NoisyEmbeddings),
            (!self.repeats_examples, CacheOffReason::OneEpoch),
        ] {
            if applies {
                return Err(reason);
            }
        }
        let bytes = |len| config.precision.example_bytes(len, self.d_model);
        let cached = CachedExamples::that_fit(lens, bytes, config.limit());
        if cached.len() == 0 { Err(CacheOffReason::TooSmall) } else { Ok(cached) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: PrefixFacts =
        PrefixFacts { first_layer: 2, d_model: 8, repeats_examples: true, noisy_embeddings: false };

    fn decide(
        facts: PrefixFacts,
        mode: PrefixCacheMode,
        limit: u64,
    ) -> Result<usize, CacheOffReason> {
        let config =
            PrefixCacheConfig { mode, max_bytes: Some(limit), ..PrefixCacheConfig::default() };
        facts.decide(&config, [3, 4, 5]).map(|cached| cached.len())
    }

    #[test]
    fn the_cache_is_off_where_it_saves_nothing() {
        use PrefixCacheMode::{Auto, Disk, Memory, Off};
        let size = |len| CachePrecision::F32.example_bytes(len, 8);
        assert_eq!(decide(FACTS, Auto, 1 << 20), Ok(3));
        assert_eq!(decide(FACTS, Disk, size(3) + size(4)), Ok(2));
        assert_eq!(decide(FACTS, Memory, size(3) - 1), Err(CacheOffReason::TooSmall));
        assert_eq!(decide(FACTS, Off, 1 << 20), Err(CacheOffReason::Disabled));
        assert_eq!(decide(FACTS, Auto, 0), Err(CacheOffReason::Disabled));
        for (facts, reason) in [
            (PrefixFacts { first_layer: 0, ..FACTS }, CacheOffReason::NothingFrozen),
            (PrefixFacts { noisy_embeddings: true, ..FACTS }, CacheOffReason::NoisyEmbeddings),
            (PrefixFacts { repeats_examples: false, ..FACTS }, CacheOffReason::OneEpoch),
        ] {
            assert_eq!(decide(facts, Memory, 1 << 20), Err(reason));
        }
    }
}
