//! Plans the memory of training and generation from a model's config: nothing is loaded or run.
//!
//! ```text
//! Workload: config, method, batch, device ─► MemoryPlan: weights, adapter, gradients, optimizer state,
//!                                            activations, cache, working set
//!                                        ─► memory_savings: changes that make it fit
//! ```
//!
//! The plan is for the point in a training step, or in the generation of an answer, at which most
//! memory is in use. `layer_activations.rs` lists the activations that a layer keeps, `peak.rs` the
//! points that may be the peak, `workspace.rs` the buffers that stay allocated between them.
//!
//! ```
//! use llama::{LlamaConfig, Precision};
//! use memory_plan::{DeviceTraits, MemoryPlan, Workload, WorkloadKind};
//! use train::FineTuningMethod;
//!
//! let config = LlamaConfig {
//!     n_layers: 32, n_heads: 32, n_kv_heads: 32, head_dim: 128, d_model: 4096, d_ff: 11008,
//!     vocab_size: 32000, ..LlamaConfig::default()
//! };
//! let workload = Workload {
//!     config,
//!     precision: Precision::Bits4,
//!     method: FineTuningMethod::default(),
//!     kind: WorkloadKind::Train { labels: 128, activation_checkpointing: true },
//!     batch_size: 1,
//!     seq_len: 256,
//!     device: DeviceTraits::fused(),
//! };
//! let plan = MemoryPlan::new(&workload)?;
//! assert!(plan.weights < 5 << 30 && plan.total() > plan.weights);
//! # Ok::<(), train::Error>(())
//! ```

mod layer_activations;
mod memory_plan;
mod peak;
mod prefix_cache;
mod savings;
mod trainable_layers;
mod weight_bytes;
mod workload;
mod workspace;

pub use memory_plan::MemoryPlan;
pub use prefix_cache::PrefixCachePlan;
pub use savings::{MemorySaving, SettingChange, memory_savings};
pub use workload::{DeviceTraits, Workload, WorkloadKind};
