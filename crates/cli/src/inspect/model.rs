//! A model's sizes and memory.

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

use super::tensors::{FileReport, Table, TensorEntry};
use crate::failure::Result;
use crate::model::{built_in, built_in_source};

/// A Hugging Face folder, one of Meta's, or the built-in model.
#[derive(Debug, Serialize)]
pub struct ModelReport {
    #[serde(serialize_with = "crate::output::lossy")]
    path: PathBuf,
    config: LlamaConfig,
    parameters: usize,
    bytes: u64,
    memory: Memory,
    chat_template: bool,
    /// What the config asks for and the weights do not have, or the other way round.
    misfits: Option<String>,
    tensors: Vec<TensorEntry>,
}

impl ModelReport {
    pub fn built_in() -> Result<Self> {
        let source = built_in_source()?;
        let file = SafetensorsFile::new(ByteSource::memory(source.path(), built_in::WEIGHTS))?;
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
            memory: Memory::of(&config),
            // A folder without a tokenizer is still a model that can be looked at.
            chat_template: source.tokenizer().is_ok_and(|t| t.chat_template.is_some()),
            misfits: (!fit.is_clean()).then(|| fit.to_string()),
            tensors,
            config,
        }
    }
}

impl fmt::Display for ModelReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "model       {}", self.path.display())?;
        sizes(f, &self.config)?;
        writeln!(f, "parameters  {}", HumanCount(self.parameters as u64))?;
        writeln!(f, "on disk     {}", HumanBytes(self.bytes))?;
        self.memory.fmt(f)?;
        writeln!(f, "for chats   {}", if self.chat_template { "yes" } else { "no chat template" })?;
        Table(&self.tensors).fmt(f)?;
        if let Some(misfits) = &self.misfits {
            writeln!(f, "\nthe weights do not fit the config\n{misfits}")?;
        }
        Ok(())
    }
}

/// Bytes that a model takes while it runs.
#[derive(Debug, Serialize)]
pub struct Memory {
    f32: u64,
    /// Of f16 too.
    bf16: u64,
    /// Keys and values of one token.
    cache_per_token: u64,
}

impl Memory {
    pub fn of(config: &LlamaConfig) -> Self {
        let (mut matrices, mut vectors) = (0, 0);
        for tensor in weights::expected_tensors(config) {
            let len = tensor.shape.iter().product::<usize>() as u64;
            // Vectors stay f32 whatever the precision.
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

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { f32, bf16, cache_per_token } = *self;
        writeln!(
            f,
            "in memory   {} with --precision f32, {} with bf16 or f16; and {} for each token",
            HumanBytes(f32),
            HumanBytes(bf16),
            HumanBytes(cache_per_token)
        )
    }
}

/// The lines about a model's shape.
pub fn sizes(f: &mut fmt::Formatter<'_>, config: &LlamaConfig) -> fmt::Result {
    let LlamaConfig { n_layers, n_heads, n_kv_heads, head_dim, d_model, d_ff, .. } = *config;
    writeln!(f, "layers      {n_layers}, width {d_model}, feed-forward {d_ff}")?;
    writeln!(f, "attention   {n_heads} heads of {head_dim} on {n_kv_heads} key-value heads")?;
    let head = if config.tied_head { "tied to the embedding" } else { "of its own" };
    writeln!(f, "vocabulary  {} tokens, output head {head}", HumanCount(config.vocab_size as u64))?;
    write!(f, "context     {} tokens, ", config.max_positions)?;
    match config.positions {
        PositionEmbedding::Rotary => write!(f, "rotary base {}", config.rope.theta)?,
        PositionEmbedding::Learned => write!(f, "learned positions")?,
    }
    match &config.rope.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => write!(f, ", stretched {factor} times")?,
        RopeScaling::Llama3 { factor, .. } => write!(f, ", Llama 3's scaling by {factor}")?,
        RopeScaling::PerFrequency { .. } => write!(f, ", scaled by a table")?,
    }
    if let Some(window) = config.sliding_window {
        write!(f, ", window of {window}")?;
    }
    writeln!(f)
}
