//! Trains and evaluates adapters for a frozen Llama.
//!
//! ```text
//! Instruction ─► Example ─► Batch ─► label_loss ─► ModuleGradients ─► ParameterOptimizer
//!                 TrainableWeights ────┴──────────── Trainer ─────────────┘
//!                                      TrainingRun: Trainer + evaluation + folder, resumable
//! ```
//!
//! [`Trainer`] performs single steps; [`TrainingRun`] is what `llama-adapter train` does. Steps do not
//! wait for the device; [`Trainer::reports`] does, once for all steps since its last call. The crate
//! prints nothing: a run reports [`Event`]s.
//!
//! [`data`] reads rows of many formats, [`eval`] measures accuracy,
//! [`activation_checkpointing`] trades time for memory.
//!
//! ```
//! use adaption_prompt::{AdaptedLayers, AdaptionPromptConfig};
//! use llama::{ModelSource, Precision};
//! use train::{Example, Instruction, TrainLength, Trainer};
//!
//! # fn main() -> train::Result<()> {
//! # let (folder, device) = (testing::golden_folder().join("../../crates/built-in/assets/tiny-llama"), testing::flex());
//! let source = ModelSource::open(folder)?;
//! let (llama, tokenizer) = (source.load(Precision::F32, &device)?, source.tokenizer()?);
//! let rows = [
//!     Instruction::new("Name a color.", "", "Red."),
//!     Instruction::new("Name a fruit.", "", "A plum."),
//! ];
//! let (examples, _counts) = Example::encode_all(&rows, &tokenizer, 64)?;
//!
//! // The adapter is on the same device with autodiff.
//! let config = AdaptionPromptConfig { layers: AdaptedLayers::Last(3), ..Default::default() };
//! let adapter = config.init(&llama, 0, &device.autodiff())?;
//! let mut trainer = Trainer::builder(&llama, adapter, examples)
//!     .length(TrainLength::Steps(10))
//!     .learning_rate(0.03)
//!     .build()?;
//! while !trainer.is_done() {
//!     trainer.step()?;
//! }
//! let reports = trainer.reports()?;
//! assert!(reports[9].loss < reports[0].loss);
//! # Ok(())
//! # }
//! ```

pub mod activation_checkpointing;
mod checkpoint;
mod config;
pub mod data;
mod deterministic_sum;
mod error;
pub mod eval;
pub mod images;
mod json;
mod loss;
mod moving_average;
mod optim;
mod prefix_cache;
pub mod run;
mod step_exchange;
mod trainable;
mod trainer;
mod trainer_builder;

pub use config::{TrainConfig, TrainLength};
pub use data::{
    Batch, Example, ExampleSampler, ExampleStore, Instruction, ReadOptions, RowStore, read_rows,
};
// The ranks of a training.
pub use communicator::{Alone, Communicator};
// Parameter groups of an adapter.
pub use adaption_prompt::PartKind;
// Errors of this crate implement it.
pub use self::eval::{LabelLoss, evaluate_loss};
pub use diagnostic::{Advice, Diagnostic};
pub use error::{Error, Result};
pub use images::{BatchAdapter, ImageFeatureCache, MultimodalAdapter};
pub use loss::label_loss;
pub use optim::{
    GroupLearningRates, LearningRateDecay, LearningRateSchedule, ModuleGradients, OptimizerConfig,
    ParameterOptimizer,
};
pub use prefix_cache::{
    CacheOffReason, CachePrecision, CachedPrefix, PrefixCacheConfig, PrefixCacheDecision,
    PrefixCacheMode,
};
pub use run::{Event, RunSummary, TrainingRun};
pub use trainable::{FineTuningMethod, TrainableWeights};
pub use trainer::{StepReport, Trainer, WorkDivision};
pub use trainer_builder::TrainerBuilder;
