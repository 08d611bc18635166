//! The fused operations on the autodiff backend: nodes with their backward passes.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Flex};

use super::attention::{PromptTensors, SavedAttention};
use super::ops::{KernelOps, OptionalPrompt, OptionalResidual, cross_entropy_forward};
use super::tensors::{as_slice, contiguous, dims, from_vec, from_vec_like};
use crate::attention_params::{AttentionParams, KvBuffers};
use crate::cpu;
use crate::cpu::attention::PromptTable;
use crate::cpu::packed_matrix::PackedMatrix;
use crate::cpu::simd::SimdLevel;

type FlexFloat = FloatTensor<Flex>;

/// Parents: the input, and the residual if there is one.
#[derive(Debug)]
struct Linears;

impl<const N: usize> Backward<Flex, N> for Linears {
    type State = Vec<Arc<PackedMatrix>>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = grads.consume::<Flex>(&ops.node);
        let mut parents = ops.parents.into_iter();
        let input = parents.next().expect("a linear layer has an input");
        for residual in parents.flatten() {
            grads.register::<Flex>(residual.id, d_out.clone());
        }
        if let Some(input) = input {
            grads.register::<Flex>(input.id, linears_backward(d_out, &ops.state));
        }
    }
}

/// `d_out · W`, summed over the weights.
fn linears_backward(d_out: FlexFloat, weights: &[Arc<PackedMatrix>]) -> FlexFloat {
    let _span = tracing::trace_span!("linear, backward").entered();
    let weights = weights.iter().map(AsRef::as_ref).collect::<Vec<_>>();
    let [_rows, columns] = weights[0].dims();
    let width = weights.iter().map(|weight| weight.dims()[0]).sum::<usize>();
    let d_out = contiguous(d_out);
    let n = as_slice(&d_out).len() / width;
    let mut d_input = vec![0.0; n * columns];
    let level = SimdLevel::best();
    cpu::gemm::gemm_backward(level, as_slice(&d_out), &weights, &mut d_input, false);
    from_vec(d_input, [n, columns])
}

#[derive(Debug)]
struct RmsNorm;

impl Backward<Flex, 1> for RmsNorm {
    /// Input, weight, epsilon.
    type State = (FlexFloat, FlexFloat, f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let _span = tracing::trace_span!("norm, backward").entered();
        let d_out = contiguous(grads.consume::<Flex>(&ops.node));
        let (x, weight, epsilon) = ops.state;
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let mut d_x = vec![0.0; as_slice(&x).len()];
            cpu::norm::rms_norm_backward(
                SimdLevel::best(),
                as_slice(&x),
                as_slice(&weight),
                epsilon,
                as_slice(&d_out),
                &mut d_x,
            );
            grads.register::<Flex>(parent.id, from_vec_like(d_x, &x));
        }
    }
}

#[derive(Debug)]
struct SwiGlu;

impl Backward<Flex, 1> for SwiGlu {
    /// The concatenated gates and ups.
    type State = FlexFloat;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let _span = tracing::trace_span!("swiglu, backward").entered();
        let d_out = contiguous(grads.consume::<Flex>(&ops.node));
        let gate_up = ops.state;
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let [_n, width] = dims(&gate_up);
            let mut d_gate_up = vec![0.0; as_slice(&gate_up).len()];
            cpu::swiglu::swiglu_backward(
                SimdLevel::best(),
                as_slice(&gate_up),
                width / 2,
                as_slice(&d_out),
                &mut d_gate_up,
            );
            grads.register::<Flex>(parent.id, from_vec_like(d_gate_up, &gate_up));
        }
    }
}

/// Parents: `qkv`, and the prompt's keys, values and gates if there is one.
#[derive(Debug)]
struct Attention;

impl<const N: usize> Backward<Flex, N> for Attention {
    type State = SavedAttention;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = grads.consume::<Flex>(&ops.node);
        let want_qkv = ops.parents[0].is_some();
        let want_prompt = ops.parents[1..].iter().any(Option::is_some);
        let (d_qkv, d_prompt) = ops.state.backward(d_out, want_qkv, want_prompt);
        let gradients = [d_qkv].into_iter().chain(match d_prompt {
            Some(d_prompt) => d_prompt.map(Some),
            None => [const { None }; 3],
        });
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl Backward<Flex, 1> for CrossEntropy {
    /// The gradient of the summed loss.
    type State = FlexFloat;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = contiguous(grads.consume::<Flex>(&ops.node));
        let factor = as_slice(&d_out)[0];
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let d_hidden = as_slice(&ops.state).iter().map(|value| value * factor).collect();
            grads.register::<Flex>(parent.id, from_vec_like(d_hidden, &ops.state));
        }
    }
}

