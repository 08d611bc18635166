//! `consolidated.*.pth` ─► whole tensors by Hugging Face's names.
//!
//! Meta splits a model for several GPUs: each shard has some rows of a matrix that widens, some
//! columns of one that narrows, and a copy of every norm. Its rotary embedding pairs neighbors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::TensorData;
use checkpoint::torch::{TensorInfo, TorchFile};
use checkpoint::{ElementType, Error, Result, TensorSource, f64_to_f32};

use super::InferredSizes;
use crate::config::LlamaConfig;
use crate::weights::deinterleave_rotary;

const EMBEDDING: &str = "tok_embeddings.weight";
const NORM: &str = "norm.weight";
const HEAD: &str = "output.weight";

/// The shards of Meta's folder as the source of a Llama's weights.
#[derive(Debug, Clone)]
pub struct MetaSource {
    path: PathBuf,
    files: Arc<[TorchFile]>,
    head_dim: usize,
    shapes: BTreeMap<String, Vec<usize>>,
    places: BTreeMap<String, Place>,
}

#[derive(Debug, Clone)]
struct Place {
    /// Meta's name.
    name: String,
    split: Split,
}

/// How a tensor is spread over the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Split {
    Copied,
    Rows,
    Columns,
}

impl MetaSource {
    /// Puts the shards of one model together, in their order.
    pub(crate) fn new(path: &Path, files: Vec<TorchFile>) -> Result<Self> {
        let Some(first) = files.first() else {
            let reason = "there is no consolidated.00.pth".into();
            return Err(Error::NotAModel { path: path.into(), reason });
        };
        let d_model = need(first, NORM)?.shape.first().copied().unwrap_or_default();
        // Llama 1 and 2 split the embedding's columns, Llama 3 its rows.
        let columns = need(first, EMBEDDING)?.shape.get(1) != Some(&d_model);
        let (mut shapes, mut places) = (BTreeMap::new(), BTreeMap::new());
        for (name, info) in first.tensors() {
            if name.ends_with("rope.freqs") {
                continue;
            }
            for file in &files[1..] {
                check_alike(first, file, name, info)?;
            }
            let split = match info.shape[..] {
                [_, _] if name == EMBEDDING && !columns => Split::Rows,
                [_, _] if is_split_by_columns(name) => Split::Columns,
                [_, _] => Split::Rows,
                _ => Split::Copied,
            };
            let mut shape = info.shape.clone();
            match split {
                Split::Copied => {}
                Split::Rows => shape[0] = shape[0].saturating_mul(files.len()),
                Split::Columns => shape[1] = shape[1].saturating_mul(files.len()),
            }
            let theirs = huggingface_name(name).unwrap_or_else(|| name.clone());
            shapes.insert(theirs.clone(), shape);
            if let Some(other) = places.insert(theirs, Place { name: name.clone(), split }) {
                let reason = format!("tensors {} and {name} are the same", other.name);
                return Err(broken(first, reason));
            }
        }
        Ok(Self { path: path.into(), files: files.into(), head_dim: 0, shapes, places })
    }

    /// The files.
    pub fn files(&self) -> &[TorchFile] {
        &self.files
    }

    /// What every tensor's numbers are, by name.
    pub fn dtypes(&self) -> BTreeMap<String, ElementType> {
        let first = self.files[0].tensors();
        let dtype = |(name, place): (&String, &Place)| (name.clone(), first[&place.name].dtype);
        self.places.iter().map(dtype).collect()
    }

    /// What the config takes from the weights.
    pub(super) fn sizes(&self) -> InferredSizes {
        let rows = |name: &str| self.shapes.get(name).and_then(|shape| shape.first().copied());
        InferredSizes {
            vocab_size: rows("model.embed_tokens.weight").unwrap_or_default(),
            d_ff: rows("model.layers.0.mlp.gate_proj.weight").unwrap_or_default(),
            tied_head: !self.shapes.contains_key("lm_head.weight"),
        }
    }

    /// Takes the width of the heads, and checks that no shard is missing at the end.
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

    /// The whole tensor; besides it no more than a shard's part is in memory.
    fn read(&self, name: &str) -> Result<TensorData> {
        let Some(Place { name: theirs, split }) = self.places.get(name) else {
            return Err(broken(&self.files[0], format!("no tensor is called {name}")));
        };
        let info = &self.files[0].tensors()[theirs];
        let shape = self.shapes[name].clone();
        let Some(dtype) = info.dtype.dtype().filter(|_| info.dtype.is_supported()) else {
            let path = self.files[0].path();
            return Err(Error::tensor_type(path, theirs, info.dtype, ElementType::SUPPORTED));
        };
        let size = info.dtype.size();
        let mut whole = vec![0; shape.iter().product::<usize>() * size];
        for (index, file) in self.files.iter().enumerate() {
            let part = file.read(theirs)?;
            let part = part.as_bytes();
            match split {
                Split::Rows | Split::Copied => {
                    whole[index * part.len()..][..part.len()].copy_from_slice(part);
                }
                Split::Columns => {
                    let (row, part_row) = (shape[1] * size, info.shape[1] * size);
                    let rows = whole.chunks_exact_mut(row.max(1));
                    for (row, part) in rows.zip(part.chunks_exact(part_row.max(1))) {
                        row[index * part_row..][..part_row].copy_from_slice(part);
                    }
                }
            }
            if *split == Split::Copied {
                break;
            }
        }
        if [".attention.wq.", ".attention.wk."].iter().any(|part| theirs.contains(part)) {
            let back = deinterleave_rotary(&whole, whole.len() / shape[0].max(1), self.head_dim);
            whole = back.ok_or_else(|| {
                let (rows, head_dim) = (shape[0], self.head_dim);
                let reason = format!("{theirs} has {rows} rows, expected heads of {head_dim}");
                broken(&self.files[0], reason)
            })?;
        }
        Ok(f64_to_f32(TensorData::from_bytes_vec(whole, shape, dtype)))
    }
}

fn need<'a>(file: &'a TorchFile, name: &str) -> Result<&'a TensorInfo> {
    let missing = || broken(file, format!("it has no {name}: it is no shard of Meta's"));
    file.tensors().get(name).ok_or_else(missing)
}

fn check_alike(first: &TorchFile, file: &TorchFile, name: &str, info: &TensorInfo) -> Result<()> {
    let found = need(file, name)?;
    let copied = info.shape.len() < 2;
    if found.shape != info.shape || (found.dtype != info.dtype && !copied) {
        let (first, TensorInfo { dtype, shape, .. }) = (first.path().display(), found);
        return Err(broken(
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
    name == EMBEDDING || [".attention.wo.", ".feed_forward.w2."].iter().any(|p| name.contains(p))
}

/// Hugging Face's name for one of Meta's.
fn huggingface_name(name: &str) -> Option<String> {
    match name {
        EMBEDDING => return Some("model.embed_tokens.weight".into()),
        NORM => return Some("model.norm.weight".into()),
        HEAD => return Some("lm_head.weight".into()),
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

fn broken(file: &TorchFile, reason: impl Into<String>) -> Error {
    Error::Format { path: file.path().into(), format: "Meta shard", reason: reason.into() }
}
