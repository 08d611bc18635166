//! files ─► [`TensorSource`] ─► strict check ─► tensors on the device ─► [`Llama`]
//!
//! One tensor at a time is read, checked, cast or rounded, and uploaded: the peak is the model in
//! its run-time precision plus one tensor.

mod assemble;
mod bytes;
mod element_type;
mod head;
pub mod huggingface;
mod layout;
pub mod meta;
mod quantisation;
pub(crate) mod reader;
mod report;
pub(crate) mod rotary_rows;
mod safetensors;
mod weight_files;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};

pub use bytes::Bytes;
pub use element_type::ElementType;
pub(crate) use element_type::narrowed;
pub use head::resolve_tied_head;
pub use huggingface::HuggingFaceSource;
pub(crate) use layout::Layout;
pub use quantisation::{refuse_quantised_config, refuse_quantised_tensors};
pub use report::LoadReport;
pub use safetensors::SafetensorsFile;
pub use weight_files::{FileKind, WeightFile, WeightFiles};

use crate::config::{FeedForwardKind, LlamaConfig, NormKind, PositionEmbedding};
use crate::error::{Error, Result};
use crate::model::Llama;
use crate::precision::Precision;
use crate::quantised::{Bits, Blocks};
use crate::weight::Weight;
use assemble::{Stored, TensorMap, assemble};

/// Name and shape of a tensor that a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Hugging Face's name in a Llama, such as `model.layers.0.self_attn.q_proj.weight`, whatever
    /// the family.
    pub name: String,
    /// Rows first.
    pub shape: Vec<usize>,
}

/// Where a model's tensors come from. Names are Hugging Face's for a Llama, whatever the family and
/// the format.
pub trait TensorSource {
    /// The file or folder, for messages.
    fn path(&self) -> &Path;

    /// Every tensor's shape by name.
    fn shapes(&self) -> &BTreeMap<String, Vec<usize>>;

    /// One tensor in row-major order, as f32, f16 or bf16.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Format`], or [`Error::TensorType`] for numbers of other kinds.
    fn read(&self, name: &str) -> Result<TensorData>;

