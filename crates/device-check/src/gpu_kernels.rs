//! Fused kernels of GPUs, each alone, forward and backward. On CPUs, the same operations.

use std::sync::Arc;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::{
    AttentionDims, DeviceTables, GatedPrompt, GpuKernel, RotaryTable, Sequence, SequenceLayout,
    has_gpu_kernel,
};

use super::named_values::{NamedValues, random_tensor};
use train::Result;

/// The output of an operation, and the gradients of its inputs for a given gradient of the output.
fn output_and_gradients<const D: usize, const N: usize>(
    what: &str,
    seed: u64,
    inputs: [Tensor<D>; N],
    operation: impl Fn([Tensor<D>; N]) -> Tensor<D>,
) -> Result<Vec<NamedValues>> {
    let leaves = inputs.map(|input| input.autodiff().require_grad());
    let output = operation(leaves.clone());
    let plain = output.clone().inner();
    let d_output = random_tensor::<D>(seed, plain.dims(), &plain.device());
    let gradients = (output * Tensor::from_inner(d_output)).sum().backward();
    let mut results = vec![NamedValues::from_tensor(what, plain)?];
    for (index, leaf) in leaves.iter().enumerate() {
        let gradient = leaf.grad(&gradients).expect("every input is tracked");
        results.push(NamedValues::from_tensor(format!("{what}, gradient {index}"), gradient)?);
    }
    Ok(results)
}

/// Norms of rows that are not a multiple of any cube.
pub fn rms_norm(device: &Device) -> Result<Vec<NamedValues>> {
    let weight = random_tensor(31, [77], device);
    let x = random_tensor::<2>(32, [5, 77], device);
    output_and_gradients("norm", 33, [x], |[x]| kernels::rms_norm(x, weight.clone(), 1e-5))
}

/// Gates and ups in one tensor, and in two.
pub fn swiglu(device: &Device) -> Result<Vec<NamedValues>> {
    let [gate, up] = [34, 35].map(|seed| random_tensor::<2>(seed, [7, 45], device) * 4);
    let both = Tensor::cat(vec![gate.clone(), up.clone()], 1);
    let mut results =
        output_and_gradients("pair", 36, [gate, up], |[gate, up]| kernels::swiglu_pair(gate, up))?;
    results.extend(output_and_gradients("rows", 37, [both], |[both]| {
        // Twice as wide as the output, as the shapes of inputs and output are.
        let out = kernels::swiglu(both);
        Tensor::cat(vec![out.clone(), out], 1)
    })?);
    Ok(results)
}

/// More rows than a part of the logits has.
pub fn cross_entropy(device: &Device) -> Result<Vec<NamedValues>> {
    const ROWS: usize = 515;
    const VOCAB: usize = 61;
    let head = random_tensor::<2>(43, [VOCAB, 16], device);
    let ids = (0..ROWS).map(|row| (row * 7 % VOCAB) as i64).collect::<Vec<_>>();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(ids, [ROWS]), device);
    let hidden = random_tensor::<2>(44, [ROWS, 16], device) * 3;
    let hidden = hidden.autodiff().require_grad();
    let loss = if has_gpu_kernel(device, GpuKernel::CrossEntropy) {
        kernels::dense_cross_entropy(hidden.clone(), head, labels)
    } else {
        let logits = hidden.clone().matmul(head.transpose());
        log_softmax(logits, 1).gather(1, labels.reshape([ROWS, 1])).sum().neg()
    };
    let gradients = loss.clone().backward();
    Ok(vec![
        NamedValues::from_tensor("loss", loss.inner())?,
        NamedValues::from_tensor("gradient", hidden.grad(&gradients).expect("tracked"))?,
    ])
}

/// Grouped heads, sequences that are longer than a tile and shorter, a prompt, open gates; with and
/// without a sliding window. The device has fused attention.
pub fn attention(device: &Device) -> Result<Vec<NamedValues>> {
    const HEADS: AttentionDims = AttentionDims { heads: 4, kv_heads: 2, head_dim: 20 };
    const LENS: [usize; 3] = [37, 1, 12];
    const PROMPT: usize = 11;
    let rows = LENS.iter().sum();
    let width = (HEADS.heads + 2 * HEADS.kv_heads) * HEADS.head_dim;
    let prompt = |seed| {
        let shape = [1, HEADS.kv_heads, PROMPT, HEADS.head_dim];
        random_tensor::<4>(seed, shape, device).autodiff().require_grad()
    };
    let [key, value] = [38, 39].map(prompt);
    let gate = random_tensor::<4>(40, [1, HEADS.heads, 1, 1], device).autodiff().require_grad();
    let qkv = random_tensor::<2>(41, [rows, width], device) * 2;
    let qkv = qkv.autodiff().require_grad();
    let d_out = random_tensor::<2>(42, [rows, HEADS.heads * HEADS.head_dim], device);
    let prompt = GatedPrompt { key, value, gate, lens: None };

    let mut results = Vec::new();
    for (name, window) in [("all positions", None), ("window", Some(9))] {
        let layout = layout(&LENS, HEADS);
        let out = kernels::attention(qkv.clone(), HEADS, &layout, window, Some(&prompt));
        results.push(NamedValues::from_tensor(name, out.clone().inner())?);
        let gradients = (out * Tensor::from_inner(d_out.clone())).sum().backward();
        let named = |part: &str| format!("{name}, gradient of {part}");
        let d_qkv = qkv.grad(&gradients).expect("tracked");
        results.push(NamedValues::from_tensor(named("queries, keys and values"), d_qkv)?);
        let GatedPrompt { key, value, gate, .. } = &prompt;
        for (part, leaf) in [("prompt keys", key), ("prompt values", value), ("gates", gate)] {
            let gradient = leaf.grad(&gradients).expect("tracked");
            results.push(NamedValues::from_tensor(named(part), gradient)?);
        }
    }
    Ok(results)
}

/// The angle of a pair of a head at a position.
fn angle(position: usize, pair: usize) -> f32 {
    position as f32 * 0.7_f32.powi(pair as i32)
}

fn layout(lens: &[usize], heads: AttentionDims) -> SequenceLayout {
    let mut first_row = 0;
    let sequences = lens.iter().map(|&len| {
        first_row += len;
        Sequence { first_row: first_row - len, len, past: 0, padding: 0 }
    });
    let angles = lens.iter().flat_map(|&len| {
        (0..len).flat_map(move |at| (0..heads.head_dim / 2).map(move |pair| angle(at, pair)))
    });
    let (sin, cos) = angles.map(f32::sin_cos).unzip();
    SequenceLayout {
        sequences: Arc::new(sequences.collect()),
        token_rows: None,
        block_tables: None,
        rotary_table: Some(Arc::new(RotaryTable::new(cos, sin))),
        device_tables: DeviceTables::default(),
    }
}
