//! Parameters from host values and back, and the random streams that initialize them.

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor, TensorData};
use llama::read_back;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::error::Result;

/// A parameter of `shape` with the given values.
pub(crate) fn from_values<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Param<Tensor<D>> {
    Param::from_data(TensorData::new(values, shape), device)
}

/// A vector parameter with the given values.
pub(crate) fn vector(values: &[f32], device: &Device) -> Param<Tensor<1>> {
    from_values(values.to_vec(), [values.len()], device)
}

/// The values of a parameter.
///
/// # Errors
/// [`llama::Error::Device`]
pub(crate) fn values<const D: usize>(param: &Param<Tensor<D>>) -> Result<Vec<f32>> {
    Ok(read_back(param.val())?.convert_dtype(DType::F32).iter::<f32>().collect())
}

/// The random numbers of one part of an adapter. Each part has its own `stream`, so that its initial
/// values do not depend on the other parts.
pub(crate) fn seeded_rng(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Root mean square; 0 without values.
pub(crate) fn rms(values: impl Iterator<Item = f32>) -> f32 {
    let (count, squares) = values.fold((0_usize, 0.0), |(n, sum), x| (n + 1, sum + x * x));
    (squares / count.max(1) as f32).sqrt()
}
