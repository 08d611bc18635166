//! Kernels of GPUs compared with the same operations composed of tensor operations, or with those of CPUs,
//! on the GPUs among the test devices, which `LLAMA_ADAPTER_TEST_DEVICES` names.

mod attention;

use burn::tensor::activation::{log_softmax, silu};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use kernels::{
    GpuKernel, count_launches, dense_cross_entropy, has_gpu_kernel, rms_norm, swiglu, swiglu_pair,
};
use testing::{assert_close, assert_close_relative};

/// The test devices that have a kernel.
fn devices(kernel: GpuKernel) -> Vec<Device> {
    testing::devices().into_iter().filter(|device| has_gpu_kernel(device, kernel)).collect()
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Compares values, and the gradients of all inputs for a random gradient of the output. Both passes
/// launch as many kernels as expected.
fn check<const D: usize, const N: usize, const E: usize>(
    what: &str,
    launches: [usize; 2],
    inputs: [Tensor<D>; N],
    fused: impl Fn([Tensor<D>; N]) -> Tensor<E>,
    plain: impl Fn([Tensor<D>; N]) -> Tensor<E>,
) {
    let expected = plain(inputs.clone());
    let d_out = random(expected.dims(), &expected.device());
    let (found, forward) = count_launches(|| fused(inputs.clone()));
    assert_eq!(forward.fused, launches[0], "{what}: launches of the forward pass");
    assert_close(what, found, expected, 2e-5);
    let gradients = |work: &dyn Fn([Tensor<D>; N]) -> Tensor<E>| {
        let leaves = inputs.each_ref().map(|input| input.clone().autodiff().require_grad());
        let loss = (work(leaves.clone()) * Tensor::from_inner(d_out.clone())).sum();
        let (gradients, backward) = count_launches(|| loss.backward());
        let gradients = leaves.map(|leaf| leaf.grad(&gradients).expect("every input has one"));
        (gradients, backward)
    };
    let (found, backward) = gradients(&fused);
    assert_eq!(backward.fused, launches[1], "{what}: launches of the backward pass");
    for (found, expected) in found.into_iter().zip(gradients(&plain).0) {
        assert_close_relative(&format!("{what}, gradient"), found, expected, 2e-5);
    }
}

#[test]
fn rms_norm_of_rows_of_any_width() {
    for device in devices(GpuKernel::RmsNorm) {
        for [rows, width] in [[1, 3], [1, 64], [300, 65], [7, 576]] {
            let weight = random([width], &device);
            check(
                &format!("norm of {rows} rows of {width}"),
                [1, 1],
                [random([1, rows, width], &device)],
                |[x]| rms_norm(x, weight.clone(), 1e-3),
                |[x]| {
                    let mean_square = x.clone().square().mean_dim(2);
                    x * (mean_square + 1e-3).sqrt().recip() * weight.clone().unsqueeze()
                },
            );
        }
    }
}

#[test]
fn rms_norm_of_transposed_heads() {
    for device in devices(GpuKernel::RmsNorm) {
        let (weight, x) = (random([8], &device), random([2, 5, 3, 8], &device));
        let heads = rms_norm(x.clone().swap_dims(1, 2), weight.clone(), 1e-5);
        assert_close("heads", heads.swap_dims(1, 2), rms_norm(x, weight, 1e-5), 1e-6);
    }
}

#[test]
fn swiglu_of_rows_and_of_pairs() {
    for device in devices(GpuKernel::SwiGlu) {
        for [rows, width] in [[1, 1], [300, 21], [3, 1536]] {
            check(
                &format!("swiglu of {rows} rows of {width}"),
                [1, 1],
                [random([rows, 2 * width], &device)],
                |[both]| swiglu(both),
                |[both]| silu(both.clone().narrow(1, 0, width)) * both.narrow(1, width, width),
            );
            check(
                &format!("swiglu of pairs, {rows} rows of {width}"),
                [1, 1],
                [random([1, rows, width], &device), random([1, rows, width], &device)],
                |[gate, up]| swiglu_pair(gate, up),
                |[gate, up]| silu(gate) * up,
            );
        }
    }
}

/// As many rows as several chunks of logits have: a chunk has 512 at most.
#[test]
fn cross_entropy_of_one_row_and_of_several_chunks() {
    for device in devices(GpuKernel::CrossEntropy) {
        for [rows, vocab] in [[1, 3], [7, 1000], [1025, 40]] {
            let head = random([vocab, 24], &device);
            let ids = (0..rows).map(|row| (row * 7 % vocab) as i64).collect::<Vec<_>>();
            let labels = Tensor::<1, Int>::from_data(TensorData::new(ids, [rows]), &device);
            let chunks = rows.div_ceil(512);
            check(
                &format!("cross-entropy of {rows} rows of {vocab}"),
                [chunks + 1, 0],
                [random([rows, 24], &device)],
                |[hidden]| dense_cross_entropy(hidden, head.clone(), labels.clone()),
                |[hidden]| {
                    let logits = hidden.matmul(head.clone().transpose());
                    let labels = labels.clone().reshape([rows, 1]);
                    log_softmax(logits, 1).gather(1, labels).sum().neg()
                },
            );
        }
    }
}
