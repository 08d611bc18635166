//! Single operations in the shapes of a model: sizes that are not multiples of a kernel's tile, few
//! rows, transposed operands.

use burn::tensor::activation::{log_softmax, silu, softmax as burn_softmax};
use burn::tensor::{Device, Int, Tensor};
use checkpoint::{BitWidth, QuantizedBlocks};
use llama::quantized::QuantizedWeight;

use super::named_values::{NamedValues, random_tensor, random_values};
use train::Result;

/// Matmuls of a layer, of one token, of heads.
pub fn matmul(device: &Device) -> Result<Vec<NamedValues>> {
    let square = random_tensor(1, [64, 64], device).matmul(random_tensor(2, [64, 64], device));
    // Weights are `[out, in]`.
    let weight = random_tensor::<2>(3, [47, 64], device).transpose();
    let many = random_tensor(4, [33, 64], device).matmul(weight.clone());
    let few = random_tensor(5, [3, 64], device).matmul(weight.clone());
    let one = random_tensor(6, [1, 64], device).matmul(weight);
    let query = random_tensor::<4>(7, [2, 3, 5, 16], device);
    let key = random_tensor::<4>(8, [2, 3, 9, 16], device);
    let scores = query.matmul(key.clone().transpose());
    Ok(vec![
        NamedValues::from_tensor("square", square)?,
        NamedValues::from_tensor("many rows, transposed weight", many)?,
        NamedValues::from_tensor("few rows", few)?,
        NamedValues::from_tensor("one row", one)?,
        NamedValues::from_tensor("batched, transposed", scores.clone())?,
        NamedValues::from_tensor("batched", scores.matmul(key))?,
    ])
}

/// Matmuls of a size for which a device may select other kernels.
pub fn large_matmul(device: &Device) -> Result<Vec<NamedValues>> {
    let weight = random_tensor::<2>(13, [300, 512], device).transpose();
    let many = random_tensor(14, [260, 512], device).matmul(weight.clone());
    let one = random_tensor(15, [1, 512], device).matmul(weight);
    let query = random_tensor::<4>(16, [2, 4, 130, 64], device);
    let key = random_tensor::<4>(17, [2, 4, 130, 64], device);
    let heads = query.matmul(key.transpose());
    Ok(vec![
        NamedValues::from_tensor("many rows", many)?,
        NamedValues::from_tensor("one row", one)?,
        NamedValues::from_tensor("heads", heads)?,
    ])
}

/// Matmuls with weights in 8 and 4 bits, as in the precisions q8 and q4.
pub fn quantized_matmul(device: &Device) -> Result<Vec<NamedValues>> {
    let mut results = Vec::new();
    for (name, bits) in [("8 bits", BitWidth::Eight), ("4 bits", BitWidth::Four)] {
        let blocks = QuantizedBlocks::quantize(&random_values(18, 48 * 64), [48, 64], bits);
        let weight = QuantizedWeight::new(blocks.expect("rows of whole blocks"), device);
        let output = weight.matmul_transposed(random_tensor(19, [5, 64], device));
        results.push(NamedValues::from_tensor(name, output)?);
    }
    Ok(results)
}

/// Sums, means and maxima over each dimension, of transposed heads too.
pub fn reduction(device: &Device) -> Result<Vec<NamedValues>> {
    let input = random_tensor::<4>(9, [3, 2, 10, 8], device);
    let mut results = Vec::new();
    for dim in 0..4 {
        results.push(NamedValues::from_tensor(format!("sum {dim}"), input.clone().sum_dim(dim))?);
    }
    let heads = input.clone().swap_dims(1, 2);
    results.push(NamedValues::from_tensor("sum 3 of heads", heads.clone().sum_dim(3))?);
    results.push(NamedValues::from_tensor("mean 3 of heads", heads.mean_dim(3))?);
    results.push(NamedValues::from_tensor("maximum", input.clone().max_dim(3))?);
    results.push(NamedValues::from_tensor("sum of all", input.sum())?);
    let many = random_tensor::<1>(20, [50_000], device).square().sum();
    results.push(NamedValues::from_tensor("sum of many", many)?);
    Ok(results)
}

/// Softmax and other functions of exponentials.
pub fn softmax(device: &Device) -> Result<Vec<NamedValues>> {
    // Large scores, whose exponentials must not overflow.
    let scores = random_tensor::<2>(10, [6, 37], device) * 40;
    // As wide as a vocabulary.
    let wide = random_tensor::<2>(21, [2, 3001], device) * 10;
    Ok(vec![
        NamedValues::from_tensor("log softmax of a vocabulary", log_softmax(wide, 1))?,
        NamedValues::from_tensor("softmax", burn_softmax(scores.clone(), 1))?,
        NamedValues::from_tensor("log softmax", log_softmax(scores.clone(), 1))?,
        NamedValues::from_tensor("silu", silu(scores))?,
    ])
}

/// Selection and assignment by index, masking, concatenation.
pub fn indexing(device: &Device) -> Result<Vec<NamedValues>> {
    let table = random_tensor::<2>(11, [50, 12], device);
    let ids = Tensor::<1, Int>::from_ints([49, 0, 7, 7, 31], device);
    let rows = table.clone().select(0, ids);
    let columns = Tensor::<2, Int>::from_ints([[3], [11], [0], [5], [8]], device);
    let cache = Tensor::<2>::zeros([8, 12], device).slice_assign([2..7, 0..12], rows.clone());
    let masked = rows.clone().mask_fill(rows.clone().lower_elem(0.0), -9.0);
    let concatenated = Tensor::cat(vec![cache.clone().narrow(0, 0, 4), rows.clone()], 0);
    Ok(vec![
        NamedValues::from_tensor("rows", rows.clone())?,
        NamedValues::from_tensor("gathered", rows.gather(1, columns))?,
        NamedValues::from_tensor("assigned", cache)?,
        NamedValues::from_tensor("masked", masked)?,
        NamedValues::from_tensor("concatenated", concatenated)?,
    ])
}

/// The operation that cubek-reduce 0.3.1 computes wrongly; see `adaption_prompt`'s projected prompts.
pub fn transposed_sum(device: &Device) -> Result<Vec<NamedValues>> {
    let input = random_tensor::<4>(12, [3, 2, 10, 8], device).transpose();
    Ok(vec![NamedValues::from_tensor("sum 0 of a transposed tensor", input.sum_dim(0))?])
}
