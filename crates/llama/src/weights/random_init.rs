//! Random initialization of a model.

use burn::tensor::{Device, Distribution, Tensor};
use checkpoint::TensorSpec;

use super::build_model::{LoadedTensor, build_model};
use super::expected_tensors::expected_tensors;
use crate::config::LlamaConfig;
use crate::error::Result;
use crate::model::Llama;
use crate::precision::Precision;

/// A model with random weights from N(0, 0.02²), norms at one and biases at zero.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config) for an invalid config.
pub fn random_init(config: LlamaConfig, device: &Device) -> Result<Llama> {
    config.validate()?;
    let tensors = expected_tensors(&config)
        .into_iter()
        .map(|TensorSpec { name, shape }| {
            let tensor = match shape[..] {
                [rows, columns] => {
                    let normal = Distribution::Normal(0.0, 0.02);
                    let weight = Tensor::<2>::random([rows, columns], normal, device);
                    LoadedTensor::Matrix(weight.into())
                }
                _ if name.rsplit('.').next() == Some("bias") => {
                    LoadedTensor::Vector(Tensor::zeros([shape[0]], device))
                }
                _ => LoadedTensor::Vector(Tensor::ones([shape[0]], device)),
            };
            (name, tensor)
        })
        .collect();
    Ok(build_model(config, Precision::F32, tensors))
}
