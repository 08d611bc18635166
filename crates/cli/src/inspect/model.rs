//! The config, the memory and the tensors of a model.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use checkpoint::folder::open_weights;
use checkpoint::{ByteSource, SafetensorsFile, TensorSource, WeightFiles};
use indicatif::{HumanBytes, HumanCount};
use llama::config::{PositionEmbedding, RopeScaling};
use llama::weights::{self, HuggingFaceSource};
use llama::{LlamaConfig, ModelSource};
use serde::Serialize;

use super::lines::{write_chat_template, write_size};
use super::tensors::{FileReport, TensorEntry, TensorTable};
use crate::failure::Result;

/// A Hugging Face folder, a Meta checkpoint folder, or the built-in model.
#[derive(Debug, Serialize)]
pub struct ModelReport {
    #[serde(serialize_with = "crate::output::serialize_path_lossy")]
    path: PathBuf,
    config: LlamaConfig,
    parameters: usize,
    bytes: u64,
    memory: MemoryFootprint,
    chat_template: bool,
    /// Differences between the tensors that the config requires and those of the weights.
    #[serde(rename = "misfits")]
    mismatches: Option<String>,
    tensors: Vec<TensorEntry>,
}

impl ModelReport {
    pub fn built_in() -> Result<Self> {
        let source = built_in::model()?;
        let file =
            SafetensorsFile::new(ByteSource::memory(source.path(), built_in::MODEL_WEIGHTS))?;
        let weights = WeightFiles::new(source.path(), vec![file.into()])?;
        let report = FileReport::new(source.path(), weights.files());
        let named = HuggingFaceSource::new(weights, source.config());
        Ok(Self::new(&source, report, named.shapes()))
    }

    pub fn folder(source: &ModelSource) -> Result<Self> {
        if let Some(weights) = source.meta() {
            return Ok(Self::new(source, FileReport::meta(weights), weights.shapes()));
        }
        let weights = open_weights(source.path())?;
        let report = FileReport::new(source.path(), weights.files());
        let named = HuggingFaceSource::new(weights, source.config());
        Ok(Self::new(source, report, named.shapes()))
    }

    fn new(
        source: &ModelSource,
        report: FileReport,
        shapes: &BTreeMap<String, Vec<usize>>,
    ) -> Self {
        let config = source.config().clone();
        let FileReport { path, bytes, tensors, .. } = report;
        let fit = weights::compare(&config, shapes);
        Self {
            path,
            parameters: config.n_parameters(),
            bytes,
            memory: MemoryFootprint::of(&config),
            // A model folder without a tokenizer can be inspected too.
            chat_template: source.tokenizer().is_ok_and(|t| t.chat_template.is_some()),
            mismatches: (!fit.is_clean()).then(|| fit.to_string()),
            tensors,
            config,
        }
    }
}

impl fmt::Display for ModelReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "model       {}", self.path.display())?;
        write_config(f, &self.config)?;
        write_size(f, self.parameters, self.bytes)?;
        self.memory.fmt(f)?;
        write_chat_template(f, self.chat_template)?;
        TensorTable(&self.tensors).fmt(f)?;
        if let Some(misfits) = &self.mismatches {
            writeln!(f, "\nthe weights do not match the config\n{misfits}")?;
        }
        Ok(())
    }
}

/// Memory of a loaded model in bytes.
#[derive(Debug, Serialize)]
pub struct MemoryFootprint {
    f32: u64,
    /// The same as with f16.
    bf16: u64,
    /// KV cache per token.
    cache_per_token: u64,
}

impl MemoryFootprint {
    pub fn of(config: &LlamaConfig) -> Self {
        let (mut matrices, mut vectors) = (0, 0);
        for tensor in weights::expected_tensors(config) {
            let len = tensor.shape.iter().product::<usize>() as u64;
            // Vectors are f32 in every precision.
            if tensor.shape.len() > 1 { matrices += len } else { vectors += len }
        }
        let cache = 2 * config.n_layers * config.n_kv_heads * config.head_dim * 4;
        Self {
            f32: 4 * (matrices + vectors),
            bf16: 2 * matrices + 4 * vectors,
            cache_per_token: cache as u64,
        }
    }
}

impl fmt::Display for MemoryFootprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { f32, bf16, cache_per_token } = *self;
        writeln!(
            f,
            "memory      {} with --precision f32, {} with bf16 or f16; KV cache {} per token",
            HumanBytes(f32),
            HumanBytes(bf16),
            HumanBytes(cache_per_token)
        )
    }
}

/// The lines of a model's config.
pub fn write_config(f: &mut fmt::Formatter<'_>, config: &LlamaConfig) -> fmt::Result {
    let LlamaConfig { n_layers, n_heads, n_kv_heads, head_dim, d_model, d_ff, .. } = *config;
    writeln!(f, "layers      {n_layers}, d_model {d_model}, d_ff {d_ff}")?;
    writeln!(f, "attention   {n_heads} heads, {n_kv_heads} KV heads, head dim {head_dim}")?;
    let head = if config.tied_head { "tied to the embedding" } else { "untied" };
    writeln!(f, "vocabulary  {} tokens, output head {head}", HumanCount(config.vocab_size as u64))?;
    write!(f, "context     {} tokens, ", config.max_positions)?;
    match config.positions {
        PositionEmbedding::Rotary => write!(f, "RoPE theta {}", config.rope.theta)?,
        PositionEmbedding::Learned => write!(f, "learned position embeddings")?,
    }
    match &config.rope.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => write!(f, ", linear RoPE scaling {factor}")?,
        RopeScaling::Llama3 { factor, .. } => write!(f, ", Llama 3 RoPE scaling {factor}")?,
        RopeScaling::PerFrequency { .. } => write!(f, ", per-frequency RoPE scaling")?,
    }
    if let Some(window) = config.sliding_window {
        write!(f, ", sliding window {window}")?;
    }
    writeln!(f)
}
