//! The frozen-prefix cache: below the first adapted layer everything is the same in every epoch, so it is
//! computed once.
//!
//! ```text
//! first use     tokens ─► layers below the first adapted one ─┬─► adapted layers ─► loss
//!                                                             ▼
//! later epochs                              cache: memory or a file ─► adapted layers ─► loss
//! ```
//!
//! The hidden states live in host memory, or in a file, and not on the device: a batch of them is a few
//! MB, which a GPU gets in a fraction of the time that the layers would take, while the cache of all
//! examples competes with nothing there.
//!
//! **Which examples.** The first ones in the order of the data, as many as fit ([`CachedExamples`]). The
//! others take the pass through the lower layers in every epoch; both kinds may be in one batch.
//!
//! **Several ranks.** Each keeps a share, every so many-th example. Rows go to the rank that has them where the
//! balance allows it; the others are computed.
//!
//! **Exactness.** On devices with fused kernels a row of a pass depends on its own sequence alone, bit for
//! bit. A cache in f32 therefore changes no bit of the trained adapter, whatever the batches are. On other
//! devices a row depends on the shape of its pass in its last bits. The states are therefore computed in
//! groups that depend on the data alone: the result differs from training without a cache by rounding, and
//! is the same bits whenever the cache is filled, also after an interruption. The same holds for a cache in
//! bf16 or f16: the states of a cached example are always rounded, when they are computed too.

mod cached_examples;
mod config;
mod content_key;
mod decision;
mod disk_store;
mod frozen_prefix_cache;
mod pass_input;
mod precision;
mod store;

pub use config::{PrefixCacheConfig, PrefixCacheMode};
pub(crate) use decision::PrefixFacts;
pub use decision::{CacheOffReason, CachedPrefix, PrefixCacheDecision};
pub(crate) use frozen_prefix_cache::FrozenPrefixCache;
pub(crate) use pass_input::PassInput;
pub use precision::CachePrecision;