    /// Whether two tensors hold the same numbers.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn are_equal(&self, one: &str, other: &str) -> Result<bool> {
        Ok(weight_files::equal_numbers(&self.read(one)?, &self.read(other)?))
    }

    /// One matrix as it is stored, if that is in blocks of 8 bits a number or fewer.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Format`].
    fn read_blocks(&self, name: &str) -> Result<Option<Blocks>> {
        let _ = name;
        Ok(None)
    }

    /// What the file calls a tensor, for messages.
    fn name_in_file(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// What a source keeps its large matrices in: f32, bf16 or f16; f32 where that is blocks of few bits.
///
/// # Errors
/// [`Error::Weights`] if there are none, [`Error::Read`] or [`Error::Format`].
pub fn stored_precision(config: &LlamaConfig, source: &dyn TensorSource) -> Result<Precision> {
    let specs = expected_tensors(config);
    LoadReport::compare(&specs, source.shapes()).fail(source)?;
    // Files keep all of them in the same; one of the smaller ones is quickly read.
    let matrices = specs.iter().filter(|spec| spec.shape.len() > 1);
    let smallest = matrices.min_by_key(|spec| spec.shape.iter().product::<usize>());
    let Some(TensorSpec { name, .. }) = smallest else { return Ok(Precision::F32) };
    Ok(match source.read(name)?.dtype() {
        DType::BF16 => Precision::BF16,
        DType::F16 => Precision::F16,
        _ => Precision::F32,
    })
}

/// Loads a model.
///
/// `precision` is what the large matrices are kept in. Norms, biases and everything between the
/// products are f32 always.
///
/// With 8 or 4 bits a matrix that the source holds in so many bits or fewer, as GGUF files do, is
/// kept as it is stored, without any loss; every other one is rounded
/// ([`Blocks::quantise`]). A matrix whose rows are no multiple of 16 stays f32.
///
/// Where the config ties the head to the embedding and the source has another head, the model has
/// that one, as [`resolve_tied_head`] decides.
///
/// # Errors
/// [`Error::Weights`] with everything that is missing, unexpected, of the wrong shape or not a
/// finite number, in one report. [`Error::Precision`] if the device does not compute in it.
pub fn load(
    config: LlamaConfig,
    source: &dyn TensorSource,
    precision: Precision,
    device: &Device,
) -> Result<Llama> {
    config.validate()?;
    if !precision.is_supported(device) {
        return Err(Error::Precision { precision });
    }
    let config = resolve_tied_head(config, source)?;
    kernels::warn_if_kernels_are_missing(device);
    let specs = expected_tensors(&config);
    let mut report = LoadReport::compare(&specs, source.shapes());
    report.fail(source)?;
    let mut tensors = TensorMap::new();
    for TensorSpec { name, shape } in specs {
        let stored = match (precision.bits(), &shape[..]) {
            (Some(bits), &[rows, columns]) => quantised(source, &name, [rows, columns], bits)?,
            _ => None,
        };
        if let Some(blocks) = stored {
            if blocks.is_finite() {
                tensors.insert(name, Stored::Matrix(Weight::from_blocks(blocks, device)));
            } else {
                report.not_finite.push(name);
            }
            continue;
        }
        let kept = if shape.len() > 1 { precision.dense() } else { DType::F32 };
        let data = source.read(&name)?.convert_dtype(kept);
        if !is_finite(&data) {
            report.not_finite.push(name);
            continue;
        }
        let stored = match shape.len() {
            1 => Stored::Vector(Tensor::from_data(data, (device, kept))),
            _ => Stored::Matrix(Weight::frozen(data, device)),
        };
        tensors.insert(name, stored);
    }
    report.fail(source)?;
    Ok(assemble(config, precision, tensors))
}

/// A matrix in blocks of at most `bits`: as stored, or rounded; `None` where it cannot be.
fn quantised(
    source: &dyn TensorSource,
    name: &str,
    shape: [usize; 2],
    bits: Bits,
) -> Result<Option<Blocks>> {
    if let Some(blocks) = source.read_blocks(name)?
        && blocks.bits <= bits
    {
        return Ok(Some(blocks));
    }
    let data = source.read(name)?.convert_dtype(DType::F32);
    let values = data.as_slice::<f32>().expect("it was converted");
    // Rounding would hide what is no number.
    if !values.iter().all(|value| value.is_finite()) {
        return Ok(None);
    }
    Ok(Blocks::quantise(values, shape, bits))
}

/// A model with random weights from N(0, 0.02²), norms at one and biases at zero, to pretrain.
///
/// # Errors
/// [`Error::Config`]
pub fn random_init(config: LlamaConfig, device: &Device) -> Result<Llama> {
    config.validate()?;
    let tensors = expected_tensors(&config)
        .into_iter()
        .map(|TensorSpec { name, shape }| {
            let stored = match shape[..] {
                [rows, columns] => {
                    let normal = Distribution::Normal(0.0, 0.02);
                    Stored::Matrix(Tensor::<2>::random([rows, columns], normal, device).into())
                }
                _ if name.rsplit('.').next() == Some("bias") => {
                    Stored::Vector(Tensor::zeros([shape[0]], device))
                }
                _ => Stored::Vector(Tensor::ones([shape[0]], device)),
            };
            (name, stored)
        })
        .collect();
    Ok(assemble(config, Precision::F32, tensors))
}

/// The tensors that a model of this config has, in the order of its layers.
pub fn expected_tensors(config: &LlamaConfig) -> Vec<TensorSpec> {
    let LlamaConfig { d_model, d_ff, vocab_size, .. } = *config;
    let query = config.n_heads * config.head_dim;
    let kv = config.n_kv_heads * config.head_dim;
    let norm_bias = config.norm == NormKind::Layer;
    let mut specs = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        specs.push(TensorSpec { name, shape: shape.to_vec() });
    };
    add("model.embed_tokens.weight".into(), &[vocab_size, d_model]);
    if config.positions == PositionEmbedding::Learned {
        add("model.embed_positions.weight".into(), &[config.max_positions, d_model]);
    }
    for layer in 0..config.n_layers {
        let mut module = |name: &str, shape: &[usize], bias: bool| {
            add(format!("model.layers.{layer}.{name}.weight"), shape);
            if bias {
                add(format!("model.layers.{layer}.{name}.bias"), &shape[..1]);
            }
        };
        module("self_attn.q_proj", &[query, d_model], config.qkv_bias);
        module("self_attn.k_proj", &[kv, d_model], config.qkv_bias);
        module("self_attn.v_proj", &[kv, d_model], config.qkv_bias);
        module("self_attn.o_proj", &[d_model, query], config.output_bias);
        if config.qk_norm {
            module("self_attn.q_norm", &[config.head_dim], norm_bias);
            module("self_attn.k_norm", &[config.head_dim], norm_bias);
        }
        if config.feed_forward == FeedForwardKind::SwiGlu {
            module("mlp.gate_proj", &[d_ff, d_model], config.mlp_bias);
        }
        module("mlp.up_proj", &[d_ff, d_model], config.mlp_bias);
        module("mlp.down_proj", &[d_model, d_ff], config.mlp_bias);
        module("input_layernorm", &[d_model], norm_bias);
        module("post_attention_layernorm", &[d_model], norm_bias);
    }
    add("model.norm.weight".into(), &[d_model]);
    if norm_bias {
        add("model.norm.bias".into(), &[d_model]);
    }
    if !config.tied_head {
        add("lm_head.weight".into(), &[vocab_size, d_model]);
    }
    specs
}

fn is_finite(data: &TensorData) -> bool {
    match data.dtype() {
        DType::F32 => data.as_slice::<f32>().is_ok_and(|v| v.iter().all(|x| x.is_finite())),
        DType::F16 => data.as_slice::<half::f16>().is_ok_and(|v| v.iter().all(|x| x.is_finite())),
        DType::BF16 => data.as_slice::<half::bf16>().is_ok_and(|v| v.iter().all(|x| x.is_finite())),
        _ => false,
    }
}

impl LoadReport {
    fn fail(&self, source: &dyn TensorSource) -> Result<()> {
        if self.is_clean() {
            return Ok(());
        }
        let report = self.clone().named(|name| source.name_in_file(name));
        Err(Error::Weights { path: source.path().into(), report: Box::new(report) })
    }
}
