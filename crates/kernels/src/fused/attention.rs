//! Forward and backward pass of attention on the flex backend.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;

use super::shared_rows;
use super::tensors::{as_slice, contiguous, dims, from_vec, from_vec_like};
use crate::attention_params::{AttentionParams, KvBuffers, SequenceLayout};
use crate::cpu::attention::{
    self, AttentionInputs, AttentionOutputs, KvCacheView, PromptGradients, PromptTable, PromptView,
    Prompts, Rotation,
};
use crate::cpu::simd::SimdLevel;
use crate::cpu::workspace;

type FlexFloat = FloatTensor<Flex>;

/// Keys, values and gates of a prompt, contiguous.
pub(super) type PromptTensors = [FlexFloat; 3];

/// The attention heads, and with `with_lse` the log-sum-exp of each head of each token, which the
/// backward pass needs.
pub(super) fn attention_forward(
    qkv: &FlexFloat,
    prompt: Option<&PromptTensors>,
    params: &AttentionParams,
    with_lse: bool,
) -> (FlexFloat, Vec<f32>) {
    let _span = tracing::trace_span!("attention").entered();
    let [n, _width] = dims(qkv);
    let token_rows = params.layout.token_rows.as_deref();
    let tokens = token_rows.map_or(n, Vec::len);
    let width = params.heads.heads * params.heads.head_dim;
    let mut out = vec![0.0; n * width];
    let mut lse = if with_lse { vec![0.0; tokens * params.heads.heads] } else { Vec::new() };
    shared_rows::with_expanded_rows(params, as_slice(qkv), |qkv, rotation| {
        let inputs = attention_inputs(qkv, rotation, stacked_prompts(prompt, params), params);
        let mut forward = |heads: &mut [f32]| {
            let lse = with_lse.then_some(&mut lse[..]);
            let outputs = AttentionOutputs { heads, branch: None, lse };
            attention::forward(SimdLevel::best(), &inputs, None, outputs);
        };
        match token_rows {
            None => forward(&mut out),
            Some(rows) => workspace::with_buffer(tokens * width, |token_out| {
                forward(token_out);
                shared_rows::scatter_first_rows(rows, token_out, &mut out);
            }),
        }
    });
    (from_vec(out, [n, width]), lse)
}

/// The attention heads of sequences with a cache, and below them, with `separate_branch`, what the
/// prompts add.
pub(super) fn cached_attention_forward(
    qkv: &FlexFloat,
    params: &AttentionParams,
    prompts: &PromptTable,
    separate_branch: bool,
    KvBuffers { keys, values }: &mut KvBuffers,
) -> FlexFloat {
    let _span = tracing::trace_span!("attention").entered();
    let SequenceLayout { token_rows, block_tables, rotary_table, .. } = &params.layout;
    assert!(token_rows.is_none(), "sequences with a cache cannot share rows");
    let tables =
        block_tables.as_ref().expect("the layout of sequences with a cache has their blocks");
    let [n, _width] = dims(qkv);
    let width = params.heads.heads * params.heads.head_dim;
    let rows = if separate_branch { 2 * n } else { n };
    let mut out = vec![0.0; rows * width];
    let (heads, branch) = out.split_at_mut(n * width);
    let outputs = AttentionOutputs { heads, branch: separate_branch.then_some(branch), lse: None };
    let rotation = rotary_table.as_ref().map(|table| Rotation { cos: &table.cos, sin: &table.sin });
    let inputs = attention_inputs(as_slice(qkv), rotation, Prompts::Listed(prompts), params);
    let cache = KvCacheView { keys, values, tables };
    attention::forward(SimdLevel::best(), &inputs, Some(cache), outputs);
    from_vec(out, [rows, width])
}

/// The arguments as the kernel takes them.
fn attention_inputs<'a>(
    qkv: &'a [f32],
    rotation: Option<Rotation<'a>>,
    prompts: Prompts<'a>,
    params: &'a AttentionParams,
) -> AttentionInputs<'a> {
    AttentionInputs {
        heads: params.heads,
        qkv,
        rotation,
        sequences: &params.layout.sequences,
        window: params.window,
        prompts,
    }
}

