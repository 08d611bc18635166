//! files ─► [`TensorSource`] ─► strict check ─► tensors on the device ─► [`Llama`]
//!
//! One tensor at a time is read, checked, cast or rounded, and uploaded: the peak is the model in
//! its run-time precision plus one tensor.

mod assemble;
mod expected;
mod head;
pub mod huggingface;
mod layout;
pub mod meta;
mod rotary_rows;

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use checkpoint::{Bits, LoadReport, QuantizedBlocks, TensorSource, TensorSpec};

pub use expected::expected_tensors;
pub use head::resolve_tied_head;
pub use huggingface::HuggingFaceSource;
pub(crate) use layout::Layout;
pub use rotary_rows::{deinterleave_rotary, interleave_rotary};

use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::model::Llama;
use crate::precision::Precision;
use crate::weight::Weight;
use assemble::{Stored, TensorMap, assemble};

/// What a source keeps its large matrices in: f32, bf16 or f16; f32 where that is blocks of few bits.
///
/// # Errors
/// [`Error::Weights`] if there are none, [`Error::Read`] or [`Error::Format`].
pub fn stored_precision(config: &LlamaConfig, source: &dyn TensorSource) -> Result<Precision> {
    fail(&compare(config, source.shapes()), source)?;
    let specs = expected_tensors(config);
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
/// ([`QuantizedBlocks::quantize`]). A matrix whose rows are no multiple of 16 stays f32.
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
    let mut report = compare(&config, source.shapes());
    fail(&report, source)?;
    let mut tensors = TensorMap::new();
    for TensorSpec { name, shape } in expected_tensors(&config) {
        let stored = match (precision.bits(), &shape[..]) {
            (Some(bits), &[rows, columns]) => quantized(source, &name, [rows, columns], bits)?,
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
    fail(&report, source)?;
    Ok(assemble(config, precision, tensors))
}

/// A matrix in blocks of at most `bits`: as stored, or rounded; `None` where it cannot be.
fn quantized(
    source: &dyn TensorSource,
    name: &str,
    shape: [usize; 2],
    bits: Bits,
) -> Result<Option<QuantizedBlocks>> {
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
    Ok(QuantizedBlocks::quantize(values, shape, bits))
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

fn is_finite(data: &TensorData) -> bool {
    match data.dtype() {
        DType::F32 => data.as_slice::<f32>().is_ok_and(|v| v.iter().all(|x| x.is_finite())),
        DType::F16 => data.as_slice::<half::f16>().is_ok_and(|v| v.iter().all(|x| x.is_finite())),
        DType::BF16 => data.as_slice::<half::bf16>().is_ok_and(|v| v.iter().all(|x| x.is_finite())),
        _ => false,
    }
}

/// Compares names and shapes of tensors with those that a config expects.
pub fn compare(config: &LlamaConfig, shapes: &BTreeMap<String, Vec<usize>>) -> LoadReport {
    LoadReport::compare(&expected_tensors(config), shapes, is_ignored)
}

/// Tensors that some exporters write and no model needs: rotary tables, which are computed, and a
/// copy of a tied head, which was compared before.
fn is_ignored(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name == "lm_head.weight"
}

fn fail(report: &LoadReport, source: &dyn TensorSource) -> Result<()> {
    if report.is_clean() {
        return Ok(());
    }
    let report = report.clone().renamed(|name| source.name_in_file(name));
    Err(Error::Weights { path: source.path().into(), report: Box::new(report) })
}
