//! Single operations, in the shapes that a model uses them in: sizes that are no multiples of a
//! kernel's, few rows, operands that lie the other way round.

use burn::tensor::activation::{log_softmax, silu, softmax as burn_softmax};
use burn::tensor::{Device, Int, Tensor};
use checkpoint::{BitWidth, QuantizedBlocks};
use llama::quantized::QuantizedWeight;

use super::numbers::{Numbers, random, tensor};
use crate::error::Result;

/// Products: of a layer, of one token, of heads.
pub fn product(device: &Device) -> Result<Vec<Numbers>> {
    let square = tensor(1, [64, 64], device).matmul(tensor(2, [64, 64], device));
    // Weights lie as `[out, in]`.
    let weight = tensor::<2>(3, [47, 64], device).transpose();
    let many = tensor(4, [33, 64], device).matmul(weight.clone());
    let few = tensor(5, [3, 64], device).matmul(weight.clone());
    let one = tensor(6, [1, 64], device).matmul(weight);
    let query = tensor::<4>(7, [2, 3, 5, 16], device);
    let key = tensor::<4>(8, [2, 3, 9, 16], device);
    let scores = query.matmul(key.clone().transpose());
    Ok(vec![
        Numbers::of("square", square)?,
        Numbers::of("many rows, transposed weight", many)?,
        Numbers::of("few rows", few)?,
        Numbers::of("one row", one)?,
        Numbers::of("batched, transposed", scores.clone())?,
        Numbers::of("batched", scores.matmul(key))?,
    ])
}

/// Products of a size for which a device may take other kernels.
pub fn large_matmul(device: &Device) -> Result<Vec<Numbers>> {
    let weight = tensor::<2>(13, [300, 512], device).transpose();
    let many = tensor(14, [260, 512], device).matmul(weight.clone());
    let one = tensor(15, [1, 512], device).matmul(weight);
    let query = tensor::<4>(16, [2, 4, 130, 64], device);
    let key = tensor::<4>(17, [2, 4, 130, 64], device);
    let heads = query.matmul(key.transpose());
    Ok(vec![
        Numbers::of("many rows", many)?,
        Numbers::of("one row", one)?,
        Numbers::of("heads", heads)?,
    ])
}

/// Products with weights of 8 and 4 bits, as the precisions q8 and q4 keep them.
pub fn quantised_matmul(device: &Device) -> Result<Vec<Numbers>> {
    let mut results = Vec::new();
    for (name, bits) in [("8 bits", BitWidth::Eight), ("4 bits", BitWidth::Four)] {
        let blocks = QuantizedBlocks::quantize(&random(18, 48 * 64), [48, 64], bits);
        let weight = QuantizedWeight::new(blocks.expect("rows of whole blocks"), device);
        let output = weight.matmul_transposed(tensor(19, [5, 64], device));
        results.push(Numbers::of(name, output)?);
    }
    Ok(results)
}

/// Sums, means and maxima over each dimension; of heads too, which lie the other way round.
pub fn reduction(device: &Device) -> Result<Vec<Numbers>> {
    let input = tensor::<4>(9, [3, 2, 10, 8], device);
    let mut results = Vec::new();
    for dim in 0..4 {
        results.push(Numbers::of(format!("sum {dim}"), input.clone().sum_dim(dim))?);
    }
    let heads = input.clone().swap_dims(1, 2);
    results.push(Numbers::of("sum 3 of heads", heads.clone().sum_dim(3))?);
    results.push(Numbers::of("mean 3 of heads", heads.mean_dim(3))?);
    results.push(Numbers::of("maximum", input.clone().max_dim(3))?);
    results.push(Numbers::of("sum of all", input.sum())?);
    let many = tensor::<1>(20, [50_000], device).square().sum();
    results.push(Numbers::of("sum of many", many)?);
    Ok(results)
}

/// Softmax and what is made of exponentials.
pub fn softmax(device: &Device) -> Result<Vec<Numbers>> {
    // Scores far apart: their exponentials must not overflow.
    let scores = tensor::<2>(10, [6, 37], device) * 40;
    // As wide as a vocabulary.
    let wide = tensor::<2>(21, [2, 3001], device) * 10;
    Ok(vec![
        Numbers::of("log softmax of a vocabulary", log_softmax(wide, 1))?,
        Numbers::of("softmax", burn_softmax(scores.clone(), 1))?,
        Numbers::of("log softmax", log_softmax(scores.clone(), 1))?,
        Numbers::of("silu", silu(scores))?,
    ])
}

/// Rows and numbers chosen by index, pieces put in place and together.
pub fn selection(device: &Device) -> Result<Vec<Numbers>> {
    let table = tensor::<2>(11, [50, 12], device);
    let ids = Tensor::<1, Int>::from_ints([49, 0, 7, 7, 31], device);
    let rows = table.clone().select(0, ids);
    let places = Tensor::<2, Int>::from_ints([[3], [11], [0], [5], [8]], device);
    let cache = Tensor::<2>::zeros([8, 12], device).slice_assign([2..7, 0..12], rows.clone());
    let masked = rows.clone().mask_fill(rows.clone().lower_elem(0.0), -9.0);
    let together = Tensor::cat(vec![cache.clone().narrow(0, 0, 4), rows.clone()], 0);
    Ok(vec![
        Numbers::of("rows", rows.clone())?,
        Numbers::of("one of each row", rows.gather(1, places))?,
        Numbers::of("in place", cache)?,
        Numbers::of("masked", masked)?,
        Numbers::of("together", together)?,
    ])
}

/// The operation that cubek-reduce 0.3.1 gets wrong: see `adaption_prompt`'s branch.
pub fn transposed_sum(device: &Device) -> Result<Vec<Numbers>> {
    let input = tensor::<4>(12, [3, 2, 10, 8], device).transpose();
    Ok(vec![Numbers::of("sum 0 of a transposed tensor", input.sum_dim(0))?])
}
