//! `consolidated.*.pth` ─► whole tensors with canonical names.
//!
//! Meta shards a model for tensor parallelism: each shard has some rows of column-parallel matrices, some
//! columns of row-parallel ones, and a copy of every norm. Rotary pairs are interleaved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::TensorData;
use checkpoint::torch::{TensorInfo, TorchFile};
use checkpoint::{ElementType, Error, Result, TensorSource, f64_to_f32};

use super::InferredSizes;
use crate::config::LlamaConfig;
use crate::weights::deinterleave_rotary;

const META_EMBEDDING: &str = "tok_embeddings.weight";
const META_NORM: &str = "norm.weight";
const META_HEAD: &str = "output.weight";

/// A model's weights in Meta's shards.
#[derive(Debug, Clone)]
pub struct MetaSource {
    path: PathBuf,
    files: Arc<[TorchFile]>,
    head_dim: usize,
    shapes: BTreeMap<String, Vec<usize>>,
    sharded: BTreeMap<String, ShardedTensor>,
}

#[derive(Debug, Clone)]
struct ShardedTensor {
    /// Meta's name.
    name: String,
    split: ShardSplit,
}

/// How a tensor is split over the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShardSplit {
    Replicated,
    Rows,
    Columns,
}

impl MetaSource {
    /// Combines all shards of a model, in their order.
    pub(crate) fn new(path: &Path, files: Vec<TorchFile>) -> Result<Self> {
        let Some(first) = files.first() else {
            let reason = "there is no consolidated.00.pth".into();
            return Err(Error::NotAModel { path: path.into(), reason });
        };
        let d_model = require_tensor(first, META_NORM)?.shape.first().copied().unwrap_or_default();
        // Llama 1 and 2 split the embedding's columns, Llama 3 its rows.
        let columns = require_tensor(first, META_EMBEDDING)?.shape.get(1) != Some(&d_model);
        let (mut shapes, mut sharded) = (BTreeMap::new(), BTreeMap::new());
        for (name, info) in first.tensors() {
            if name.ends_with("rope.freqs") {
                continue;
            }
            for file in &files[1..] {
                check_same_spec(first, file, name, info)?;
            }
            let split = match info.shape[..] {
                [_, _] if name == META_EMBEDDING && !columns => ShardSplit::Rows,
                [_, _] if is_split_by_columns(name) => ShardSplit::Columns,
                [_, _] => ShardSplit::Rows,
                _ => ShardSplit::Replicated,
            };
            let mut shape = info.shape.clone();
            match split {
                ShardSplit::Replicated => {}
                ShardSplit::Rows => shape[0] = shape[0].saturating_mul(files.len()),
                ShardSplit::Columns => shape[1] = shape[1].saturating_mul(files.len()),
            }
            let canonical = huggingface_name(name).unwrap_or_else(|| name.clone());
            shapes.insert(canonical.clone(), shape);
            let tensor = ShardedTensor { name: name.clone(), split };
            if let Some(other) = sharded.insert(canonical, tensor) {
                let reason = format!("tensors {} and {name} are the same", other.name);
                return Err(format_error(first, reason));
            }
        }
        Ok(Self { path: path.into(), files: files.into(), head_dim: 0, shapes, sharded })
    }

    /// The shards.
    pub fn files(&self) -> &[TorchFile] {
        &self.files
    }

    /// Element type of every tensor, by canonical name.
    pub fn dtypes(&self) -> BTreeMap<String, ElementType> {
        let first = self.files[0].tensors();
        let dtype =
            |(name, tensor): (&String, &ShardedTensor)| (name.clone(), first[&tensor.name].dtype);
        self.sharded.iter().map(dtype).collect()
    }

    /// Sizes for the config.
    pub(super) fn inferred_sizes(&self) -> InferredSizes {
        let rows = |name: &str| self.shapes.get(name).and_then(|shape| shape.first().copied());
        InferredSizes {
            vocab_size: rows("model.embed_tokens.weight").unwrap_or_default(),
            d_ff: rows("model.layers.0.mlp.gate_proj.weight").unwrap_or_default(),
            tied_head: !self.shapes.contains_key("lm_head.weight"),
        }
    }

    /// Sets the width of the heads, and checks that no shard is missing at the end.
    pub(super) fn with_head_dim(self, config: &LlamaConfig) -> Result<Self> {
        let found = self.shapes.get("model.layers.0.self_attn.q_proj.weight").map(|shape| shape[0]);
        let (rows, here) = (config.n_heads * config.head_dim, self.files.len());
        if let Some(found) = found.filter(|&found| 0 < found && found < rows)
            && (rows * here).is_multiple_of(found)
        {
            let reason = format!(
                "the model has {} shards, and consolidated.{here:02}.pth is missing",
                rows * here / found
            );
            return Err(Error::NotAModel { path: self.path, reason });
        }
        Ok(Self { head_dim: config.head_dim, ..self })
    }
}

