//! Settings of the frozen-prefix cache.

use serde::{Deserialize, Serialize};

use super::precision::CachePrecision;

/// Where the hidden states below the first adapted layer are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrefixCacheMode {
    /// In memory, if a limit is known.
    #[default]
    Auto,
    /// Nowhere: every epoch computes them.
    Off,
    /// In memory.
    Memory,
    /// In a file.
    Disk,
}

/// Settings of the frozen-prefix cache. Whatever they are, the cache is off where it could save nothing,
/// see [`CacheOffReason`](super::CacheOffReason).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixCacheConfig {
    /// Where the hidden states are kept.
    pub mode: PrefixCacheMode,
    /// Maximum size in bytes; the examples that do not fit are not cached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Precision of the stored hidden states.
    pub precision: CachePrecision,
    /// Maximum size of a cache in memory if `max_bytes` is `None`: what this machine can spare. Not a
    /// setting of a run, and not stored with it.
    #[serde(skip)]
    pub spare_bytes: Option<u64>,
}

impl PrefixCacheConfig {
    /// Whether all settings of the run are the defaults.
    pub(crate) fn is_default(&self) -> bool {
        Self { spare_bytes: None, ..*self } == Self::default()
    }

    /// The size limit in bytes: `max_bytes`, or else the spare memory, or for a file no limit.
    pub(super) fn limit(&self) -> u64 {
        let default = match self.mode {
            PrefixCacheMode::Off => 0,
            PrefixCacheMode::Auto | PrefixCacheMode::Memory => self.spare_bytes.unwrap_or(0),
            PrefixCacheMode::Disk => u64::MAX,
        };
        self.max_bytes.unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_no_limit_and_memory_the_spare_one() {
        let limit = |mode, max_bytes, spare_bytes| {
            PrefixCacheConfig { mode, max_bytes, spare_bytes, ..Default::default() }.limit()
        };
        assert_eq!(limit(PrefixCacheMode::Auto, None, None), 0);
        assert_eq!(limit(PrefixCacheMode::Memory, None, Some(7)), 7);
        assert_eq!(limit(PrefixCacheMode::Auto, Some(9), Some(7)), 9);
        assert_eq!(limit(PrefixCacheMode::Disk, None, Some(7)), u64::MAX);
    }

    #[test]
    fn the_spare_memory_is_not_part_of_the_settings() {
        let config = PrefixCacheConfig { spare_bytes: Some(1), ..Default::default() };
        assert!(config.is_default());
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(text, r#"{"mode":"auto","precision":"f32"}"#);
        assert_eq!(
            serde_json::from_str::<PrefixCacheConfig>("{}").unwrap(),
            PrefixCacheConfig::default()
        );
    }
}
