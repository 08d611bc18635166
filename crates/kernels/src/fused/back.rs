//! Backward passes of the fused operations.

use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Flex};

use super::slices::{contiguous, like, new, slice};
use super::{Keep, KernelOps, PromptTensors, attend, inputs, own_rows};
use crate::call::{AttentionParams, KvBuffers};
use crate::cpu;
use crate::cpu::attention::{self, PromptGradients};
use crate::cpu::packed::Packed;
use crate::cpu::simd::SimdLevel;
use crate::cpu::workspace;

type Plain = FloatTensor<Flex>;

/// `d_out · W`, summed over the weights.
fn linears_back(d_out: Plain, weights: &[Arc<Packed>]) -> Plain {
    let _span = tracing::trace_span!("linear, backward").entered();
    let weights = weights.iter().map(AsRef::as_ref).collect::<Vec<_>>();
    let [_rows, columns] = weights[0].dims();
    let width = weights.iter().map(|weight| weight.dims()[0]).sum::<usize>();
    let d_out = contiguous(d_out);
    let n = slice(&d_out).len() / width;
    let mut d_input = vec![0.0; n * columns];
    cpu::product::product_back(SimdLevel::best(), slice(&d_out), &weights, &mut d_input, false);
    new(d_input, [n, columns])
}

#[derive(Debug)]
struct LinearsOnto;

impl Backward<Flex, 2> for LinearsOnto {
    type State = Vec<Arc<Packed>>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = grads.consume::<Flex>(&ops.node);
        let [input, residual] = ops.parents;
        if let Some(residual) = residual {
            grads.register::<Flex>(residual.id, d_out.clone());
        }
        if let Some(input) = input {
            grads.register::<Flex>(input.id, linears_back(d_out, &ops.state));
        }
    }
}

#[derive(Debug)]
struct Linears;

impl Backward<Flex, 1> for Linears {
    type State = Vec<Arc<Packed>>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = grads.consume::<Flex>(&ops.node);
        let [input] = ops.parents;
        if let Some(input) = input {
            grads.register::<Flex>(input.id, linears_back(d_out, &ops.state));
        }
    }
}

#[derive(Debug)]
struct RmsNorm;

impl Backward<Flex, 1> for RmsNorm {
    type State = (Plain, Plain, f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let _span = tracing::trace_span!("norm, backward").entered();
        let d_out = contiguous(grads.consume::<Flex>(&ops.node));
        let (x, weight, epsilon) = ops.state;
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let mut d_x = vec![0.0; slice(&x).len()];
            let level = SimdLevel::best();
            cpu::norm::rms_norm_backward(
                level,
                slice(&x),
                slice(&weight),
                epsilon,
                slice(&d_out),
                &mut d_x,
            );
            grads.register::<Flex>(parent.id, like(d_x, &x));
        }
    }
}

#[derive(Debug)]
struct SwiGlu;

impl Backward<Flex, 1> for SwiGlu {
    type State = Plain;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let _span = tracing::trace_span!("swiglu, backward").entered();
        let d_out = contiguous(grads.consume::<Flex>(&ops.node));
        let both = ops.state;
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let [_n, width] = super::slices::dims(&both);
            let mut d_both = vec![0.0; slice(&both).len()];
            let level = SimdLevel::best();
            cpu::swiglu::swiglu_backward(
                level,
                slice(&both),
                width / 2,
                slice(&d_out),
                &mut d_both,
            );
            grads.register::<Flex>(parent.id, like(d_both, &both));
        }
    }
}

/// What the way back through an attention looks at.
#[derive(Debug, Clone)]
struct Attended {
    qkv: Plain,
    prompt: Option<PromptTensors>,
    out: Plain,
    lse: Arc<Vec<f32>>,
    call: Arc<AttentionParams>,
}

impl Attended {
    /// The way there.
    fn new(qkv: Plain, prompt: Option<PromptTensors>, call: Arc<AttentionParams>) -> Self {
        let (out, lse) = attend(&qkv, prompt.as_ref(), &call, Keep::Sums);
        Self { qkv, prompt, out, lse: Arc::new(lse), call }
    }

