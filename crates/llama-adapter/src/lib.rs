//! LLaMA-Adapter on [Burn](burn): fine-tune a frozen Llama with zero-init gated prompts, save the
//! adapter in the format of Hugging Face PEFT, load it and generate with it.
//!
//! ```text
//! ModelSource ─► Llama (frozen) ──────┐
//! rows ─► Instruction ─► Example ─► Trainer ─► AdapterWeights ─► folder (PEFT) ─► generate
//! ```
//!
//! The root has the types that most programs need. Everything else is in the modules, one per
//! crate: [`model`], [`adapter`], [`train`], [`text`], [`vision`], [`checkpoint`], [`device`],
//! [`device_check`], [`memory_plan`] and [`serve`]. [`burn`] is the version that all of them use.
//!
//! A backend is one feature: `flex` (CPUs, fused kernels), `ndarray`, `wgpu`, `vulkan`, `metal`,
//! `webgpu`, `cuda`, `rocm` or `cpu`. [`Device::default`] is the best of the enabled ones, and
//! [`device::parse`] takes a name such as `wgpu:0`. `built-in` (default) has a tiny model to try
//! things with, `serve` (default) has the engine of the server, `hub` loads models by their Hugging
//! Face id.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use llama_adapter::{
//!     AdaptedLayers, AdapterConfig, AdaptionPromptConfig, Example, GenerationConfig, Instruction,
//!     Precision, TrainLength, Trainer, built_in, device, generate,
//! };
//!
//! // The base model is on a plain device: nothing there can have a gradient.
//! let device = device::parse(device::default_name()?)?;
//! let source = built_in::model()?;
//! let llama = source.load(Precision::F32, &device)?;
//! let tokenizer = source.tokenizer()?;
//!
//! let row = Instruction::new("Say where you work.", "", "At the old mill in Oakham.");
//! let (examples, _) = Example::encode_all(std::slice::from_ref(&row), &tokenizer, 256)?;
//!
//! // The adapter is on the same device with autodiff: its parameters are the trainable ones.
//! let layers = AdaptedLayers::Last(5);
//! let config: AdapterConfig = AdaptionPromptConfig { layers, ..Default::default() }.into();
//! let adapter = config.init(&llama, 0, &device.clone().autodiff())?;
//! let mut trainer = Trainer::builder(&llama, adapter, examples)
//!     .batch_size(1)
//!     .length(TrainLength::Steps(40))
//!     .learning_rate(0.05)
//!     .build()?;
//! while !trainer.is_done() {
//!     trainer.step()?;
//! }
//!
//! let trained = trainer.trainable();
//! let adapter = trained.adapter().unwrap().prepare(&llama);
//! let config = GenerationConfig { max_new_tokens: 12, ..GenerationConfig::new(&tokenizer) };
//! let prompt = tokenizer.encode(&row.prompt())?;
//! let responses = generate(&llama, &adapter, &[prompt], &config)?;
//! println!("{}", tokenizer.decode(&responses[0].tokens)?);
//! # let losses = trainer.reports()?;
//! # assert!(losses[losses.len() - 1].loss < losses[0].loss / 2.0);
//! # Ok(())
//! # }
//! ```

/// A tiny model, a tiny image encoder and data sets inside the program.
#[cfg(feature = "built-in")]
pub use built_in;
pub use burn;
/// Tensors in files: safetensors, GGUF, PyTorch archives.
pub use checkpoint;
/// The processes that train together: one, several over MPI, or threads.
pub use communicator;
/// Devices by name, and the backends of this build.
pub use device;
/// Whether a device computes correctly.
pub use device_check;
/// Scores of answers and of choices, their intervals, task files of lm-evaluation-harness.
pub use eval;
/// Memory that a run needs, computed from the model's config.
pub use memory_plan;
/// An engine that serves many requests with many adapters over one model.
#[cfg(feature = "serve")]
pub use serve;
/// Tokenizers, chat templates, detokenizing streams.
pub use text;
/// Data, training, evaluation.
pub use train;
/// Frozen image encoders.
pub use vision;

/// Adapters: parts, mixes, batches of several adapters, file formats.
pub use adaption_prompt as adapter;
/// The frozen model: config, weights, forward pass, generation.
pub use llama as model;

pub use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterMix, AdapterSet, AdapterWeights, AdaptionPromptConfig,
    LoraConfig, PreparedAdapter, RowAdapters, V2Config,
};
pub use burn::tensor::Device;
pub use llama::{
    Adapter, GenerationConfig, Generator, KvCache, Llama, LlamaConfig, ModelSource, NoAdapter,
    Precision, SamplingConfig, TextGenerator, generate,
};
pub use text::{ChatTemplate, Message, Tokenizer};
pub use train::{
    Example, Instruction, TrainConfig, TrainLength, TrainableWeights, Trainer, evaluate_loss,
};
pub use vision::FeatureExtractor;