impl TensorSource for MetaSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }

    /// The whole tensor. One shard's part of it is in memory at a time.
    fn read(&self, name: &str) -> Result<TensorData> {
        let Some(ShardedTensor { name: meta_name, split }) = self.sharded.get(name) else {
            return Err(format_error(&self.files[0], format!("there is no tensor {name}")));
        };
        let info = &self.files[0].tensors()[meta_name];
        let shape = self.shapes[name].clone();
        let Some(dtype) = info.dtype.dtype().filter(|_| info.dtype.is_supported()) else {
            let path = self.files[0].path();
            return Err(Error::tensor_type(path, meta_name, info.dtype, ElementType::SUPPORTED));
        };
        let size = info.dtype.size();
        let mut whole = vec![0; shape.iter().product::<usize>() * size];
        for (index, file) in self.files.iter().enumerate() {
            let part = file.read(meta_name)?;
            let part = part.as_bytes();
            match split {
                ShardSplit::Rows | ShardSplit::Replicated => {
                    whole[index * part.len()..][..part.len()].copy_from_slice(part);
                }
                ShardSplit::Columns => {
                    let (row, part_row) = (shape[1] * size, info.shape[1] * size);
                    let rows = whole.chunks_exact_mut(row.max(1));
                    for (row, part) in rows.zip(part.chunks_exact(part_row.max(1))) {
                        row[index * part_row..][..part_row].copy_from_slice(part);
                    }
                }
            }
            if *split == ShardSplit::Replicated {
                break;
            }
        }
        if [".attention.wq.", ".attention.wk."].iter().any(|part| meta_name.contains(part)) {
            let deinterleaved =
                deinterleave_rotary(&whole, whole.len() / shape[0].max(1), self.head_dim);
            whole = deinterleaved.ok_or_else(|| {
                let (rows, head_dim) = (shape[0], self.head_dim);
                let reason = format!("{meta_name} has {rows} rows, expected heads of {head_dim}");
                format_error(&self.files[0], reason)
            })?;
        }
        Ok(f64_to_f32(TensorData::from_bytes_vec(whole, shape, dtype)))
    }
}

fn require_tensor<'a>(file: &'a TorchFile, name: &str) -> Result<&'a TensorInfo> {
    let missing =
        || format_error(file, format!("tensor {name} is missing: not one of Meta's shards"));
    file.tensors().get(name).ok_or_else(missing)
}

fn check_same_spec(
    first: &TorchFile,
    file: &TorchFile,
    name: &str,
    info: &TensorInfo,
) -> Result<()> {
    let found = require_tensor(file, name)?;
    let replicated = info.shape.len() < 2;
    if found.shape != info.shape || (found.dtype != info.dtype && !replicated) {
        let (first, TensorInfo { dtype, shape, .. }) = (first.path().display(), found);
        return Err(format_error(
            file,
            format!(
                "{name} is {shape:?} of {dtype:?}, in {first} {:?} of {:?}",
                info.shape, info.dtype
            ),
        ));
    }
    Ok(())
}

fn is_split_by_columns(name: &str) -> bool {
    name == META_EMBEDDING
        || [".attention.wo.", ".feed_forward.w2."].iter().any(|p| name.contains(p))
}

/// Hugging Face's name for one of Meta's.
fn huggingface_name(name: &str) -> Option<String> {
    match name {
        META_EMBEDDING => return Some("model.embed_tokens.weight".into()),
        META_NORM => return Some("model.norm.weight".into()),
        META_HEAD => return Some("lm_head.weight".into()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("layers.")?.split_once('.')?;
    let part = match rest.strip_suffix(".weight")? {
        "attention.wq" => "self_attn.q_proj",
        "attention.wk" => "self_attn.k_proj",
        "attention.wv" => "self_attn.v_proj",
        "attention.wo" => "self_attn.o_proj",
        "feed_forward.w1" => "mlp.gate_proj",
        "feed_forward.w2" => "mlp.down_proj",
        "feed_forward.w3" => "mlp.up_proj",
        "attention_norm" => "input_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}.weight"))
}

fn format_error(file: &TorchFile, reason: impl Into<String>) -> Error {
    Error::Format { path: file.path().into(), format: "Meta shard", reason: reason.into() }
}