    /// Gradients of queries, keys and values, and of the prompt's keys, values and gates.
    fn back(
        &self,
        d_out: Plain,
        want_qkv: bool,
        want_prompt: bool,
    ) -> (Option<Plain>, Option<PromptTensors>) {
        let _span = tracing::trace_span!("attention, backward").entered();
        let d_out = contiguous(d_out);
        let (out, d_out) = (slice(&self.out), slice(&d_out));
        let zeros = |tensor: &Plain| vec![0.0; slice(tensor).len()];
        let mut d_qkv = want_qkv.then(|| zeros(&self.qkv));
        let prompt = self.prompt.as_ref().filter(|_| want_prompt);
        let mut d_prompt = prompt.map(|prompt| prompt.each_ref().map(zeros));
        let gradients =
            d_prompt.as_mut().map(|[key, value, gate]| PromptGradients { key, value, gate });
        own_rows::with(&self.call, slice(&self.qkv), |qkv, rotation| {
            let inputs = inputs(qkv, rotation, self.prompt.as_ref(), &self.call);
            let back = |out: &[f32], d_out: &[f32], d_qkv: Option<&mut [f32]>| {
                let level = SimdLevel::best();
                attention::backward(level, &inputs, out, &self.lse, d_out, d_qkv, gradients);
            };
            let Some(rows) = &self.call.rows else {
                return back(out, d_out, d_qkv.as_deref_mut());
            };
            let width = self.call.heads.heads * self.call.heads.head_dim;
            let part = rows.len() * width;
            let wanted = if want_qkv { qkv.len() } else { 0 };
            workspace::with(2 * part + wanted, |buffer| {
                let (own_out, rest) = buffer.split_at_mut(part);
                let (own_d_out, own_d_qkv) = rest.split_at_mut(part);
                own_rows::unfold(rows, out, own_out);
                own_rows::gather_first_rows(rows, d_out, own_d_out);
                back(own_out, own_d_out, want_qkv.then_some(&mut *own_d_qkv));
                if let Some(d_qkv) = &mut d_qkv {
                    own_rows::scatter_add_rows(rows, own_d_qkv, d_qkv);
                }
            });
        });
        let d_qkv = d_qkv.map(|d_qkv| like(d_qkv, &self.qkv));
        let d_prompt = prompt.zip(d_prompt).map(|(prompt, [key, value, gate])| {
            [like(key, &prompt[0]), like(value, &prompt[1]), like(gate, &prompt[2])]
        });
        (d_qkv, d_prompt)
    }
}

#[derive(Debug)]
struct Attention;

impl Backward<Flex, 1> for Attention {
    type State = Attended;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = grads.consume::<Flex>(&ops.node);
        let [parent] = ops.parents;
        if let (Some(parent), (Some(d_qkv), _)) = (parent, ops.state.back(d_out, true, false)) {
            grads.register::<Flex>(parent.id, d_qkv);
        }
    }
}

#[derive(Debug)]
struct PromptedAttention;