/// A prompt with gradients.
fn stacked_prompts<'a>(
    prompt: Option<&'a PromptTensors>,
    params: &'a AttentionParams,
) -> Prompts<'a> {
    let Some([key, value, gate]) = prompt else { return Prompts::None };
    let [batches, _kv_heads, len, _head_dim] = dims(key);
    Prompts::Stacked(PromptView {
        key: as_slice(key),
        value: as_slice(value),
        gate: as_slice(gate),
        batches,
        len,
        lens: params.prompt_lens.as_deref(),
    })
}

/// State for the backward pass of an attention.
#[derive(Debug, Clone)]
pub(super) struct SavedAttention {
    qkv: FlexFloat,
    prompt: Option<PromptTensors>,
    out: FlexFloat,
    lse: Arc<Vec<f32>>,
    params: Arc<AttentionParams>,
}

impl SavedAttention {
    /// Runs the forward pass; `qkv` is contiguous.
    pub fn forward(
        qkv: FlexFloat,
        prompt: Option<PromptTensors>,
        params: Arc<AttentionParams>,
    ) -> Self {
        let (out, lse) = attention_forward(&qkv, prompt.as_ref(), &params, true);
        Self { qkv, prompt, out, lse: Arc::new(lse), params }
    }

    /// The attention heads.
    pub fn out(&self) -> FlexFloat {
        self.out.clone()
    }

    /// The gradients of `qkv` and of the prompt, as far as they are requested.
    pub fn backward(
        &self,
        d_out: FlexFloat,
        want_qkv: bool,
        want_prompt: bool,
    ) -> (Option<FlexFloat>, Option<PromptTensors>) {
        let _span = tracing::trace_span!("attention, backward").entered();
        let d_out = contiguous(d_out);
        let (out, d_out) = (as_slice(&self.out), as_slice(&d_out));
        let zeros = |tensor: &FlexFloat| vec![0.0; as_slice(tensor).len()];
        let mut d_qkv = want_qkv.then(|| zeros(&self.qkv));
        let prompt = self.prompt.as_ref().filter(|_| want_prompt);
        let mut d_prompt = prompt.map(|prompt| prompt.each_ref().map(zeros));
        let gradients =
            d_prompt.as_mut().map(|[key, value, gate]| PromptGradients { key, value, gate });
        shared_rows::with_expanded_rows(&self.params, as_slice(&self.qkv), |qkv, rotation| {
            let prompts = stacked_prompts(self.prompt.as_ref(), &self.params);
            let inputs = attention_inputs(qkv, rotation, prompts, &self.params);
            let backward = |out: &[f32], d_out: &[f32], d_qkv: Option<&mut [f32]>| {
                let level = SimdLevel::best();
                attention::backward(level, &inputs, out, &self.lse, d_out, d_qkv, gradients);
            };
            let Some(rows) = &self.params.layout.token_rows else {
                return backward(out, d_out, d_qkv.as_deref_mut());
            };
            let len = rows.len() * self.params.heads.heads * self.params.heads.head_dim;
            let d_qkv_len = if want_qkv { qkv.len() } else { 0 };
            workspace::with_buffer(2 * len + d_qkv_len, |buffer| {
                let (token_out, rest) = buffer.split_at_mut(len);
                let (token_d_out, token_d_qkv) = rest.split_at_mut(len);
                shared_rows::gather_rows(rows, out, token_out);
                shared_rows::gather_first_rows(rows, d_out, token_d_out);
                backward(token_out, token_d_out, want_qkv.then_some(&mut *token_d_qkv));
                if let Some(d_qkv) = &mut d_qkv {
                    shared_rows::scatter_add_rows(rows, token_d_qkv, d_qkv);
                }
            });
        });
        let d_qkv = d_qkv.map(|d_qkv| from_vec_like(d_qkv, &self.qkv));
        let d_prompt = prompt.zip(d_prompt).map(|(prompt, [key, value, gate])| {
            let key = from_vec_like(key, &prompt[0]);
            let value = from_vec_like(value, &prompt[1]);
            [key, value, from_vec_like(gate, &prompt[2])]
        });
        (d_qkv, d_prompt)
    }
}
