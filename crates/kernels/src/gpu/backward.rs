//! The operations on the autodiff backend: nodes with their backward passes.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Cube};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::attention::{PromptTensors, SavedAttention};
use super::cross_entropy::cross_entropy;
use super::ops::{GpuOps, GpuPrompt};
use super::rms_norm::{rms_norm, rms_norm_backward};
use super::swiglu::{swiglu, swiglu_backward, swiglu_pair, swiglu_pair_backward};
use super::tensors::{contiguous, contiguous_int, into_float};
use crate::attention_params::AttentionParams;

#[derive(Debug)]
struct RmsNorm;

impl Backward<Cube, 1> for RmsNorm {
    /// Input, weight, epsilon.
    type State = (CubeTensor, CubeTensor, f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = contiguous(grads.consume::<Cube>(&ops.node));
        let (x, weight, epsilon) = ops.state;
        if let [Some(parent)] = ops.parents {
            let d_x = rms_norm_backward(&x, &weight, epsilon, &d_out);
            grads.register::<Cube>(parent.id, into_float(d_x));
        }
    }
}

#[derive(Debug)]
struct SwiGlu;

impl Backward<Cube, 1> for SwiGlu {
    /// The concatenated gates and ups.
    type State = CubeTensor;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = contiguous(grads.consume::<Cube>(&ops.node));
        if let [Some(parent)] = ops.parents {
            grads.register::<Cube>(parent.id, into_float(swiglu_backward(&ops.state, &d_out)));
        }
    }
}

/// Parents: gates and ups.
#[derive(Debug)]
struct SwiGluPair;

impl Backward<Cube, 2> for SwiGluPair {
    type State = [CubeTensor; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = contiguous(grads.consume::<Cube>(&ops.node));
        let [gate, up] = ops.state;
        let gradients = swiglu_pair_backward(&gate, &up, &d_out);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(parent) = parent {
                grads.register::<Cube>(parent.id, into_float(gradient));
            }
        }
    }
}

/// Parents: `qkv`, and the prompt's keys, values and gates if there is one.
#[derive(Debug)]
struct Attention;

impl<const N: usize> Backward<Cube, N> for Attention {
    type State = SavedAttention;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = contiguous(grads.consume::<Cube>(&ops.node));
        let want_qkv = ops.parents[0].is_some();
        let want_prompt = ops.parents[1..].iter().any(Option::is_some);
        let (d_qkv, d_prompt) = ops.state.backward(&d_out, want_qkv, want_prompt);
        let gradients = [d_qkv].into_iter().chain(match d_prompt {
            Some(d_prompt) => d_prompt.map(Some),
            None => [const { None }; 3],
        });
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Cube>(parent.id, into_float(gradient));
            }
        }
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl Backward<Cube, 1> for CrossEntropy {
    /// The gradient of the summed loss.
    type State = CubeTensor;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = contiguous(grads.consume::<Cube>(&ops.node));
        if let [Some(parent)] = ops.parents {
            let factor = CubeBackend::float_reshape(d_out, [1, 1].into());
            let d_hidden = CubeBackend::float_mul(ops.state, factor);
            grads.register::<Cube>(parent.id, into_float(d_hidden));
        }
    }
}

/// Adds an operation whose state is known to the graph.
fn record<O, C, const N: usize>(
    operation: O,
    nodes: [NodeGuard; N],
    state: O::State,
    out: CubeTensor,
) -> FloatTensor<Autodiff<Cube, C>>
where
    O: Backward<Cube, N>,
    C: CheckpointStrategy,
{
    let out = into_float(out);
    match operation.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state, out),
        OpsKind::UnTracked(prepared) => prepared.finish(out),
    }
}

fn record_attention<C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    qkv: CubeTensor,
    prompt: Option<PromptTensors>,
    params: Arc<AttentionParams>,
) -> FloatTensor<Autodiff<Cube, C>> {
    let saved = SavedAttention::forward(qkv, prompt, params);
    let out = saved.out();
    record::<_, C, N>(Attention, nodes, saved, out)
}

impl<C: CheckpointStrategy> GpuOps for Autodiff<Cube, C> {
    fn gpu_rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let node = x.node();
        let x = contiguous(x.into_primitive());
        let weight = contiguous(weight.into_primitive());
        let out = rms_norm(&x, &weight, epsilon);
        record::<_, C, _>(RmsNorm, [node], (x, weight, epsilon), out)
    }

    fn gpu_swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        let node = gate_up.node();
        let gate_up = contiguous(gate_up.into_primitive());
        let out = swiglu(&gate_up);
        record::<_, C, _>(SwiGlu, [node], gate_up, out)
    }

    fn gpu_swiglu_pair(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [gate.node(), up.node()];
        let [gate, up] = [gate, up].map(|x| contiguous(x.into_primitive()));
        let out = swiglu_pair(&gate, &up);
        record::<_, C, _>(SwiGluPair, nodes, [gate, up], out)
    }

    fn gpu_attention(
        qkv: FloatTensor<Self>,
        prompt: GpuPrompt<Self>,
        params: Arc<AttentionParams>,
    ) -> FloatTensor<Self> {
        let qkv_node = qkv.node();
        let qkv = contiguous(qkv.into_primitive());
        let GpuPrompt::Some { key, value, gate } = prompt else {
            return record_attention::<C, _>([qkv_node], qkv, None, params);
        };
        let nodes = [qkv_node, key.node(), value.node(), gate.node()];
        let prompt = [key, value, gate].map(|x| contiguous(x.into_primitive()));
        record_attention::<C, _>(nodes, qkv, Some(prompt), params)
    }

    fn gpu_cross_entropy(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        labels: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let prepared = CrossEntropy.prepare::<C>([hidden.node()]).compute_bound().stateful();
        let [hidden, head] = [hidden, head].map(|x| contiguous(x.into_primitive()));
        let labels = contiguous_int(labels);
        match prepared {
            OpsKind::Tracked(prepared) => {
                let (loss, gradient) = cross_entropy(&hidden, &head, &labels, true);
                let gradient = gradient.expect("the gradient was requested");
                prepared.finish(gradient, into_float(loss))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(into_float(cross_entropy(&hidden, &head, &labels, false).0))
            }
        }
    }
}