impl Backward<Flex, 4> for PromptedAttention {
    type State = Attended;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = grads.consume::<Flex>(&ops.node);
        let [qkv, prompt @ ..] = ops.parents;
        let want_prompt = prompt.iter().any(Option::is_some);
        let (d_qkv, d_prompt) = ops.state.back(d_out, qkv.is_some(), want_prompt);
        let mut register = |id: NodeId, gradient| grads.register::<Flex>(id, gradient);
        if let (Some(parent), Some(d_qkv)) = (qkv, d_qkv) {
            register(parent.id, d_qkv);
        }
        for (parent, gradient) in prompt.into_iter().zip(d_prompt.into_iter().flatten()) {
            if let Some(parent) = parent {
                register(parent.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl Backward<Flex, 1> for CrossEntropy {
    /// The gradient of the sum of losses.
    type State = Plain;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = contiguous(grads.consume::<Flex>(&ops.node));
        let factor = slice(&d_out)[0];
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            let d_hidden = slice(&ops.state).iter().map(|value| value * factor).collect();
            grads.register::<Flex>(parent.id, like(d_hidden, &ops.state));
        }
    }
}

impl<C: CheckpointStrategy> KernelOps for Autodiff<Flex, C> {
    fn linears(input: FloatTensor<Self>, weights: Vec<Arc<Packed>>) -> FloatTensor<Self> {
        let prepared = Linears.prepare::<C>([input.node()]).compute_bound().stateful();
        let out = Flex::linears(input.into_primitive(), weights.clone());
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(weights, out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }

    fn linears_with_residual(
        input: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        weights: Vec<Arc<Packed>>,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), residual.node()];
        let prepared = LinearsOnto.prepare::<C>(nodes).compute_bound().stateful();
        let residual = residual.into_primitive();
        let out = Flex::linears_with_residual(input.into_primitive(), residual, weights.clone());
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(weights, out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }

    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let prepared = RmsNorm.prepare::<C>([x.node()]).compute_bound().stateful();
        let x = contiguous(x.into_primitive());
        let weight = contiguous(weight.into_primitive());
        let out = Flex::rms_norm(x.clone(), weight.clone(), epsilon);
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish((x, weight, epsilon), out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }

    fn swiglu(both: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = SwiGlu.prepare::<C>([both.node()]).compute_bound().stateful();
        let both = contiguous(both.into_primitive());
        let out = Flex::swiglu(both.clone());
        match prepared {
            OpsKind::Tracked(prepared) => prepared.finish(both, out),
            OpsKind::UnTracked(prepared) => prepared.finish(out),
        }
    }

    fn attention(qkv: FloatTensor<Self>, call: Arc<AttentionParams>) -> FloatTensor<Self> {
        let prepared = Attention.prepare::<C>([qkv.node()]).compute_bound().stateful();
        let qkv = contiguous(qkv.into_primitive());
        match prepared {
            OpsKind::Tracked(prepared) => {
                let state = Attended::new(qkv, None, call);
                let out = state.out.clone();
                prepared.finish(state, out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(Flex::attention(qkv, call)),
        }
    }

    fn prompted_attention(
        qkv: FloatTensor<Self>,
        prompt_key: FloatTensor<Self>,
        prompt_value: FloatTensor<Self>,
        prompt_gate: FloatTensor<Self>,
        call: Arc<AttentionParams>,
    ) -> FloatTensor<Self> {
        let nodes = [qkv.node(), prompt_key.node(), prompt_value.node(), prompt_gate.node()];
        let prepared = PromptedAttention.prepare::<C>(nodes).compute_bound().stateful();
        let prompt = [prompt_key, prompt_value, prompt_gate];
        let prompt = prompt.map(|tensor| contiguous(tensor.into_primitive()));
        let qkv = contiguous(qkv.into_primitive());
        match prepared {
            OpsKind::Tracked(prepared) => {
                let state = Attended::new(qkv, Some(prompt), call);
                let out = state.out.clone();
                prepared.finish(state, out)
            }
            OpsKind::UnTracked(prepared) => {
                let [key, value, gate] = prompt;
                prepared.finish(Flex::prompted_attention(qkv, key, value, gate, call))
            }
        }
    }

    fn cached_attention(
        qkv: FloatTensor<Self>,
        call: Arc<AttentionParams>,
        cache: &mut KvBuffers,
    ) -> FloatTensor<Self> {
        Self::from_inner(Flex::cached_attention(qkv.into_primitive(), call, cache))
    }

    fn prompted_cached_attention(
        qkv: FloatTensor<Self>,
        prompt_key: FloatTensor<Self>,
        prompt_value: FloatTensor<Self>,
        prompt_gate: FloatTensor<Self>,
        call: Arc<AttentionParams>,
        cache: &mut KvBuffers,
    ) -> FloatTensor<Self> {
        let plain = [qkv, prompt_key, prompt_value, prompt_gate];
        let [qkv, key, value, gate] = plain.map(FloatTensor::<Self>::into_primitive);
        let out = Flex::prompted_cached_attention(qkv, key, value, gate, call, cache);
        Self::from_inner(out)
    }

    fn cross_entropy(
        hidden: FloatTensor<Self>,
        head: Arc<Packed>,
        labels: Arc<Vec<usize>>,
    ) -> FloatTensor<Self> {
        let prepared = CrossEntropy.prepare::<C>([hidden.node()]).compute_bound().stateful();
        let hidden = contiguous(hidden.into_primitive());
        match prepared {
            OpsKind::Tracked(prepared) => {
                let _span = tracing::trace_span!("head and loss").entered();
                let mut d_hidden = vec![0.0; slice(&hidden).len()];
                let x = slice(&hidden);
                let loss = cpu::cross_entropy::cross_entropy(
                    SimdLevel::best(),
                    x,
                    &head,
                    &labels,
                    Some(&mut d_hidden),
                );
                prepared.finish(like(d_hidden, &hidden), new(vec![loss as f32], [1]))
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(Flex::cross_entropy(hidden, head, labels))
            }
        }
    }
}
