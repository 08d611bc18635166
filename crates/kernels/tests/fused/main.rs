//! Fused operations compared with the same operations composed of tensor operations: values, and
//! gradients through Burn's autodiff. The kernels themselves are tested in `src/cpu`, at every
//! instruction set and with finite differences.

mod attention;
mod gpu;

use burn::tensor::activation::{log_softmax, silu};
use burn::tensor::{DType, Distribution, Int, Tensor, TensorData};
use kernels::{PackedWeight, cross_entropy, is_fused, linears, rms_norm, swiglu};
use testing::{assert_close, assert_close_relative, flex, values};

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &flex())
}

fn pack(dense: &Tensor<2>, dtype: DType) -> PackedWeight {
    let data = TensorData::new(values(dense.clone()), dense.dims()).convert_dtype(dtype);
    PackedWeight::new(data, &flex())
}

fn leaf<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    tensor.clone().autodiff().require_grad()
}

/// Compares values, and the gradients of all inputs for a random gradient of the output.
fn check<const D: usize, const N: usize, const E: usize>(
    what: &str,
    inputs: [Tensor<D>; N],
    fused: impl Fn([Tensor<D>; N]) -> Tensor<E>,
    plain: impl Fn([Tensor<D>; N]) -> Tensor<E>,
) {
    assert_close(what, fused(inputs.clone()), plain(inputs.clone()), 2e-5);
    let weights = random(plain(inputs.clone()).dims());
    let gradients = |work: &dyn Fn([Tensor<D>; N]) -> Tensor<E>| {
        let leaves = inputs.each_ref().map(leaf);
        let loss = (work(leaves.clone()) * Tensor::from_inner(weights.clone())).sum();
        let gradients = loss.backward();
        leaves.map(|leaf| leaf.grad(&gradients).expect("every input has a gradient"))
    };
    for (found, expected) in gradients(&fused).into_iter().zip(gradients(&plain)) {
        assert_close_relative(&format!("{what}, gradient"), found, expected, 2e-5);
    }
}

#[test]
fn only_flex_is_fused_with_or_without_autodiff() {
    assert!(is_fused(&flex()) && is_fused(&flex().autodiff()));
    for device in testing::devices() {
        assert_eq!(is_fused(&device), device == flex(), "{device:?}");
    }
}

#[test]
fn linears_with_and_without_residual() {
    let (a, b) = (random([50, 24]), random([7, 24]));
    let packed = [pack(&a, DType::F32), pack(&b, DType::F32)];
    let plain = |x: Tensor<2>| {
        let part = |weight: &Tensor<2>| x.clone().matmul(weight.clone().transpose());
        Tensor::cat(vec![part(&a), part(&b)], 1)
    };
    for rows in [1, 3, 9] {
        check(
            "linears",
            [random([rows, 24])],
            |[x]| linears(x, None, &[&packed[0], &packed[1]]),
            |[x]| plain(x),
        );
    }
    // The weight is square: input and residual have the same shape.
    let square = random([24, 24]);
    let packed_square = pack(&square, DType::F32);
    check(
        "linear with residual",
        [random([5, 24]), random([5, 24])],
        |[x, residual]| linears(x, Some(residual), &[&packed_square]),
        |[x, residual]| residual + x.matmul(square.clone().transpose()),
    );
}

#[test]
fn an_untracked_input_gets_no_gradient_and_a_tracked_residual_does() {
    let weight = pack(&random([8, 8]), DType::F32);
    let residual = leaf(&random([2, 8]));
    let gradients = linears(random([2, 8]), Some(residual.clone()), &[&weight]).sum().backward();
    assert_eq!(values(residual.grad(&gradients).unwrap()), [1.0; 16]);
}

#[test]
fn a_packed_weight_round_trips() {
    for (dtype, bits) in [(DType::F32, 32), (DType::BF16, 16), (DType::F16, 16)] {
        let rounded = random([33, 20]).cast(dtype).cast(DType::F32);
        let packed = pack(&rounded, dtype);
        assert_eq!((packed.dims(), packed.bits()), ([33, 20], bits));
        assert_eq!(values(packed.to_dense()), values(rounded.clone()));
        let ids = Tensor::<1, Int>::from_ints([32, 0, 32], &flex());
        assert_eq!(values(packed.select(ids.clone())), values(rounded.select(0, ids)));
    }
}

#[test]
fn rms_norm_and_swiglu_match_tensor_operations() {
    let weight = random([20]);
    check(
        "norm",
        [random([2, 3, 20])],
        |[x]| rms_norm(x, weight.clone(), 1e-3),
        |[x]| {
            let mean_square = x.clone().square().mean_dim(2);
            x * (mean_square + 1e-3).sqrt().recip() * weight.clone().unsqueeze()
        },
    );
    check(
        "swiglu",
        [random([3, 42])],
        |[both]| swiglu(both),
        |[both]| silu(both.clone().narrow(1, 0, 21)) * both.narrow(1, 21, 21),
    );
}

#[test]
fn a_trainable_norm_weight_gets_a_gradient() {
    let weight = leaf(&random([20]));
    let gradients = rms_norm(random([3, 20]), weight.clone(), 1e-3).square().sum().backward();
    assert!(values(weight.grad(&gradients).unwrap()).iter().all(|value| *value != 0.0));
}

#[test]
fn cross_entropy_matches_tensor_operations() {
    let dense = random([70, 12]);
    let head = pack(&dense, DType::F32);
    let labels = Tensor::<1, Int>::from_ints([3, 69, 0, 3], &flex());
    check(
        "cross-entropy",
        [random([4, 12])],
        |[hidden]| cross_entropy(hidden, &head, labels.clone()),
        |[hidden]| {
            let logits = hidden.matmul(dense.clone().transpose());
            log_softmax(logits, 1).gather(1, labels.clone().unsqueeze_dim(1)).sum().neg()
        },
    );
}
