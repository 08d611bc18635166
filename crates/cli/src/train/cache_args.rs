//! Options of the frozen-prefix cache.

use train::{CachePrecision, PrefixCacheConfig, PrefixCacheMode};

use crate::choice::choice;
use crate::memory_size::{available_host_memory, parse_size};

/// Options of the frozen-prefix cache.
#[derive(Debug, clap::Args)]
pub(super) struct CacheArgs {
    /// Frozen-prefix cache: compute the layers below the first adapted one once for all epochs, and keep
    /// their results in memory, on disk (a file in --output until the run ends), or not at all [default:
    /// memory].
    #[arg(long, value_enum, value_name = "WHERE", help_heading = "Training")]
    cache: Option<CachePlace>,
    /// Maximum size of the cache, such as 8GiB; rows that do not fit are not cached [default: a quarter of
    /// the available memory; on disk: no maximum].
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Training")]
    cache_bytes: Option<u64>,
    /// Precision of the cache: f32 changes no result, bf16 and f16 take half the space [default: f32].
    #[arg(long, value_enum, value_name = "PRECISION", help_heading = "Training")]
    cache_precision: Option<PrecisionName>,
}

choice! {
    /// The values of `--cache`.
    enum CachePlace => PrefixCacheMode {
        Memory => Self::Memory,
        Disk => Self::Disk,
        Off => Self::Off,
    }
}

choice! {
    /// The values of `--cache-precision`, here and in `plan`.
    pub enum PrecisionName => CachePrecision {
        F32 => Self::F32,
        Bf16 => Self::BF16,
        F16 => Self::F16,
    }
}

impl CacheArgs {
    /// The cache's settings.
    pub fn config(&self) -> PrefixCacheConfig {
        /// Where the system does not report its available memory.
        const UNKNOWN_MEMORY: u64 = 4 << 30;
        PrefixCacheConfig {
            mode: self.cache.map_or(PrefixCacheMode::Auto, PrefixCacheMode::from),
            max_bytes: self.cache_bytes,
            precision: self.cache_precision.map_or(CachePrecision::F32, CachePrecision::from),
            spare_bytes: Some(available_host_memory().unwrap_or(UNKNOWN_MEMORY) / 4),
        }
    }
}
