//! Loading a model: every expected tensor is read, checked, converted and uploaded.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor, TensorData};
use checkpoint::{BitWidth, LoadReport, QuantizedBlocks, TensorSource, TensorSpec};

use super::build_model::{LoadedTensor, TensorMap, build_model};
use super::expected_tensors::expected_tensors;
use super::tied_head::{HEAD, resolve_tied_head};
use crate::config::LlamaConfig;
use crate::error::{Error, Result};
use crate::model::{Llama, Weight};
use crate::precision::Precision;

/// The precision in which a source stores its large matrices; f32 if they are quantized.
///
/// # Errors
/// [`Error::Weights`] if tensors are missing, [`checkpoint::Error::Read`] or
/// [`checkpoint::Error::Format`].
pub fn stored_precision(config: &LlamaConfig, source: &dyn TensorSource) -> Result<Precision> {
    check_report(&compare(config, source.shapes()), source)?;
    let specs = expected_tensors(config);
    // Files store all matrices in the same type; the smallest one is read fastest.
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
/// `precision` is that of the large matrices. Norms, biases and activations are always f32.
///
/// In 8 or 4 bits, a matrix that the source stores in blocks of at most so many bits, as GGUF files do,
/// is kept as stored, without loss. Every other matrix is quantized ([`QuantizedBlocks::quantize`]). A
/// matrix whose row length is not a multiple of 16 stays f32.
///
/// If the config ties the head to the embedding and the source has a different head, the model gets that
/// head, see [`resolve_tied_head`].
///
/// # Errors
/// [`Error::Weights`] reports all tensors that are missing, unexpected, of the wrong shape or not finite.
/// [`Error::Precision`] if the device does not support the precision.
pub fn load(
    config: LlamaConfig,
    source: &dyn TensorSource,
    precision: Precision,
    device: &Device,
) -> Result<Llama> {
    check_request(&config, precision, device)?;
    let config = resolve_tied_head(config, source)?;
    load_resolved(config, source, precision, device)
}

/// As [`load`], for a config of which [`resolve_tied_head`] has checked the head.
pub(crate) fn load_resolved(
    config: LlamaConfig,
    source: &dyn TensorSource,
    precision: Precision,
    device: &Device,
) -> Result<Llama> {
    check_request(&config, precision, device)?;
    kernels::warn_if_kernels_are_missing(device);
    let mut report = compare(&config, source.shapes());
    check_report(&report, source)?;
    let mut tensors = TensorMap::new();
    for TensorSpec { name, shape } in expected_tensors(&config) {
        let blocks = match (precision.bits(), &shape[..]) {
            (Some(bits), &[rows, columns]) => load_quantized(source, &name, [rows, columns], bits)?,
            _ => None,
        };
        if let Some(blocks) = blocks {
            if blocks.is_finite() {
                tensors.insert(name, LoadedTensor::Matrix(Weight::from_blocks(blocks, device)));
            } else {
                report.not_finite.push(name);
            }
            continue;
        }
        let dtype = if shape.len() > 1 { precision.dense_dtype() } else { DType::F32 };
        let data = source.read(&name)?.convert_dtype(dtype);
        if !is_finite(&data) {
            report.not_finite.push(name);
            continue;
        }
        let tensor = match shape.len() {
            1 => LoadedTensor::Vector(Tensor::from_data(data, (device, dtype))),
            _ => LoadedTensor::Matrix(Weight::frozen(data, device)),
        };
        tensors.insert(name, tensor);
    }
    check_report(&report, source)?;
    Ok(build_model(config, precision, tensors))
}

fn check_request(config: &LlamaConfig, precision: Precision, device: &Device) -> Result<()> {
    config.validate()?;
    if precision.is_supported(device) { Ok(()) } else { Err(Error::Precision { precision }) }
}

/// A matrix in blocks of at most `bits`, as stored or quantized; `None` if it stays dense.
fn load_quantized(
    source: &dyn TensorSource,
    name: &str,
    shape: [usize; 2],
    bits: BitWidth,
) -> Result<Option<QuantizedBlocks>> {
    if let Some(blocks) = source.read_blocks(name)?
        && blocks.bits <= bits
    {
        return Ok(Some(blocks));
    }
    let data = source.read(name)?.convert_dtype(DType::F32);
    let values = data.as_slice::<f32>().expect("it was converted");
    // Quantization would hide NaN; the dense tensor is reported.
    if !values.iter().all(|value| value.is_finite()) {
        return Ok(None);
    }
    Ok(QuantizedBlocks::quantize(values, shape, bits))
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

/// Tensors that some exporters write although they are not needed: rotary tables, and a copy of a tied
/// head, which was compared with the embedding before.
fn is_ignored(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name == HEAD
}

/// An error with the tensors' names in the file, unless the report is clean.
fn check_report(report: &LoadReport, source: &dyn TensorSource) -> Result<()> {
    if report.is_clean() {
        return Ok(());
    }
    let report = report.clone().renamed(|name| source.name_in_file(name));
    Err(Error::Weights { path: source.path().into(), report: Box::new(report) })
}