/// Adds an operation whose state is known to the graph.
fn record<O, C, const N: usize>(
    operation: O,
    nodes: [NodeGuard; N],
    state: O::State,
    out: FlexFloat,
) -> FloatTensor<Autodiff<Flex, C>>
where
    O: Backward<Flex, N>,
    C: CheckpointStrategy,
{
    match operation.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state, out),
        OpsKind::UnTracked(prepared) => prepared.finish(out),
    }
}

/// Attention; computes the state only if a parent is tracked.
fn record_attention<C: CheckpointStrategy, const N: usize>(
    nodes: [NodeGuard; N],
    qkv: FlexFloat,
    prompt: Option<PromptTensors>,
    params: Arc<AttentionParams>,
) -> FloatTensor<Autodiff<Flex, C>> {
    match Attention.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => {
            let state = SavedAttention::forward(qkv, prompt, params);
            let out = state.out();
            prepared.finish(state, out)
        }
        OpsKind::UnTracked(prepared) => {
            let prompt = prompt.map_or(OptionalPrompt::None, |[key, value, gate]| {
                OptionalPrompt::Some { key, value, gate }
            });
            prepared.finish(Flex::attention(qkv, prompt, params))
        }
    }
}

impl<C: CheckpointStrategy> KernelOps for Autodiff<Flex, C> {
    fn linears(
        input: FloatTensor<Self>,
        residual: OptionalResidual<Self>,
        weights: Vec<Arc<PackedMatrix>>,
    ) -> FloatTensor<Self> {
        let node = input.node();
        let input = input.into_primitive();
        match residual {
            OptionalResidual::Some(residual) => {
                let nodes = [node, residual.node()];
                let residual = OptionalResidual::Some(residual.into_primitive());
                let out = Flex::linears(input, residual, weights.clone());
                record::<_, C, _>(Linears, nodes, weights, out)
            }
            OptionalResidual::None => {
                let out = Flex::linears(input, OptionalResidual::None, weights.clone());
                record::<_, C, _>(Linears, [node], weights, out)
            }
        }
    }

    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let node = x.node();
        let x = contiguous(x.into_primitive());
        let weight = contiguous(weight.into_primitive());
        let out = Flex::rms_norm(x.clone(), weight.clone(), epsilon);
        record::<_, C, _>(RmsNorm, [node], (x, weight, epsilon), out)
    }

    fn swiglu(gate_up: FloatTensor<Self>) -> FloatTensor<Self> {
        let node = gate_up.node();
        let gate_up = contiguous(gate_up.into_primitive());
        let out = Flex::swiglu(gate_up.clone());
        record::<_, C, _>(SwiGlu, [node], gate_up, out)
    }

    fn attention(
        qkv: FloatTensor<Self>,
        prompt: OptionalPrompt<Self>,
        params: Arc<AttentionParams>,
    ) -> FloatTensor<Self> {
        let qkv_node = qkv.node();
        let qkv = contiguous(qkv.into_primitive());
        let OptionalPrompt::Some { key, value, gate } = prompt else {
            return record_attention::<C, _>([qkv_node], qkv, None, params);
        };
        let nodes = [qkv_node, key.node(), value.node(), gate.node()];
        let prompt = [key, value, gate].map(|x| contiguous(x.into_primitive()));
        record_attention::<C, _>(nodes, qkv, Some(prompt), params)
    }

    fn cached_attention(
        qkv: FloatTensor<Self>,
        params: Arc<AttentionParams>,
        prompts: &PromptTable,
        separate_branch: bool,
        cache: &mut KvBuffers,
    ) -> FloatTensor<Self> {
        let qkv = qkv.into_primitive();
        Self::from_inner(Flex::cached_attention(qkv, params, prompts, separate_branch, cache))
    }

    fn cross_entropy(
        hidden: FloatTensor<Self>,
        head: Arc<PackedMatrix>,
        labels: Arc<Vec<usize>>,
    ) -> FloatTensor<Self> {
        let prepared = CrossEntropy.prepare::<C>([hidden.node()]).compute_bound().stateful();
        let hidden = contiguous(hidden.into_primitive());
        match prepared {
            OpsKind::Tracked(prepared) => {
                let mut d_hidden = vec![0.0; as_slice(&hidden).len()];
                let loss = cross_entropy_forward(&hidden, &head, &labels, Some(&mut d_hidden));
                prepared.finish(from_vec_like(d_hidden, &hidden), loss)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(Flex::cross_entropy(hidden, head, labels))
            }
        }
    }
}
