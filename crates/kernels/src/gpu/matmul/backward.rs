//! The operations on the autodiff backend. Matrices are frozen: they have no gradient.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Cube};

use super::device_matrix::DeviceMatrix;
use super::ops::{MatrixOps, OptionalResidual, linears_backward};
use crate::gpu::tensors::{contiguous, into_float};

/// Parents: the input, and the residual if there is one.
#[derive(Debug)]
struct Linears;

impl<const N: usize> Backward<Cube, N> for Linears {
    type State = Vec<Arc<DeviceMatrix>>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = grads.consume::<Cube>(&ops.node);
        let mut parents = ops.parents.into_iter();
        let input = parents.next().expect("a linear layer has an input");
        for residual in parents.flatten() {
            grads.register::<Cube>(residual.id, d_out.clone());
        }
        if let Some(input) = input {
            let d_input = linears_backward(contiguous(d_out), &ops.state);
            grads.register::<Cube>(input.id, into_float(d_input));
        }
    }
}

/// Adds the operation to the graph.
fn record<C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    weights: Vec<Arc<DeviceMatrix>>,
    out: FloatTensor<Cube>,
) -> FloatTensor<Autodiff<Cube, C>> {
    match Linears.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(weights, out),
        OpsKind::UnTracked(prepared) => prepared.finish(out),
    }
}

impl<C: CheckpointStrategy> MatrixOps for Autodiff<Cube, C> {
    fn device_linears(
        input: FloatTensor<Self>,
        residual: OptionalResidual<Self>,
        weights: Vec<Arc<DeviceMatrix>>,
    ) -> FloatTensor<Self> {
        let node = input.node();
        let input = input.into_primitive();
        match residual {
            OptionalResidual::Some(residual) => {
                let nodes = [node, residual.node()];
                let residual = OptionalResidual::Some(residual.into_primitive());
                let out = Cube::device_linears(input, residual, weights.clone());
                record::<C, _>(nodes, weights, out)
            }
            OptionalResidual::None => {
                let out = Cube::device_linears(input, OptionalResidual::None, weights.clone());
                record::<C, _>([node], weights, out)
            }
        }
    }

    fn device_rows(rows: IntTensor<Self>, weight: Arc<DeviceMatrix>) -> FloatTensor<Self> {
        Self::from_inner(Cube::device_rows(rows, weight))
    }
}
